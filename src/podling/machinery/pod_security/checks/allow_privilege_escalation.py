"""Restricted: containers can't gain more privileges than their parent process has."""

from __future__ import annotations

from podling.api import core_v1, meta_v1
from podling.machinery.pod_security.check import (
    RESTRICTED,
    Check,
    Forbidden,
    Revision,
    containers,
    named,
    on_windows,
)


def _v1_8(meta: meta_v1.ObjectMeta, spec: core_v1.PodSpec) -> Forbidden | None:
    bad = [
        c.name
        for c in containers(spec)
        if c.security_context is None or c.security_context.allow_privilege_escalation is not False
    ]
    if not bad:
        return None
    detail = f"{named('container', bad)} must set securityContext.allowPrivilegeEscalation=false"
    return Forbidden("allowPrivilegeEscalation != false", detail)


def _v1_25(meta: meta_v1.ObjectMeta, spec: core_v1.PodSpec) -> Forbidden | None:
    return None if on_windows(spec) else _v1_8(meta, spec)


CHECK = Check("allowPrivilegeEscalation", RESTRICTED, (Revision(8, _v1_8), Revision(25, _v1_25)))
