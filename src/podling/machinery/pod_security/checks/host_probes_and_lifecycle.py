"""Baseline: probes and hooks go to the pod itself; by a `host` the node agent could be sent elsewhere."""

from __future__ import annotations

from podling.api import core_v1, meta_v1
from podling.machinery.pod_security.check import (
    BASELINE,
    AnyContainer,
    Check,
    Forbidden,
    Revision,
    containers,
    named,
    plural,
    quoted,
)


def _hosts(container: AnyContainer) -> set[str]:
    """All hosts that probes and hooks of a container name."""
    lifecycle = container.lifecycle or core_v1.Lifecycle()
    handlers: list[core_v1.Probe | core_v1.LifecycleHandler | None] = [
        container.liveness_probe,
        container.readiness_probe,
        container.startup_probe,
        lifecycle.post_start,
        lifecycle.pre_stop,
    ]
    actions = [action for h in handlers if h is not None for action in (h.http_get, h.tcp_socket)]
    return {action.host for action in actions if action is not None and action.host}


def _v1_34(meta: meta_v1.ObjectMeta, spec: core_v1.PodSpec) -> Forbidden | None:
    bad = {container.name: hosts for container in containers(spec) if (hosts := _hosts(container))}
    if not bad:
        return None
    every = sorted({host for hosts in bad.values() for host in hosts})
    uses = plural("uses", "use", len(bad))
    what = plural("probe or lifecycle host", "probe or lifecycle hosts", len(every))
    return Forbidden("probe or lifecycle host", f"{named('container', sorted(bad))} {uses} {what} {quoted(every)}")


CHECK = Check("hostProbesAndHostLifecycle", BASELINE, (Revision(34, _v1_34),))
