"""The default plugins, in upstream's order. The order of filters decides which reason a node gives."""

from __future__ import annotations

from podling.scheduler.framework import Plugin
from podling.scheduler.plugins.image_locality import ImageLocality
from podling.scheduler.plugins.inter_pod_affinity import InterPodAffinity
from podling.scheduler.plugins.node_affinity import NodeAffinity
from podling.scheduler.plugins.node_name import NodeName
from podling.scheduler.plugins.node_ports import NodePorts
from podling.scheduler.plugins.node_resources import BalancedAllocation, NodeResourcesFit
from podling.scheduler.plugins.node_unschedulable import NodeUnschedulable
from podling.scheduler.plugins.pod_topology_spread import PodTopologySpread
from podling.scheduler.plugins.scheduling_gates import SchedulingGates
from podling.scheduler.plugins.taint_toleration import TaintToleration
from podling.scheduler.plugins.volume_binding import VolumeBinding
from podling.scheduler.plugins.volume_restrictions import VolumeRestrictions
from podling.scheduler.plugins.volume_zone import VolumeZone


def default() -> list[Plugin]:
    """One of each."""
    return [
        SchedulingGates(),
        NodeUnschedulable(),
        NodeName(),
        TaintToleration(),
        NodeAffinity(),
        NodePorts(),
        NodeResourcesFit(),
        VolumeRestrictions(),
        VolumeBinding(),
        VolumeZone(),
        PodTopologySpread(),
        InterPodAffinity(),
        BalancedAllocation(),
        ImageLocality(),
    ]
