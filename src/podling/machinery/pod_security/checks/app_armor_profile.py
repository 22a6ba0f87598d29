"""Baseline: the runtime's default AppArmor profile is not switched off; another one of the node may be chosen."""

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

_ALLOWED = ("RuntimeDefault", "Localhost")
_ANNOTATION = "container.apparmor.security.beta.kubernetes.io/"


def _bad_type(context: core_v1.PodSecurityContext | core_v1.SecurityContext | None) -> str | None:
    profile = context.app_armor_profile if context is not None else None
    return profile.type if profile is not None and profile.type not in _ALLOWED else None


def _allowed_annotation(value: str) -> bool:
    return not value or value == "runtime/default" or value.startswith("localhost/")


def _v1_0(meta: meta_v1.ObjectMeta, spec: core_v1.PodSpec) -> Forbidden | None:
    of_pod = _bad_type(spec.security_context)
    bad = {c.name: value for c in containers(spec) if (value := _bad_type(c.security_context)) is not None}
    values = sorted({*bad.values(), *([of_pod] if of_pod is not None else ())})
    who = [s] if (s := setters(of_pod is not None, list(bad))) else []
    annotations = sorted(
        f"{key}={quote(value)}"
        for key, value in (meta.annotations or {}).items()
        if key.startswith(_ANNOTATION) and not _allowed_annotation(value)
    )
    if annotations:
        values += annotations
        who.append(plural("annotation", "annotations", len(annotations)))
    if not who:
        return None
    reason = plural("forbidden AppArmor profile", "forbidden AppArmor profiles", len(values))
    return Forbidden(reason, f"{' and '.join(who)} must not set AppArmor profile type to {quoted(values)}")


CHECK = Check("appArmorProfile", BASELINE, (Revision(0, _v1_0),))
