"""PodTopologyLabels: a pod shows the zone and the region of its node as its own labels (KEP-4742)."""

from __future__ import annotations

from podling.apiserver.admission.base import CREATE, Attributes, Plugin

LABELS = ("topology.kubernetes.io/zone", "topology.kubernetes.io/region")


class PodTopologyLabels(Plugin):
    name = "PodTopologyLabels"
    operations = frozenset((CREATE,))
    resources = frozenset(("pods",))
    subresources = frozenset(("", "binding"))
    mutates = True

    async def mutate(self, attributes: Attributes) -> None:
        obj = attributes.obj
        if attributes.subresource:
            # The labels of a binding become those of its pod.
            node = obj.target.name if obj.target.kind in (None, "", "Node") else None
        else:
            node = obj.spec.node_name if obj.spec is not None else None
        found = self.app.get("nodes", "", node) if node else None
        labels = (found.metadata.labels or {}) if found is not None else {}
        wanted = {key: labels[key] for key in LABELS if key in labels}
        if wanted:
            obj.metadata.labels = {**wanted, **(obj.metadata.labels or {})}
