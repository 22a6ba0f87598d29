"""SchedulingGates: a pod with gates is not looked at."""

from __future__ import annotations

from podling.scheduler.cache import PodInfo
from podling.scheduler.framework import Plugin, Rejection


class SchedulingGates(Plugin):
    name = "SchedulingGates"

    def gate(self, info: PodInfo) -> Rejection | None:
        gates = [g.name for g in info.pod.spec.scheduling_gates or ()]
        if not gates:
            return None
        return Rejection((f"waiting for scheduling gates: [{' '.join(gates)}]",), resolvable=False)
