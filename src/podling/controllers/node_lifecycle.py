"""Nodes that fall silent: their conditions become Unknown, their pods not ready, and taints keep pods away.

A node's heartbeat is its Lease in kube-node-lease, or a change of its own status. Each node has one timer that fires
when its grace period would be over; nothing runs for nodes that beat. How fast NoExecute taints are put on depends on
how many nodes are lost: one every ten seconds per zone, none when most of a small zone is gone (the network is more
likely to blame than the nodes), none when no node at all is left.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

from podling import clock
from podling.api import coordination_v1, core_v1, errors, times
from podling.api.struct import clone
from podling.client.events import NORMAL, WARNING
from podling.client.informer import NODE, node_name
from podling.client.workqueue import TokenBucket
from podling.controllers import node_metrics as metrics
from podling.controllers import pods as pod_rules
from podling.controllers import taints
from podling.controllers.base import Context, Controller

LEASES = "kube-node-lease"
EXCLUDED = "node.kubernetes.io/exclude-disruption"
#: A zone is partially disrupted when more than two and at least this share of its nodes are lost.
UNHEALTHY_ZONE = 0.55
#: Zones up to this size stop evicting when partially disrupted; larger ones go on slowly.
LARGE_CLUSTER = 50
SECONDARY_RATE = 0.01

_SILENT = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")
_BY_CONDITION = {
    ("Ready", "False"): taints.NOT_READY,
    ("Ready", "Unknown"): taints.UNREACHABLE,
    ("MemoryPressure", "True"): taints.MEMORY_PRESSURE,
    ("DiskPressure", "True"): taints.DISK_PRESSURE,
    ("NetworkUnavailable", "True"): taints.NETWORK_UNAVAILABLE,
    ("PIDPressure", "True"): taints.PID_PRESSURE,
}
_OURS = {*_BY_CONDITION.values(), taints.UNSCHEDULABLE}
_BY_READY = {"False": taints.NOT_READY, "Unknown": taints.UNREACHABLE}


def condition(node: core_v1.Node, type_: str) -> core_v1.NodeCondition | None:
    return next((c for c in node.status.conditions or () if c.type == type_), None)


def ready_status(node: core_v1.Node) -> str:
    """True, False or Unknown; Unknown if the node agent has not said."""
    found = condition(node, "Ready")
    return found.status if found is not None else "Unknown"


def silenced(node: core_v1.Node, now: datetime) -> core_v1.Node | None:
    """A copy whose conditions say that nothing is heard of it; None if they say so already."""
    changed = clone(node)
    found = {c.type: c for c in changed.status.conditions or ()}
    conditions = list(changed.status.conditions or ())
    stamp = times.format(now)
    for type_ in _SILENT:
        current = found.get(type_)
        if current is None:
            conditions.append(
                core_v1.NodeCondition(
                    type=type_,
                    status="Unknown",
                    reason="NodeStatusNeverUpdated",
                    message="Kubelet never posted node status.",
                    last_heartbeat_time=node.metadata.creation_timestamp,
                    last_transition_time=stamp,
                )
            )
        elif current.status != "Unknown":
            current.status = "Unknown"
            current.reason = "NodeStatusUnknown"
            current.message = "Kubelet stopped posting node status."
            current.last_transition_time = stamp
    changed.status.conditions = conditions
    return None if changed == node else changed


def schedule_taints(node: core_v1.Node) -> list[str]:
    """Keys of the NoSchedule taints that follow from the node's conditions and spec."""
    keys = []
    for found in node.status.conditions or ():
        key = _BY_CONDITION.get((found.type, found.status))
        if key is not None:
            keys.append(key)
    if node.spec.unschedulable:
        keys.append(taints.UNSCHEDULABLE)
    return keys


def retainted(node: core_v1.Node, execute: str | None, now: datetime) -> list[core_v1.Taint] | None:
    """The node's taints as they should be: ours by its state, others as they are; None if nothing changes.

    `execute` is the key of the NoExecute taint it should have ("" keeps what it has, None has none).
    """
    current = node.spec.taints or []
    wanted = schedule_taints(node)
    result = []
    for taint in current:
        if taint.effect == taints.NO_SCHEDULE and taint.key in _OURS and taint.key not in wanted:
            continue
        ours = taint.effect == taints.NO_EXECUTE and taint.key in (taints.NOT_READY, taints.UNREACHABLE)
        if ours and execute != "" and taint.key != execute:
            continue
        result.append(taint)
    have = {(t.key, t.effect) for t in result}
    stamp = times.format(now)
    for key in wanted:
        if (key, taints.NO_SCHEDULE) not in have:
            result.append(core_v1.Taint(key=key, effect=taints.NO_SCHEDULE, time_added=stamp))
    if execute and (execute, taints.NO_EXECUTE) not in have:
        result.append(core_v1.Taint(key=execute, effect=taints.NO_EXECUTE, time_added=stamp))
    return None if result == current else result


class Zone(msgspec.Struct):
    """How the nodes of a zone are."""

    nodes: int = 0
    unhealthy: int = 0

    @property
    def state(self) -> str:
        """Normal, FullDisruption (all lost) or PartialSegmentation (most of them)."""
        if self.nodes and self.unhealthy == self.nodes:
            return "FullDisruption"
        if self.unhealthy > 2 and self.unhealthy / self.nodes >= UNHEALTHY_ZONE:
            return "PartialSegmentation"
        return "Normal"


def zone_of(node: core_v1.Node) -> str:
    labels = node.metadata.labels or {}
    return f"{labels.get('topology.kubernetes.io/region', '')}:{labels.get('topology.kubernetes.io/zone', '')}"


def zones(nodes: list[core_v1.Node]) -> dict[str, Zone]:
    found: dict[str, Zone] = {}
    for node in nodes:
        if EXCLUDED in (node.metadata.labels or {}):
            continue
        zone = found.setdefault(zone_of(node), Zone())
        zone.nodes += 1
        zone.unhealthy += ready_status(node) != "True"
    return found


def eviction_rate(zone: Zone, primary: float) -> float:
    """NoExecute taints a second in a zone; `primary` while it is not disrupted in part."""
    if zone.state == "PartialSegmentation":
        return SECONDARY_RATE if zone.nodes > LARGE_CLUSTER else 0.0
    return primary


class _Health(msgspec.Struct):
    """When a node was last heard of, on the event loop's clock, and what was known then."""

    heard: float
    uid: str
    ready: str
    renewed: str = ""
    beat: str = ""
    #: When it was last found to be other than before.
    changed: float = 0.0


class NodeLifecycleController(Controller):
    """See the module. Keys are names of nodes."""

    name = "node-lifecycle-controller"
    component = "node-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._nodes = self.watch(core_v1.Node)
        self._leases = context.informers.of(coordination_v1.Lease, namespace=LEASES)
        self._watched.append(self._leases)
        self._leases.add_handler(on_add=self._beat, on_update=lambda _, new: self._beat(new))
        self._pods = self.informer(core_v1.Pod)
        self._pods.add_index(NODE, node_name)
        self._health: dict[str, _Health] = {}
        self._limits: dict[str, tuple[float, TokenBucket]] = {}
        #: Nodes whose pods could not all be marked: once more.
        self._unmarked: set[str] = set()
        metrics.show(lambda: zones(self._nodes.list()))

    def _beat(self, lease: coordination_v1.Lease) -> None:
        """A heartbeat moves the time of the next look, no more: only a node that was lost is looked at now."""
        health = self._health.get(lease.metadata.name or "")
        if health is None or health.renewed == (lease.spec.renew_time or ""):
            return
        health.renewed = lease.spec.renew_time or ""
        health.heard = clock.elapsed()

    async def reconcile(self, key: str) -> None:
        node = self._nodes.get(key)
        if node is None:
            self._forget(key)
            return
        health = self._observe(key, node)
        observed = health.ready
        grace = self.context.config.node_monitor_grace_period
        if condition(node, "Ready") is None:
            grace = self.context.config.node_startup_grace_period
        left = health.heard + grace - clock.elapsed()
        if left <= 0:
            changed = silenced(node, clock.now())
            if changed is not None:
                node = await self.client.update_status(changed)
        else:
            self.queue.add_after(key, left + 0.001)
        health.ready = ready_status(node)
        if observed != health.ready:
            health.changed = clock.elapsed()
        if observed == "True" and health.ready != "True":
            message = f"Node {key} status is now: NodeNotReady"
            self.recorder.event(node, NORMAL, "NodeNotReady", message)
            self._unmarked.add(key)
            self._look_at_lost()
        if health.ready == "True":
            self._unmarked.discard(key)
            if observed != "True":
                self._look_at_lost()
        await self._taint(key, node)
        if key in self._unmarked:
            await self._mark_pods(key)

    def _observe(self, key: str, node: core_v1.Node) -> _Health:
        """What is known of the node, brought up to date with its own status and Lease."""
        lease = self._leases.lookup(key, LEASES)
        renewed = (lease.spec.renew_time or "") if lease is not None else ""
        ready = condition(node, "Ready")
        beat = (ready.last_heartbeat_time or "") if ready is not None else ""
        health = self._health.get(key)
        if health is None or health.uid != node.metadata.uid:
            message = f"Node {key} event: Registered Node {key} in Controller"
            self.recorder.event(node, NORMAL, "RegisteredNode", message)
            status = ready_status(node)
            health = _Health(clock.elapsed(), node.metadata.uid or "", status, renewed, beat, clock.elapsed())
            if ready is None:
                created = times.parse(node.metadata.creation_timestamp or times.now())
                health.heard -= max(0.0, (clock.now() - created) / timedelta(seconds=1))
            self._health[key] = health
        if (renewed, beat) != (health.renewed, health.beat):
            # A condition that we set ourselves keeps its heartbeat time and is none.
            health.heard = clock.elapsed()
            health.renewed, health.beat = renewed, beat
        return health

    def _forget(self, key: str) -> None:
        health = self._health.pop(key, None)
        self._unmarked.discard(key)
        if health is not None:
            about = core_v1.ObjectReference(api_version="v1", kind="Node", name=key, uid=health.uid)
            message = f"Node {key} event: Removing Node {key} from Controller"
            self.recorder.event(about, NORMAL, "RemovingNode", message)
            self._look_at_lost()

    def _look_at_lost(self) -> None:
        """The number of lost nodes has changed, and with it what may be done about each."""
        for node in self._nodes.list():
            if ready_status(node) != "True":
                self.enqueue(node)

    async def _taint(self, key: str, node: core_v1.Node) -> None:
        execute = _BY_READY.get(ready_status(node))
        have = {t.key for t in taints.no_execute(node)} & set(_BY_READY.values())
        if execute is not None:
            # The cache does not know yet what was written a moment ago.
            everything = zones([node if n.metadata.name == key else n for n in self._nodes.list()])
            lost = bool(everything) and all(z.state == "FullDisruption" for z in everything.values())
            zone = zone_of(node)
            if lost:
                execute = None
            elif not have:
                rate = eviction_rate(everything.get(zone, Zone()), self.context.config.node_eviction_rate)
                # A period of waiting: of nodes that are lost together the first must not be taken for the only one.
                waited = clock.elapsed() - self._health[key].changed >= self.context.config.node_monitor_period
                if not waited or not self._may_evict(zone, rate):
                    self.queue.add_after(key, self.context.config.node_monitor_period)
                    execute = ""
        changed = retainted(node, execute, clock.now())
        if changed is None:
            return
        updated = clone(node)
        updated.spec.taints = changed or None
        await self.client.update(updated)
        if execute and not have:
            metrics.evicted(zone_of(node))

    def _may_evict(self, zone: str, rate: float) -> bool:
        if rate <= 0:
            return False
        limit = self._limits.get(zone)
        if limit is None or limit[0] != rate:
            limit = self._limits[zone] = (rate, TokenBucket(rate, 1))
        return limit[1].try_take()

    async def _mark_pods(self, key: str) -> None:
        """All pods of a lost node are not ready, so that services leave them out."""
        for pod in self._pods.by_index(NODE, key):
            found = pod_rules.condition(pod, "Ready")
            if found is None or found.status != "True":
                continue
            now = times.format(clock.now())
            patch = {
                "metadata": {"uid": pod.metadata.uid},
                "status": {"conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": now}]},
            }
            try:
                await self.client.patch(
                    core_v1.Pod, pod.metadata.name or "", pod.metadata.namespace, patch, subresource="status"
                )
            except errors.StatusError as error:
                if not errors.is_not_found(error):
                    raise
                continue
            self.recorder.event(pod, WARNING, "NodeNotReady", "Node is not ready")
        self._unmarked.discard(key)
