"""TaintNodesByCondition: a new node takes no pods until it is found ready."""

from __future__ import annotations

from podling.api import core_v1
from podling.apiserver.admission.base import CREATE, Attributes, Plugin

NOT_READY = "node.kubernetes.io/not-ready"


class TaintNodesByCondition(Plugin):
    name = "TaintNodesByCondition"
    operations = frozenset((CREATE,))
    resources = frozenset(("nodes",))
    mutates = True

    async def mutate(self, attributes: Attributes) -> None:
        node: core_v1.Node = attributes.obj
        spec = node.spec = node.spec or core_v1.NodeSpec()
        taints = spec.taints or []
        if not any(t.key == NOT_READY and t.effect == "NoSchedule" for t in taints):
            spec.taints = [*taints, core_v1.Taint(key=NOT_READY, effect="NoSchedule")]
