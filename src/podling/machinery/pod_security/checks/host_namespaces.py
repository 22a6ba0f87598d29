"""Baseline: the node's network, processes and IPC are not shared."""

from __future__ import annotations

from podling.api import core_v1, meta_v1
from podling.machinery.pod_security.check import BASELINE, Check, Forbidden, Revision


def _v1_0(meta: meta_v1.ObjectMeta, spec: core_v1.PodSpec) -> Forbidden | None:
    fields = (("hostNetwork", spec.host_network), ("hostPID", spec.host_pid), ("hostIPC", spec.host_ipc))
    bad = [f"{name}=true" for name, value in fields if value]
    return Forbidden("host namespaces", ", ".join(bad)) if bad else None


CHECK = Check("hostNamespaces", BASELINE, (Revision(0, _v1_0),))
