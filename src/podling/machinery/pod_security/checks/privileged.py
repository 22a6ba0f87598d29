"""Baseline: no privileged containers."""

from __future__ import annotations

from podling.api import core_v1, meta_v1
from podling.machinery.pod_security.check import BASELINE, Check, Forbidden, Revision, containers, named


def _v1_0(meta: meta_v1.ObjectMeta, spec: core_v1.PodSpec) -> Forbidden | None:
    bad = [c.name for c in containers(spec) if c.security_context is not None and c.security_context.privileged]
    if not bad:
        return None
    return Forbidden("privileged", f"{named('container', bad)} must not set securityContext.privileged=true")


CHECK = Check("privileged", BASELINE, (Revision(0, _v1_0),))
