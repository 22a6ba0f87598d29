"""Baseline: the runtime's seccomp filter is not switched off; another one of the node may be chosen."""

from __future__ import annotations

from podling.api import core_v1, meta_v1
from podling.machinery.pod_security.check import (
    BASELINE,
    Check,
    Forbidden,
    Revision,
    containers,
    plural,
    quoted,
    setters,
)
from podling.machinery.validation import quote

ID = "seccompProfile_baseline"
_OF_POD = "seccomp.security.alpha.kubernetes.io/pod"
_OF_CONTAINER = "container.seccomp.security.alpha.kubernetes.io/"


def _v1_0(meta: meta_v1.ObjectMeta, spec: core_v1.PodSpec) -> Forbidden | None:
    """By annotations: there were no fields yet."""
    annotations = meta.annotations or {}
    keys = [_OF_POD, *(_OF_CONTAINER + c.name for c in containers(spec))]
    bad = sorted({f"{k}={quote(annotations[k])}" for k in keys if k in annotations and not _allowed(annotations[k])})
    if not bad:
        return None
    return Forbidden("seccompProfile", f"forbidden {plural('annotation', 'annotations', len(bad))} {', '.join(bad)}")


def _allowed(value: str) -> bool:
    return value in ("runtime/default", "docker/default") or value.startswith("localhost/")


def profile(context: core_v1.PodSecurityContext | core_v1.SecurityContext | None) -> str | None:
    """The type of the profile that is asked for, if any."""
    found = context.seccomp_profile if context is not None else None
    return found.type if found is not None else None


def forbidden_types(spec: core_v1.PodSpec) -> Forbidden | None:
    """What asks for no filter at all."""
    allowed = (None, "RuntimeDefault", "Localhost")
    of_pod = profile(spec.security_context)
    bad = {c.name: value for c in containers(spec) if (value := profile(c.security_context)) not in allowed}
    who = setters(of_pod not in allowed, list(bad))
    if not who:
        return None
    types = {str(value) for value in (*bad.values(), of_pod) if value not in allowed}
    detail = f"{who} must not set securityContext.seccompProfile.type to {quoted(sorted(types))}"
    return Forbidden("seccompProfile", detail)


def _v1_19(meta: meta_v1.ObjectMeta, spec: core_v1.PodSpec) -> Forbidden | None:
    return forbidden_types(spec)


CHECK = Check(ID, BASELINE, (Revision(0, _v1_0), Revision(19, _v1_19)))
