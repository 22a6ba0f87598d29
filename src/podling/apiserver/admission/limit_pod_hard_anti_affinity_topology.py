"""LimitPodHardAntiAffinityTopology: a pod may demand not to share a node, but not a zone or a region, with others."""

from __future__ import annotations

from podling.api import core_v1, errors
from podling.apiserver.admission.base import CREATE, UPDATE, Attributes, Plugin

_HOSTNAME = "kubernetes.io/hostname"


class LimitPodHardAntiAffinityTopology(Plugin):
    name = "LimitPodHardAntiAffinityTopology"
    operations = frozenset((CREATE, UPDATE))
    resources = frozenset(("pods",))
    validates = True

    async def validate(self, attributes: Attributes) -> None:
        pod: core_v1.Pod = attributes.obj
        affinity = pod.spec.affinity if pod.spec is not None else None
        anti = affinity.pod_anti_affinity if affinity is not None else None
        for term in (anti.required_during_scheduling_ignored_during_execution if anti is not None else None) or ():
            if term.topology_key != _HOSTNAME:
                why = "affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey"
                text = f"{why} {term.topology_key} but only key {_HOSTNAME} is allowed"
                raise errors.forbidden("pods", "", pod.metadata.name or "", text)
