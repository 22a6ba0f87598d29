"""Baseline: no capabilities beyond those that runtimes give by default."""

from __future__ import annotations

from podling.api import core_v1, meta_v1
from podling.machinery.pod_security.check import BASELINE, Check, Forbidden, Revision, containers, named, quoted

_ALLOWED = frozenset(
    (
        "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP",
        "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
    )
)  # fmt: skip

ID = "capabilities_baseline"


def _v1_0(meta: meta_v1.ObjectMeta, spec: core_v1.PodSpec) -> Forbidden | None:
    bad: list[str] = []
    added: set[str] = set()
    for container in containers(spec):
        context = container.security_context
        capabilities = context.capabilities if context is not None else None
        more = set(capabilities.add or ()) - _ALLOWED if capabilities is not None else set()
        if more:
            bad.append(container.name)
            added |= more
    if not bad:
        return None
    detail = f"{named('container', bad)} must not include {quoted(sorted(added))} in securityContext.capabilities.add"
    return Forbidden("non-default capabilities", detail)


CHECK = Check(ID, BASELINE, (Revision(0, _v1_0),))
