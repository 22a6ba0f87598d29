"""Baseline: what /proc tells of the node stays masked, but for pods in a user namespace."""

from __future__ import annotations

from podling.api import core_v1, meta_v1
from podling.machinery.pod_security.check import (
    BASELINE,
    Check,
    Forbidden,
    Revision,
    containers,
    in_user_namespace,
    named,
    quoted,
)

ID = "procMount"


def v1_0(meta: meta_v1.ObjectMeta, spec: core_v1.PodSpec) -> Forbidden | None:
    """Masked in all pods."""
    mounts = {c.name: c.security_context.proc_mount for c in containers(spec) if c.security_context is not None}
    bad = {name: mount for name, mount in mounts.items() if mount is not None and mount != "Default"}
    if not bad:
        return None
    what = quoted(sorted(set(bad.values())))
    return Forbidden("procMount", f"{named('container', list(bad))} must not set securityContext.procMount to {what}")


def _v1_35(meta: meta_v1.ObjectMeta, spec: core_v1.PodSpec) -> Forbidden | None:
    return None if in_user_namespace(spec) else v1_0(meta, spec)


CHECK = Check(ID, BASELINE, (Revision(0, v1_0), Revision(35, _v1_35)))
