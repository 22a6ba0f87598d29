"""What the controller manager counts of its controllers, and what upstream calls their work queues."""

from __future__ import annotations

from podling.metrics import PROCESS, exponential

RUNNING = PROCESS.gauge(
    "running_managed_controllers",
    "[BETA] Indicates where instances of a controller are currently running",
    ("manager", "name"),
)
MANAGER = "kube-controller-manager"

CRONJOB_SKEW = PROCESS.histogram(
    "cronjob_controller_job_creation_skew_duration_seconds",
    "[STABLE] Time between when a cronjob is scheduled to be run, and when the corresponding job is created",
    (),
    exponential(1, 2, 10),
)
EVICTIONS = PROCESS.counter(
    "taint_eviction_controller_pod_deletions_total",
    "[ALPHA] Total number of Pods deleted by TaintEvictionController since its start.",
)
EVICTION_DURATIONS = PROCESS.histogram(
    "taint_eviction_controller_pod_deletion_duration_seconds",
    "[ALPHA] Latency, in seconds, between the time when a taint effect has been activated for the Pod and its deletion "
    "via TaintEvictionController.",
    (),
    (0.005, 0.025, 0.1, 0.5, 1, 2.5, 10, 30, 60, 120, 180, 240),
)
TTL_DURATIONS = PROCESS.histogram(
    "ttl_after_finished_controller_job_deletion_duration_seconds",
    "[ALPHA] The time it took to delete the job since it became eligible for deletion",
    (),
    exponential(0.1, 2, 14),
)
FORCED_DELETIONS = PROCESS.counter(
    "pod_gc_collector_force_delete_pods_total",
    "[ALPHA] Number of pods that are being forcefully deleted since the Pod GC Controller started.",
    ("namespace", "reason"),
)
FORCED_DELETION_ERRORS = PROCESS.counter(
    "pod_gc_collector_force_delete_pod_errors_total",
    "[ALPHA] Number of errors encountered when forcefully deleting the pods since the Pod GC Controller started.",
    ("namespace", "reason"),
)

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
    "horizontal-pod-autoscaler-controller": "horizontalpodautoscaler",
    "ipallocator-repair-controller": "ipaddresses",
    "job-controller": "job",
    "namespace-controller": "namespace",
    "node-ipam-controller": "cidrallocator_node",
    "node-lifecycle-controller": "node_lifecycle_controller",
    "ephemeral-volume-controller": "ephemeral_volume",
    "local-path-provisioner": "local-path-provisioner",
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
