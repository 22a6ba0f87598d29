"""What the controller manager counts of its controllers, and what upstream calls their work queues."""

from __future__ import annotations

from podling.metrics import PROCESS

RUNNING = PROCESS.gauge(
    "running_managed_controllers",
    "[BETA] Indicates where instances of a controller are currently running",
    ("manager", "name"),
)
MANAGER = "kube-controller-manager"

#: The label `name` of workqueue_*, by controller. Where upstream has several queues, it is that of the main one.
QUEUES = {
    "bootstrap-signer-controller": "bootstrap_signer_queue",
    "certificatesigningrequest-approving-controller": "certificate",
    "certificatesigningrequest-signing-controller": "certificate",
    "clusterrole-aggregation-controller": "ClusterRoleAggregator",
    "cronjob-controller": "cronjob",
    "daemonset-controller": "daemonset",
    "deployment-controller": "deployment",
    "disruption-controller": "disruption",
    "endpoints-controller": "endpoint",
    "endpointslice-controller": "endpoint_slice",
    "endpointslice-mirroring-controller": "endpoint_slice_mirroring",
    "garbage-collector-controller": "garbage_collector_attempt_to_delete",
    "ipallocator-repair-controller": "ipaddresses",
    "job-controller": "job",
    "namespace-controller": "namespace",
    "node-ipam-controller": "cidrallocator_node",
    "node-lifecycle-controller": "node_lifecycle_controller",
    "persistentvolume-binder-controller": "claims",
    "persistentvolume-protection-controller": "pvprotection",
    "persistentvolumeclaim-protection-controller": "pvcprotection",
    "pod-garbage-collector-controller": "orphaned_pods_nodes",
    "replicaset-controller": "replicaset",
    "replicationcontroller-controller": "replicationmanager",
    "resourcequota-controller": "resourcequota_primary",
    "root-ca-certificate-publisher-controller": "root_ca_cert_publisher",
    "service-cidr-controller": "servicecidrs",
    "serviceaccount-controller": "serviceaccount",
    "serviceaccount-token-controller": "serviceaccount_tokens_secret",
    "statefulset-controller": "statefulset",
    "taint-eviction-controller": "noexec_taint_pod",
    "token-cleaner-controller": "token_cleaner",
    "ttl-after-finished-controller": "ttl_jobs_to_delete",
    "volumeattributesclass-protection-controller": "vacprotection",
}


def queue_name(controller: str) -> str:
    """A controller that upstream has not, or not with a queue, gives its own name."""
    return QUEUES.get(controller, controller)
