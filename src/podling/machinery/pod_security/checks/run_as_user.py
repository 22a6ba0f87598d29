"""Restricted: nobody asks to be user 0, but for pods in a user namespace."""

from __future__ import annotations

from podling.api import core_v1, meta_v1
from podling.machinery.pod_security.check import (
    RESTRICTED,
    Check,
    Forbidden,
    Revision,
    containers,
    in_user_namespace,
    setters,
)


def _v1_23(meta: meta_v1.ObjectMeta, spec: core_v1.PodSpec) -> Forbidden | None:
    of_pod = spec.security_context is not None and spec.security_context.run_as_user == 0
    bad = [c.name for c in containers(spec) if c.security_context is not None and c.security_context.run_as_user == 0]
    who = setters(of_pod, bad)
    return Forbidden("runAsUser=0", f"{who} must not set runAsUser=0") if who else None


def _v1_35(meta: meta_v1.ObjectMeta, spec: core_v1.PodSpec) -> Forbidden | None:
    return None if in_user_namespace(spec) else _v1_23(meta, spec)


CHECK = Check("runAsUser", RESTRICTED, (Revision(23, _v1_23), Revision(35, _v1_35)))
