"""Workloads that somebody might apply: all that makes pods, with templates that are odd in every allowed way."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

#: Every field that counts something is tried at its ends.
_COUNTS = st.sampled_from([0, 1, 2, 5, 2**31 - 1])
_SECONDS = st.sampled_from([0, 1, 30, 3600, 2**31 - 1])
_LONG_SECONDS = st.sampled_from([1, 30, 2**31 - 1, 2**40, 2**63 - 1])

#: A finalizer that nobody takes off.
HELD = "example.com/held"

_Oddity = Callable[[dict[str, Any]], object]


def _container(**more: Any) -> _Oddity:
    return lambda spec: spec["containers"][0].update(more)


def _spec(**more: Any) -> _Oddity:
    return lambda spec: spec.update(more)


def _probe(kind: str, **more: Any) -> _Oddity:
    return _container(**{kind: {"exec": {"command": ["false"]}, "periodSeconds": 1, **more}})


def _volume(**source: Any) -> _Oddity:
    def change(spec: dict[str, Any]) -> None:
        spec["volumes"] = [{"name": "v", **source}]
        spec["containers"][0]["volumeMounts"] = [{"name": "v", "mountPath": "/v"}]

    return change


def _init(*command: str, **more: Any) -> _Oddity:
    return _spec(initContainers=[{"name": "i", "image": "busybox", "command": list(command), **more}])


#: What is wrong with a pod, or merely rare, by where somebody finds out: the node, the scheduler, the server, itself.
ODDITIES: dict[str, _Oddity] = {
    "rejected by its node's labels": _spec(nodeName="node-1", nodeSelector={"a": "b"}),
    "rejected for want of cpu": lambda s: (
        s.update(nodeName="node-1"),
        s["containers"][0].update(resources={"requests": {"cpu": "1000"}}),
    ),
    "rejected for its sysctls": _spec(securityContext={"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}),
    "one port of one node": lambda s: (
        s.update(nodeName="node-2"),
        s["containers"][0].update(ports=[{"containerPort": 80, "hostPort": 80}]),
    ),
    "on no node": _spec(nodeName="nowhere"),
    "for another system": _spec(os={"name": "windows"}),
    "fits nowhere": _container(resources={"requests": {"memory": "8Ei"}}),
    "selects nothing": _spec(nodeSelector={"a": "b"}),
    "gated": _spec(schedulingGates=[{"name": "example.com/gate"}]),
    "of an unknown scheduler": _spec(schedulerName="nobody"),
    "away from itself": _spec(
        affinity={
            "podAntiAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": [
                    {"labelSelector": {"matchLabels": {"app": "x"}}, "topologyKey": "kubernetes.io/hostname"}
                ]
            }
        }
    ),
    "of an unknown account": _spec(serviceAccountName="nobody"),
    "of an unknown class": _spec(runtimeClassName="nothing"),
    "of an unknown priority": _spec(priorityClassName="nothing"),
    "without its ConfigMap": _volume(configMap={"name": "nothing"}),
    "without its claim": _volume(persistentVolumeClaim={"claimName": "nothing"}),
    "with a claim of its own": _volume(
        ephemeral={
            "volumeClaimTemplate": {
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
            }
        }
    ),
    "without its environment": _container(envFrom=[{"secretRef": {"name": "nothing"}}]),
    "without an image": _container(image="localhost/nothing:1", imagePullPolicy="Never"),
    "of an invalid image": _container(image="A:b:c"),
    "fails at once": _container(command=["false"]),
    "ends at once": _container(command=["true"]),
    "ends after a while": _container(command=["sleep", "70"]),
    "is not found": _container(command=["/nothing"]),
    "never alive": _probe("livenessProbe"),
    "never ready": _probe("readinessProbe"),
    "never started": _probe("startupProbe", failureThreshold=2),
    "its hook fails": _container(lifecycle={"postStart": {"exec": {"command": ["false"]}}}),
    "its first container fails": _init("false"),
    "its first container never ends": _init("sleep", "100000"),
    "its sidecar fails": _init("false", restartPolicy="Always"),
    "never root": _spec(securityContext={"runAsNonRoot": True, "runAsUser": 0}),
    "a gate of readiness": _spec(readinessGates=[{"conditionType": "example.com/gate"}]),
    "on the node's network": _spec(hostNetwork=True),
    "with no grace": _spec(terminationGracePeriodSeconds=0),
    "tolerates all": _spec(tolerations=[{"operator": "Exists"}]),
}


@st.composite
def pod_specs(draw: st.DrawFn, restart: str) -> dict[str, Any]:
    """The spec of a pod that is odd in up to two ways."""
    spec: dict[str, Any] = {"containers": [{"name": "c", "image": "busybox"}], "restartPolicy": restart}
    for name in draw(st.lists(st.sampled_from(sorted(ODDITIES)), max_size=2, unique=True)):
        ODDITIES[name](spec)
    return spec


@st.composite
def _set(draw: st.DrawFn, kind: str) -> dict[str, Any]:
    """The spec of what keeps a number of pods."""
    template = {"metadata": {"labels": {"app": "x"}}, "spec": draw(pod_specs("Always"))}
    selector = {"app": "x"} if kind == "ReplicationController" else {"matchLabels": {"app": "x"}}
    spec: dict[str, Any] = {"selector": selector, "template": template}
    if kind != "DaemonSet":
        spec["replicas"] = draw(st.integers(0, 3))
    if draw(st.booleans()):
        spec["minReadySeconds"] = draw(_SECONDS)
    if kind == "Deployment":
        spec["progressDeadlineSeconds"] = 2**31 - 1
        spec["strategy"] = draw(st.sampled_from([{"type": "Recreate"}, {"type": "RollingUpdate"}]))
    if kind == "StatefulSet":
        spec["serviceName"] = "s"
        spec["podManagementPolicy"] = draw(st.sampled_from(["OrderedReady", "Parallel"]))
    return spec


@st.composite
def _job(draw: st.DrawFn) -> dict[str, Any]:
    restart = draw(st.sampled_from(["Never", "OnFailure"]))
    spec: dict[str, Any] = {"template": {"spec": draw(pod_specs(restart))}}
    numbers = {"completions": st.integers(0, 3), "parallelism": st.integers(0, 3), "backoffLimit": _COUNTS}
    times = {"activeDeadlineSeconds": _LONG_SECONDS, "ttlSecondsAfterFinished": _SECONDS}
    for name, values in {**numbers, **times}.items():
        if draw(st.integers(0, 2)) == 0:
            spec[name] = draw(values)
    if "completions" in spec and draw(st.booleans()):
        spec["completionMode"] = "Indexed"
    if draw(st.integers(0, 4)) == 0:
        spec["suspend"] = True
    return spec


@st.composite
def _cron_job(draw: st.DrawFn) -> dict[str, Any]:
    """One that is due soon (virtual time starts at midnight), later, or never."""
    spec = {"schedule": draw(st.sampled_from(["25 * * * *", "0 0 1 1 *", "0 0 31 2 *"]))}
    spec["jobTemplate"] = {"spec": draw(_job())}
    spec["concurrencyPolicy"] = draw(st.sampled_from(["Allow", "Forbid", "Replace"]))
    if draw(st.booleans()):
        spec["startingDeadlineSeconds"] = draw(_LONG_SECONDS)
    return spec


_KINDS: dict[str, tuple[str, st.SearchStrategy[dict[str, Any]]]] = {
    "Pod": ("v1", st.sampled_from(["Always", "OnFailure", "Never"]).flatmap(pod_specs)),
    "ReplicationController": ("v1", _set("ReplicationController")),
    "ReplicaSet": ("apps/v1", _set("ReplicaSet")),
    "Deployment": ("apps/v1", _set("Deployment")),
    "StatefulSet": ("apps/v1", _set("StatefulSet")),
    "DaemonSet": ("apps/v1", _set("DaemonSet")),
    "Job": ("batch/v1", _job()),
    "CronJob": ("batch/v1", _cron_job()),
}
_OWNERS = st.sampled_from(
    [
        {"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "u1"},
        {"apiVersion": "example.com/v1", "kind": "Unknown", "name": "x", "uid": "u2"},
        {"apiVersion": "10.0.0.0/8", "kind": "[", "name": "a", "uid": "http"},
        {"apiVersion": "v1", "kind": "Node", "name": "node-1", "uid": "u3", "blockOwnerDeletion": True},
    ]
)


@st.composite
def workloads(draw: st.DrawFn) -> dict[str, Any]:
    """One workload, called `x` and a number."""
    kind = draw(st.sampled_from(sorted(_KINDS)))
    version, specs = _KINDS[kind]
    meta: dict[str, Any] = {"name": f"x{draw(st.integers(1, 3))}", "labels": {"app": draw(st.sampled_from("xy"))}}
    if draw(st.integers(0, 9)) == 0:
        meta["ownerReferences"] = [draw(_OWNERS)]
    if draw(st.integers(0, 9)) == 0:
        meta["finalizers"] = [HELD]
    # Templates of oddities are shared by all that use them.
    return {"apiVersion": version, "kind": kind, "metadata": meta, "spec": copy.deepcopy(draw(specs))}
