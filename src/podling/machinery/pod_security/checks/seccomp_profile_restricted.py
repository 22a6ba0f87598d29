"""Restricted: every container asks for a seccomp filter, itself or by its pod."""

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
from podling.machinery.pod_security.checks import seccomp_profile_baseline
from podling.machinery.pod_security.checks.seccomp_profile_baseline import forbidden_types, profile


def _v1_19(meta: meta_v1.ObjectMeta, spec: core_v1.PodSpec) -> Forbidden | None:
    found = forbidden_types(spec)
    if found is not None or profile(spec.security_context) is not None:
        return found
    silent = [c.name for c in containers(spec) if profile(c.security_context) is None]
    if not silent:
        return None
    who = named("container", silent)
    detail = f'pod or {who} must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost"'
    return Forbidden("seccompProfile", detail)


def _v1_25(meta: meta_v1.ObjectMeta, spec: core_v1.PodSpec) -> Forbidden | None:
    return None if on_windows(spec) else _v1_19(meta, spec)


_INSTEAD = (seccomp_profile_baseline.ID,)
CHECK = Check("seccompProfile_restricted", RESTRICTED, (Revision(19, _v1_19, _INSTEAD), Revision(25, _v1_25, _INSTEAD)))
