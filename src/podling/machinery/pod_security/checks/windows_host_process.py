"""Baseline: no processes of the node on Windows."""

from __future__ import annotations

from podling.api import core_v1, meta_v1
from podling.machinery.pod_security.check import BASELINE, Check, Forbidden, Revision, containers, setters


def _asks(context: core_v1.PodSecurityContext | core_v1.SecurityContext | None) -> bool:
    options = context.windows_options if context is not None else None
    return options is not None and bool(options.host_process)


def _v1_0(meta: meta_v1.ObjectMeta, spec: core_v1.PodSpec) -> Forbidden | None:
    who = setters(_asks(spec.security_context), [c.name for c in containers(spec) if _asks(c.security_context)])
    if not who:
        return None
    return Forbidden("hostProcess", f"{who} must not set securityContext.windowsOptions.hostProcess=true")


CHECK = Check("windowsHostProcess", BASELINE, (Revision(0, _v1_0),))
