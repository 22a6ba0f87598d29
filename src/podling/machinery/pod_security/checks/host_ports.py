"""Baseline: no ports of the node are taken."""

from __future__ import annotations

from podling.api import core_v1, meta_v1
from podling.machinery.pod_security.check import BASELINE, Check, Forbidden, Revision, containers, named, plural


def _v1_0(meta: meta_v1.ObjectMeta, spec: core_v1.PodSpec) -> Forbidden | None:
    bad: list[str] = []
    ports: set[str] = set()
    for container in containers(spec):
        taken = {str(port.host_port) for port in container.ports or () if port.host_port}
        if taken:
            bad.append(container.name)
            ports |= taken
    if not bad:
        return None
    uses, what = plural("uses", "use", len(bad)), plural("hostPort", "hostPorts", len(ports))
    return Forbidden("hostPort", f"{named('container', bad)} {uses} {what} {', '.join(sorted(ports))}")


CHECK = Check("hostPorts", BASELINE, (Revision(0, _v1_0),))
