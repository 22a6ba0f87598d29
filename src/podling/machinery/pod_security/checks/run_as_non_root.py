"""Restricted: containers promise not to run as root, but for pods in a user namespace."""

from __future__ import annotations

from podling.api import core_v1, meta_v1
from podling.machinery.pod_security.check import (
    RESTRICTED,
    Check,
    Forbidden,
    Revision,
    containers,
    in_user_namespace,
    named,
    setters,
)

_REASON = "runAsNonRoot != true"


def _v1_0(meta: meta_v1.ObjectMeta, spec: core_v1.PodSpec) -> Forbidden | None:
    of_pod = spec.security_context.run_as_non_root if spec.security_context is not None else None
    said = [
        (c.name, c.security_context.run_as_non_root if c.security_context is not None else None)
        for c in containers(spec)
    ]
    who = setters(of_pod is False, [name for name, value in said if value is False])
    if who:
        return Forbidden(_REASON, f"{who} must not set securityContext.runAsNonRoot=false")
    silent = [name for name, value in said if value is None] if not of_pod else []
    if silent:
        detail = f"pod or {named('container', silent)} must set securityContext.runAsNonRoot=true"
        return Forbidden(_REASON, detail)
    return None


def _v1_35(meta: meta_v1.ObjectMeta, spec: core_v1.PodSpec) -> Forbidden | None:
    return None if in_user_namespace(spec) else _v1_0(meta, spec)


CHECK = Check("runAsNonRoot", RESTRICTED, (Revision(0, _v1_0), Revision(35, _v1_35)))
