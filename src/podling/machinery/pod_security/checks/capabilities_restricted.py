"""Restricted: all capabilities are dropped; only NET_BIND_SERVICE may be added again."""

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
    quoted,
)
from podling.machinery.pod_security.checks import capabilities_baseline


def _v1_22(meta: meta_v1.ObjectMeta, spec: core_v1.PodSpec) -> Forbidden | None:
    keeping: list[str] = []
    adding: list[str] = []
    added: set[str] = set()
    for container in containers(spec):
        context = container.security_context
        capabilities = (context.capabilities if context is not None else None) or core_v1.Capabilities()
        if "ALL" not in (capabilities.drop or ()):
            keeping.append(container.name)
        more = set(capabilities.add or ()) - {"NET_BIND_SERVICE"}
        if more:
            adding.append(container.name)
            added |= more
    details = []
    if keeping:
        details.append(f'{named("container", keeping)} must set securityContext.capabilities.drop=["ALL"]')
    if adding:
        what = quoted(sorted(added))
        details.append(f"{named('container', adding)} must not include {what} in securityContext.capabilities.add")
    return Forbidden("unrestricted capabilities", "; ".join(details)) if details else None


def _v1_25(meta: meta_v1.ObjectMeta, spec: core_v1.PodSpec) -> Forbidden | None:
    return None if on_windows(spec) else _v1_22(meta, spec)


_INSTEAD = (capabilities_baseline.ID,)
CHECK = Check("capabilities_restricted", RESTRICTED, (Revision(22, _v1_22, _INSTEAD), Revision(25, _v1_25, _INSTEAD)))
