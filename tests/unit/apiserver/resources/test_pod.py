"""Pods: defaults, what may change, subresources, the table row."""

from typing import Any

import pytest

from apiserver.resources.make import CONTEXT, created, load, row, strategy, update_findings
from apiserver.resources.test_pod_validation import pod
from podling.api import core_v1
from podling.api.errors import StatusError
from podling.api.struct import clone, to_dict

PODS = strategy("v1", "Pod")


def test_defaults() -> None:
    obj = to_dict(created(pod(container={"livenessProbe": {"httpGet": {"port": 80}}, "ports": [{"containerPort": 1}]})))
    assert obj["status"] == {"phase": "Pending", "qosClass": "BestEffort"}
    (container,) = obj["spec"].pop("containers")
    assert obj["spec"] == {
        "dnsPolicy": "ClusterFirst",
        "enableServiceLinks": True,
        "restartPolicy": "Always",
        "schedulerName": "default-scheduler",
        "securityContext": {},
        "terminationGracePeriodSeconds": 30,
    }
    assert container == {
        "name": "a",
        "image": "nginx",
        "imagePullPolicy": "Always",
        "livenessProbe": {
            "httpGet": {"path": "/", "port": 80, "scheme": "HTTP"},
            "failureThreshold": 3,
            "periodSeconds": 10,
            "successThreshold": 1,
            "timeoutSeconds": 1,
        },
        "ports": [{"containerPort": 1, "protocol": "TCP"}],
        "resources": {},
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
    }


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("nginx", "Always"),
        ("nginx:latest", "Always"),
        ("nginx:1.27", "IfNotPresent"),
        ("localhost:5000/nginx", "Always"),
        ("localhost:5000/a/nginx:1", "IfNotPresent"),
        ("nginx@sha256:abc", "IfNotPresent"),
        ("NGINX", "IfNotPresent"),
    ],
)
def test_default_pull_policy(image: str, policy: str) -> None:
    assert created(pod(container={"image": image})).spec.containers[0].image_pull_policy == policy


def test_requests_default_to_limits() -> None:
    obj = created(pod(container={"resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}))
    assert obj.spec.containers[0].resources.requests == {"cpu": "1", "memory": "1Gi"}
    assert obj.status.qos_class == "Guaranteed"


@pytest.mark.parametrize(
    ("resources", "qos"),
    [
        ({}, "BestEffort"),
        ({"requests": {"cpu": "1"}}, "Burstable"),
        ({"limits": {"cpu": "1"}}, "Burstable"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m", "memory": "1Gi"}}, "Burstable"),
        ({"requests": {"example.com/x": "1"}, "limits": {"example.com/x": "1"}}, "BestEffort"),
    ],
)
def test_qos_class(resources: dict[str, Any], qos: str) -> None:
    assert created(pod(container={"resources": resources})).status.qos_class == qos


def test_pod_level_resources_follow_from_limits() -> None:
    spec = {"resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}
    obj = created(pod(spec, {"resources": {"requests": {"cpu": "250m"}}}))
    assert obj.spec.resources.requests == {"cpu": "250m", "memory": "1Gi"}


def test_gated_pods_say_so() -> None:
    obj = created(pod({"schedulingGates": [{"name": "example.com/g"}]}))
    assert [(c.type, c.status, c.reason) for c in obj.status.conditions] == [
        ("PodScheduled", "False", "SchedulingGated")
    ]


def test_match_label_keys_become_expressions() -> None:
    term = {"topologyKey": "zone", "labelSelector": {}, "matchLabelKeys": ["v"], "mismatchLabelKeys": ["t"]}
    affinity = {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    obj = created(pod({"affinity": affinity}, labels={"v": "1", "t": "x"}))
    (found,) = obj.spec.affinity.pod_affinity.required_during_scheduling_ignored_during_execution
    assert [(e.key, e.operator, e.values) for e in found.label_selector.match_expressions] == [
        ("v", "In", ["1"]),
        ("t", "NotIn", ["x"]),
    ]


def test_defaults_are_idempotent() -> None:
    spec = {"volumes": [{"name": "v"}, {"name": "s", "secret": {"secretName": "x"}}]}
    obj = created(pod(spec, {"resources": {"limits": {"cpu": "1"}}}))
    once = to_dict(obj)
    PODS.default(obj)
    assert to_dict(obj) == once


# -- updates ----------------------------------------------------------------------------------------------------------

FORBIDDEN = (
    "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"
    "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing "
    "tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n"
)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"activeDeadlineSeconds": 5}),
        ({"activeDeadlineSeconds": 5}, {"activeDeadlineSeconds": 4}),
        ({}, {"tolerations": [{"key": "a", "operator": "Exists"}]}),
        ({"schedulingGates": [{"name": "g"}]}, {}),
        ({"schedulingGates": [{"name": "g"}]}, {"schedulingGates": [{"name": "g"}], "nodeSelector": {"a": "b"}}),
        ({"terminationGracePeriodSeconds": -1}, {"terminationGracePeriodSeconds": 1}),
    ],
)
def test_what_may_change(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert update_findings(pod(before), pod(after)) == []


def test_images_may_change() -> None:
    old, new = pod(container={"imagePullPolicy": "Never"}), pod(container={"imagePullPolicy": "Never", "image": "x:2"})
    assert update_findings(old, new) == []


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({}, {"hostname": "x"}, [FORBIDDEN + '+ hostname: "x"']),
        ({}, {"nodeName": "n"}, [FORBIDDEN + '+ nodeName: "n"']),
        (
            {"activeDeadlineSeconds": 5},
            {},
            ["spec.activeDeadlineSeconds: Invalid value: null: must not update from a positive integer to nil value"],
        ),
        (
            {"activeDeadlineSeconds": 5},
            {"activeDeadlineSeconds": 6},
            ["spec.activeDeadlineSeconds: Invalid value: 6: must be less than or equal to previous value"],
        ),
        (
            {"tolerations": [{"key": "a", "operator": "Exists"}]},
            {},
            ["spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"],
        ),
        (
            {},
            {"schedulingGates": [{"name": "g"}]},
            ["spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'g'"],
        ),
        (
            {"containers": [{"name": "a", "image": "x"}]},
            {"containers": [{"name": "a", "image": "x"}, {"name": "b", "image": "x"}]},
            ["spec.containers: Forbidden: pod updates may not add or remove containers"],
        ),
        (
            {"schedulingGates": [{"name": "g"}], "nodeSelector": {"a": "b"}},
            {"schedulingGates": [{"name": "g"}], "nodeSelector": {"c": "d"}},
            [
                'spec.nodeSelector: Invalid value: {"c":"d"}: '
                "only additions to spec.nodeSelector are allowed (no mutations or deletions)"
            ],
        ),
    ],
)
def test_what_may_not_change(before: dict[str, Any], after: dict[str, Any], expected: list[str]) -> None:
    assert update_findings(pod(before), pod(after)) == expected


def test_no_pod_becomes_a_mirror() -> None:
    mirror = {"annotations": {"kubernetes.io/config.mirror": "x"}}
    (found,) = update_findings(pod({"nodeName": "n"}), pod({"nodeName": "n"}, **mirror))
    assert found == "metadata.annotations[kubernetes.io/config.mirror]: Forbidden: may not add mirror pod annotation"


# -- subresources -----------------------------------------------------------------------------------------------------


def test_ephemeral_containers_are_only_added() -> None:
    old = created(pod())
    new = clone(old)
    new.spec.hostname = "x"
    new.spec.ephemeral_containers = [core_v1.EphemeralContainer(name="debug", image="busybox", ports=[])]
    PODS.default(new)
    PODS.prepare_ephemeral_containers(new, old, CONTEXT)  # type: ignore[attr-defined]
    assert new.spec.hostname is None
    validate = PODS.validate_ephemeral_containers  # type: ignore[attr-defined]
    assert validate(new, old) == []
    assert [str(f) for f in validate(old, new)] == [
        'spec.ephemeralContainers: Forbidden: existing ephemeral containers "debug" may not be removed\n'
    ]
    changed = clone(new)
    changed.spec.ephemeral_containers[0].command = ["x"]
    (finding,) = validate(changed, new)
    assert finding.body.startswith('Forbidden: existing ephemeral containers "debug" may not be changed\n')


@pytest.mark.parametrize(
    ("container", "expected"),
    [
        ({"name": "a", "image": "x"}, ['spec.ephemeralContainers[0].name: Duplicate value: "a"']),
        (
            {"name": "e", "image": "x", "targetContainerName": "z"},
            ['spec.ephemeralContainers[0].targetContainerName: Not found: "z"'],
        ),
        (
            {"name": "e", "image": "x", "ports": [{"containerPort": 1}], "lifecycle": {}},
            [
                "spec.ephemeralContainers[0].ports: Forbidden: cannot be set for an Ephemeral Container",
                "spec.ephemeralContainers[0].lifecycle: Forbidden: cannot be set for an Ephemeral Container",
            ],
        ),
    ],
)
def test_ephemeral_container_rules(container: dict[str, Any], expected: list[str]) -> None:
    old = created(pod())
    _, new = load(pod({"ephemeralContainers": [container]}))
    PODS.default(new)
    assert [str(f) for f in PODS.validate_ephemeral_containers(new, old)] == expected  # type: ignore[attr-defined]


def resize(old: dict[str, Any], new: dict[str, Any], policy: list[dict[str, str]] | None = None) -> list[str]:
    before = created(pod(container={"resources": old, "resizePolicy": policy}))
    _, after = load(pod({"hostname": "x"}, {"resources": new, "resizePolicy": policy}))
    PODS.default(after)
    PODS.prepare_resize(after, before, CONTEXT)  # type: ignore[attr-defined]
    assert after.spec.hostname is None
    return [str(f) for f in PODS.validate_resize(after, before)]  # type: ignore[attr-defined]


ONE, TWO = ({"cpu": n, "memory": f"{n}Gi"} for n in ("1", "2"))


def test_resize() -> None:
    assert resize({"requests": ONE}, {"requests": TWO}) == []
    assert resize({"limits": TWO, "requests": ONE}, {"limits": TWO, "requests": {**ONE, "cpu": "2"}}) == []
    assert resize({"requests": ONE}, {"requests": {"cpu": "1"}}) == [
        "spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed"
    ]
    assert resize({"limits": ONE, "requests": ONE}, {"limits": TWO, "requests": ONE}) == [
        'spec: Invalid value: "Guaranteed": Pod QOS Class may not change as a result of resizing'
    ]
    assert resize({"requests": ONE}, {"requests": {**ONE, "ephemeral-storage": "1Gi"}}) == [
        "spec: Forbidden: only cpu and memory resources are mutable"
    ]


def test_binding() -> None:
    obj = created(pod())
    binding = core_v1.Binding(target=core_v1.ObjectReference(kind="Node", name="n1"))
    assert PODS.validate_binding(binding) == []  # type: ignore[attr-defined]
    PODS.bind(obj, binding, CONTEXT)  # type: ignore[attr-defined]
    assert obj.spec.node_name == "n1"
    (condition,) = obj.status.conditions
    assert (condition.type, condition.status, condition.last_transition_time) == (
        "PodScheduled",
        "True",
        "2026-01-01T12:00:00Z",
    )
    with pytest.raises(StatusError) as error:
        PODS.bind(obj, binding, CONTEXT)  # type: ignore[attr-defined]
    assert str(error.value) == (
        'Operation cannot be fulfilled on pods/binding "web": pod web is already assigned to node "n1"'
    )


def test_a_binding_needs_a_node() -> None:
    binding = core_v1.Binding(target=core_v1.ObjectReference(kind="Minion"))
    assert [str(f) for f in PODS.validate_binding(binding)] == [  # type: ignore[attr-defined]
        'target.kind: Unsupported value: "Minion": supported values: "Node", "<empty>"',
        "target.name: Required value",
    ]


# -- status -----------------------------------------------------------------------------------------------------------


def status_findings(old: dict[str, Any], new: dict[str, Any], spec: dict[str, Any] | None = None) -> list[str]:
    before, after = (load({**pod(spec), "status": s})[1] for s in (old, new))
    PODS.default(before)
    PODS.default(after)
    PODS.prepare_status_update(after, before, CONTEXT)
    return [str(f) for f in PODS.validate_status_update(after, before)]


def container_status(**state: Any) -> dict[str, Any]:
    return {"containerStatuses": [{"name": "a", "state": state}]}


def test_status_updates() -> None:
    ended, running = container_status(terminated={"exitCode": 0}), container_status(running={})
    assert status_findings({"qosClass": "Burstable"}, {}) == []
    assert status_findings({"qosClass": "Burstable"}, {"qosClass": "BestEffort"}) == [
        'status.qosClass: Invalid value: "BestEffort": field is immutable'
    ]
    assert status_findings(ended, running) == []
    assert status_findings(ended, running, {"restartPolicy": "Never"}) == [
        "status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"
    ]
    failed = container_status(terminated={"exitCode": 1})
    assert status_findings(failed, running, {"restartPolicy": "OnFailure"}) == []
    assert status_findings({}, {"hostIP": "1.2.3.4", "hostIPs": [{"ip": "1.2.3.5"}]}) == [
        'status.hostIPs[0].ip: Invalid value: "1.2.3.5": must be equal to `hostIP`'
    ]
    assert status_findings({}, {"podIPs": [{"ip": "1.2.3.4"}, {"ip": "1.2.3.5"}]}) == [
        'status.podIPs: Invalid value: [{"ip":"1.2.3.4"},{"ip":"1.2.3.5"}]: '
        "may specify no more than one IP for each IP family"
    ]


_FORBIDDEN = "status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"


@pytest.mark.parametrize(
    ("policy", "exit_code", "own", "allowed"),
    [
        ("Never", 3, {}, False),
        ("OnFailure", 3, {}, True),
        ("OnFailure", 0, {}, False),
        ("Never", 3, {"restartPolicy": "OnFailure"}, True),
        ("Never", 0, {"restartPolicy": "OnFailure"}, False),
        ("OnFailure", 3, {"restartPolicy": "Never"}, False),
        ("Never", 3, {"restartPolicy": "Never", "restartPolicyRules": ["Restart", 3]}, True),
        ("Never", 4, {"restartPolicy": "Never", "restartPolicyRules": ["Restart", 3]}, False),
        ("Never", 4, {"restartPolicy": "Never", "restartPolicyRules": ["RestartAllContainers", 3]}, True),
    ],
)
def test_what_ended_starts_again_where_a_policy_or_rule_says_so(
    policy: str, exit_code: int, own: dict[str, Any], allowed: bool
) -> None:
    if "restartPolicyRules" in own:
        action, code = own["restartPolicyRules"]
        own = {**own, "restartPolicyRules": [{"action": action, "exitCodes": {"operator": "In", "values": [code]}}]}
    spec = {"restartPolicy": policy, "containers": [{"name": "a", "image": "i", **own}]}
    before, after = container_status(terminated={"exitCode": exit_code}), container_status(running={})
    assert status_findings(before, after, spec) == ([] if allowed else [_FORBIDDEN])


def test_a_rule_for_all_containers_also_restarts_those_that_never_are() -> None:
    rule = {"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [42]}}
    trigger = {"name": "b", "image": "i", "restartPolicy": "Never", "restartPolicyRules": [rule]}
    spec = {
        "restartPolicy": "Never",
        "containers": [{"name": "a", "image": "i"}, trigger],
        "initContainers": [{"name": "a", "image": "i"}],
    }
    before, after = container_status(terminated={"exitCode": 0}), container_status(running={})
    assert status_findings(before, after, spec) == []
    init = "initContainerStatuses"
    assert status_findings({init: before["containerStatuses"]}, {init: after["containerStatuses"]}, spec) == []
    ephemeral = "ephemeralContainerStatuses"
    found = status_findings({ephemeral: before["containerStatuses"]}, {ephemeral: after["containerStatuses"]}, spec)
    assert found == [_FORBIDDEN.replace("containerStatuses", ephemeral)]


def test_observed_generations_stay() -> None:
    before, after = (
        load({**pod(), "status": {"observedGeneration": g, "conditions": [{"type": "Ready", "status": "True"}]}})[1]
        for g in (3, 0)
    )
    before.status.conditions[0].observed_generation = 2
    PODS.prepare_status_update(after, before, CONTEXT)
    assert after.status.observed_generation == 3 and after.status.conditions[0].observed_generation == 2


@pytest.mark.parametrize(
    ("spec", "phase", "requested", "expected"),
    [
        ({"nodeName": "n"}, "Running", None, 30),
        ({"nodeName": "n"}, "Running", 5, 5),
        ({"nodeName": "n"}, "Running", -5, 1),
        ({}, "Pending", None, 0),
        ({"nodeName": "n"}, "Succeeded", 7, 0),
    ],
)
def test_grace_period(spec: dict[str, Any], phase: str, requested: int | None, expected: int) -> None:
    obj = created(pod(spec))
    obj.status.phase = phase
    assert PODS.grace_period(obj, requested) == expected


# -- table ------------------------------------------------------------------------------------------------------------


def shown(status: dict[str, Any], spec: dict[str, Any] | None = None, **meta: Any) -> str:
    cells = row({**pod(spec, **meta), "status": status})
    return f"{cells['Ready']} {cells['Status']} {cells['Restarts']}"


def of(name: str = "a", ready: bool = False, restarts: int = 0, last: str = "", **state: Any) -> dict[str, Any]:
    found = {"name": name, "ready": ready, "restartCount": restarts, "state": state}
    if last:
        found["lastState"] = {"terminated": {"exitCode": 1, "finishedAt": last}}
    return found


RUNNING = {"running": {}}
INIT = {"initContainers": [{"name": "i", "image": "x"}, {"name": "j", "image": "x"}]}
SIDECAR = {"initContainers": [{"name": "s", "image": "x", "restartPolicy": "Always"}]}


@pytest.mark.parametrize(
    ("status", "spec", "meta", "expected"),
    [
        ({"phase": "Pending"}, {}, {}, "0/1 Pending 0"),
        ({"phase": "Failed", "reason": "Evicted"}, {}, {}, "0/1 Evicted 0"),
        (
            {"phase": "Pending", "containerStatuses": [of(waiting={"reason": "ContainerCreating"})]},
            {}, {}, "0/1 ContainerCreating 0",
        ),
        ({"phase": "Running", "containerStatuses": [of(ready=True, **RUNNING)]}, {}, {}, "1/1 Running 0"),
        (
            {
                "phase": "Running",
                "containerStatuses": [
                    of(restarts=3, last="2026-01-01T11:55:00Z", waiting={"reason": "CrashLoopBackOff"})
                ],
            },
            {}, {}, "0/1 CrashLoopBackOff 3 (5m ago)",
        ),
        (
            {"phase": "Succeeded", "containerStatuses": [of(terminated={"exitCode": 0, "reason": "Completed"})]},
            {}, {}, "0/1 Completed 0",
        ),
        ({"phase": "Failed", "containerStatuses": [of(terminated={"exitCode": 3})]}, {}, {}, "0/1 ExitCode:3 0"),
        (
            {"phase": "Failed", "containerStatuses": [of(terminated={"exitCode": 137, "signal": 9})]},
            {}, {}, "0/1 Signal:9 0",
        ),
        (
            {
                "phase": "Running",
                "conditions": [{"type": "Ready", "status": "True"}],
                "containerStatuses": [
                    of("a", terminated={"exitCode": 0, "reason": "Completed"}), of("b", ready=True, **RUNNING)
                ],
            },
            {"containers": [{"name": "a"}, {"name": "b"}]}, {}, "1/2 Running 0",
        ),
        (
            {
                "phase": "Running",
                "containerStatuses": [
                    of("a", terminated={"exitCode": 0, "reason": "Completed"}), of("b", ready=True, **RUNNING)
                ],
            },
            {"containers": [{"name": "a"}, {"name": "b"}]}, {}, "1/2 NotReady 0",
        ),
        (
            {"phase": "Running", "containerStatuses": [of(ready=True, **RUNNING)]},
            {}, {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "1/1 Terminating 0",
        ),
        (
            {"phase": "Running", "reason": "NodeLost"},
            {}, {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "0/1 Unknown 0",
        ),
        (
            {"phase": "Pending", "initContainerStatuses": [of("i", **RUNNING), of("j")]},
            INIT, {}, "0/1 Init:0/2 0",
        ),
        (
            {
                "phase": "Pending",
                "initContainerStatuses": [of("i", terminated={"exitCode": 0}), of("j", **RUNNING)],
            },
            INIT, {}, "0/1 Init:1/2 0",
        ),
        (
            {"phase": "Pending", "initContainerStatuses": [of("i", terminated={"exitCode": 1, "reason": "Error"})]},
            INIT, {}, "0/1 Init:Error 0",
        ),
        (
            {
                "phase": "Pending",
                "initContainerStatuses": [of("i", restarts=2, waiting={"reason": "CrashLoopBackOff"})],
            },
            INIT, {}, "0/1 Init:CrashLoopBackOff 2",
        ),
        (
            {
                "phase": "Running",
                "initContainerStatuses": [{**of("s", ready=True, **RUNNING), "started": True}],
                "containerStatuses": [of(ready=True, **RUNNING)],
            },
            SIDECAR, {}, "2/2 Running 0",
        ),
        (
            {
                "phase": "Pending",
                "conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}],
            },
            {}, {}, "0/1 SchedulingGated 0",
        ),
    ],
)  # fmt: skip
def test_status_column(status: dict[str, Any], spec: dict[str, Any], meta: dict[str, Any], expected: str) -> None:
    assert shown(status, spec, **meta) == expected


def test_wide_columns() -> None:
    status = {
        "phase": "Running",
        "podIPs": [{"ip": "10.0.0.1"}],
        "conditions": [{"type": "example.com/x", "status": "True"}],
    }
    spec = {"nodeName": "n1", "readinessGates": [{"conditionType": "example.com/x"}, {"conditionType": "y"}]}
    cells = row({**pod(spec, creationTimestamp="2026-01-01T11:00:00Z"), "status": status})
    assert (cells["Age"], cells["IP"], cells["Node"], cells["Nominated Node"], cells["Readiness Gates"]) == (
        "60m", "10.0.0.1", "n1", "<none>", "1/2",
    )  # fmt: skip


def test_selectable_fields() -> None:
    _, obj = load({**pod({"nodeName": "n1"}), "status": {"phase": "Running"}})
    fields = PODS.fields(obj)
    assert fields["spec.nodeName"] == "n1" and fields["status.phase"] == "Running"
    assert fields["spec.hostNetwork"] == "false" and set(fields) == set(PODS.selectable_fields)


def test_a_negative_grace_period_is_one_second() -> None:
    """Of a pod; a template keeps it, and is warned of."""
    assert created(pod({"terminationGracePeriodSeconds": -1})).spec.termination_grace_period_seconds == 1


@pytest.mark.parametrize(
    ("api_version", "kind", "path"),
    [
        ("v1", "PodTemplate", "template"),
        ("v1", "ReplicationController", "spec.template"),
        ("apps/v1", "ReplicaSet", "spec.template"),
        ("apps/v1", "Deployment", "spec.template"),
        ("apps/v1", "DaemonSet", "spec.template"),
        ("apps/v1", "StatefulSet", "spec.template"),
        ("batch/v1", "Job", "spec.template"),
        ("batch/v1", "CronJob", "spec.jobTemplate.spec.template"),
    ],
)
def test_templates_are_warned_of(api_version: str, kind: str, path: str) -> None:
    document: Any = {"spec": {"terminationGracePeriodSeconds": -1, "containers": [{"name": "c", "image": "i"}]}}
    for step in reversed(path.split(".")):
        document = {step: document}
    found, obj = load({"apiVersion": api_version, "kind": kind, "metadata": {"name": "t"}, **document})
    found.default(obj)
    text = "must be >= 0; negative values are invalid and will be treated as 1"
    assert found.warnings(obj, None) == [f"{path}.spec.terminationGracePeriodSeconds: {text}"]
    assert found.warnings(obj, obj) == []


def test_warnings() -> None:
    spec = {"nodeSelector": {"beta.kubernetes.io/os": "linux"}}
    container = {
        "env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}],
        "resources": {"limits": {"memory": "0.5"}},
    }
    obj = created(pod(spec, container))
    obj.metadata.name = "a.b"
    assert PODS.warnings(obj, None) == [
        "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; "
        "a DNS label is recommended: [must not contain dots]",
        'spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use "kubernetes.io/os" instead',
        'spec.containers[0].resources.limits[memory]: fractional byte value "500m" is invalid, must be an integer',
        'spec.containers[0].resources.requests[memory]: fractional byte value "500m" is invalid, must be an integer',
        'spec.containers[0].env[1]: hides previous definition of "A", which may be dropped when using apply',
    ]
