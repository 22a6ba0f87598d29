"""The Node object: registered once, its status reported when it changes and every five minutes
(pkg/kubelet/nodestatus)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from podling import clock, log
from podling.api import core_v1, errors, meta_v1, times
from podling.api.errors import StatusError
from podling.api.scalars import Quantity
from podling.api.struct import clone, to_dict
from podling.client.base import Client, PatchType
from podling.client.events import NORMAL, Recorder
from podling.images.base import Image
from podling.kubelet import resources
from podling.kubelet.config import KubeletConfig
from podling.volumes.base import aggregate

#: A node's status lists this many images at most, each by this many names.
MAX_IMAGES, MAX_NAMES = 50, 5
RETRY_FIRST, RETRY_MOST = 0.2, 7.0

_log = log.get(__name__)


class Pressure(msgspec.Struct):
    """What the node is short of."""

    memory: bool = False
    disk: bool = False
    pid: bool = False


class State(msgspec.Struct, kw_only=True):
    """All that a node's status is made from. `not_ready` says why the runtime or network is not ready, or is ""."""

    machine: resources.Machine
    capacity: dict[str, str]
    allocatable: dict[str, str]
    images: Sequence[Image] = ()
    pressure: Pressure = msgspec.field(default_factory=Pressure)
    not_ready: str = ""


def labels(config: KubeletConfig) -> dict[str, str]:
    """The labels that every node has, and the configured ones."""
    architecture = resources.architecture()
    return {
        "beta.kubernetes.io/arch": architecture,
        "beta.kubernetes.io/os": "linux",
        "kubernetes.io/arch": architecture,
        "kubernetes.io/hostname": config.host,
        "kubernetes.io/os": "linux",
        **config.labels,
    }


def initial_node(config: KubeletConfig, status: core_v1.NodeStatus) -> core_v1.Node:
    """What the node is registered as."""
    return core_v1.Node(
        metadata=meta_v1.ObjectMeta(
            name=config.node_name,
            labels=labels(config),
            annotations={"volumes.kubernetes.io/controller-managed-attach-detach": "true", **config.annotations},
        ),
        spec=core_v1.NodeSpec(provider_id=config.provider_id or None, taints=[clone(t) for t in config.taints] or None),
        status=status,
    )


def addresses(config: KubeletConfig) -> list[core_v1.NodeAddress]:
    internal = [core_v1.NodeAddress(type="InternalIP", address=ip) for ip in config.node_ips]
    return [*internal, core_v1.NodeAddress(type="Hostname", address=config.host)]


def not_ready(runtime: str, network: str) -> str:
    """The Ready condition's message out of what is wrong with the runtime and with the network; "" if nothing is."""
    found = []
    if runtime:
        ready = f"RuntimeReady=false reason:ContainerRuntimeNotReady message:{runtime}"
        found = ["container runtime is down", f"container runtime not ready: {ready}"]
    if network:
        found.append(network)
    return aggregate(found) if found else ""


def image_list(images: Sequence[Image]) -> list[core_v1.ContainerImage]:
    """The largest images, by digest and then by tag."""
    largest = sorted(images, key=lambda image: image.size, reverse=True)[:MAX_IMAGES]
    return [
        core_v1.ContainerImage(names=[*i.repo_digests, *i.repo_tags][:MAX_NAMES], size_bytes=i.size) for i in largest
    ]


_CONDITIONS = {
    "MemoryPressure": (
        ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
    ),
    "DiskPressure": (
        ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ("KubeletHasDiskPressure", "kubelet has disk pressure"),
    ),
    "PIDPressure": (
        ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
    ),
}


def conditions(state: State, old: Sequence[core_v1.NodeCondition] | None, now: datetime) -> list[core_v1.NodeCondition]:
    """The node's conditions; those that others wrote are kept."""
    before = {c.type: c for c in old or ()}
    pressed = {
        "MemoryPressure": state.pressure.memory,
        "DiskPressure": state.pressure.disk,
        "PIDPressure": state.pressure.pid,
    }
    made = [
        _condition(type_, "True" if pressed[type_] else "False", *_CONDITIONS[type_][pressed[type_]], before, now)
        for type_ in _CONDITIONS
    ]
    if state.not_ready:
        made.append(_condition("Ready", "False", "KubeletNotReady", state.not_ready, before, now))
    else:
        made.append(_condition("Ready", "True", "KubeletReady", "kubelet is posting ready status", before, now))
    own = {c.type for c in made}
    return [*(c for c in old or () if c.type not in own), *made]


def _condition(
    type_: str, status: str, reason: str, message: str, before: dict[str, core_v1.NodeCondition], now: datetime
) -> core_v1.NodeCondition:
    known = before.get(type_)
    since = known.last_transition_time if known is not None and known.status == status else None
    return core_v1.NodeCondition(
        type=type_,
        status=status,
        reason=reason,
        message=message,
        last_heartbeat_time=times.format(now),
        last_transition_time=since or times.format(now),
    )


def status(config: KubeletConfig, state: State, old: core_v1.NodeStatus | None, now: datetime) -> core_v1.NodeStatus:
    """The node's status. Resources that others advertise (extended ones) stay, and all of them can be used."""
    known = old or core_v1.NodeStatus()
    extended = {n: v for n, v in _extended(known.capacity).items() if n not in state.capacity}
    handler = core_v1.NodeRuntimeHandler(
        name="", features=core_v1.NodeRuntimeHandlerFeatures(recursive_read_only_mounts=True, user_namespaces=False)
    )
    return msgspec.structs.replace(
        known,
        addresses=addresses(config),
        capacity={**state.capacity, **extended},
        allocatable={**state.allocatable, **extended},
        conditions=conditions(state, known.conditions, now),
        daemon_endpoints=core_v1.NodeDaemonEndpoints(kubelet_endpoint=core_v1.DaemonEndpoint(port=config.port)),
        features=core_v1.NodeFeatures(supplemental_groups_policy=True),
        images=image_list(state.images),
        node_info=state.machine.info,
        runtime_handlers=[handler],
    )


def _extended(amounts: Mapping[str, Quantity] | None) -> dict[str, Quantity]:
    return {name: amount for name, amount in (amounts or {}).items() if "/" in name}


def changed(old: core_v1.NodeStatus, new: core_v1.NodeStatus) -> bool:
    """Whether there is more to tell than that the node is still there."""
    return _without_heartbeat(old) != _without_heartbeat(new)


def _without_heartbeat(given: core_v1.NodeStatus) -> dict[str, Any]:
    fields = to_dict(given)
    for condition in fields.get("conditions", ()):
        condition.pop("lastHeartbeatTime", None)
    return fields


_EVENTS = {
    ("Ready", "True"): "NodeReady",
    ("Ready", "False"): "NodeNotReady",
    ("MemoryPressure", "True"): "NodeHasInsufficientMemory",
    ("MemoryPressure", "False"): "NodeHasSufficientMemory",
    ("DiskPressure", "True"): "NodeHasDiskPressure",
    ("DiskPressure", "False"): "NodeHasNoDiskPressure",
    ("PIDPressure", "True"): "NodeHasInsufficientPID",
    ("PIDPressure", "False"): "NodeHasSufficientPID",
}


class NodeReporter:
    """Registers the node and keeps its status true. `look()` gives the state of the moment."""

    def __init__(
        self, client: Client, config: KubeletConfig, recorder: Recorder, look: Callable[[], Awaitable[State]]
    ) -> None:
        self._client, self._config, self._recorder, self._look = client, config, recorder, look
        self._node: core_v1.Node | None = None
        self._reported = 0.0
        self._kick = asyncio.Event()
        self.registered = asyncio.Event()

    def kick(self) -> None:
        """Something about the node has changed."""
        self._kick.set()

    def observe(self, node: core_v1.Node) -> None:
        """The node as the API server has it by now. What others added to its capacity becomes usable at once."""
        if self._node is None or not _newer(node, self._node):
            return
        self._node = node
        if node.status is not None and _extended(node.status.capacity) != _extended(node.status.allocatable):
            self.kick()

    async def run(self) -> None:
        """Until cancelled."""
        delay = RETRY_FIRST
        while True:
            try:
                await self._sync()
                delay = RETRY_FIRST
                wait = self._config.status_period
            except StatusError as error:
                _log.debug("node status not written: %s", error)
                self._node = None
                wait, delay = delay, min(delay * 2, RETRY_MOST)
            try:
                async with asyncio.timeout(wait):
                    await self._kick.wait()
            except TimeoutError:
                pass
            self._kick.clear()

    async def _sync(self) -> None:
        state = await self._look()
        if self._node is None:
            self._node = await self._register(state)
            self.registered.set()
        now = clock.now()
        known = self._node.status or core_v1.NodeStatus()
        made = status(self._config, state, known, now)
        due = clock.elapsed() - self._reported >= self._config.status_report_period
        if not changed(known, made) and not due and self._reported:
            return
        written = await self._client.patch(
            core_v1.Node,
            self._config.node_name,
            None,
            {"status": _patch(known, made)},
            type=PatchType.STRATEGIC,
            subresource="status",
        )
        if _newer(written, self._node):
            self._node = written
        self._reported = clock.elapsed() or 1e-9
        self._tell(known, made)

    async def _register(self, state: State) -> core_v1.Node:
        """The node as the API server has it: made if it is new, its labels put right if it is not."""
        config = self._config
        wanted = initial_node(config, status(config, state, None, clock.now()))
        if not config.register_node:
            return await self._client.get(core_v1.Node, config.node_name)
        try:
            # The server drops the status of a new object: it follows at once.
            made = await self._client.create(wanted)
            _log.info("registered node %s", config.node_name)
            return msgspec.structs.replace(made, status=made.status or core_v1.NodeStatus())
        except StatusError as error:
            if not errors.is_already_exists(error):
                raise
        found = await self._client.get(core_v1.Node, config.node_name)
        wrong = {k: v for k, v in labels(config).items() if (found.metadata.labels or {}).get(k) != v}
        if wrong:
            found = await self._client.patch(core_v1.Node, config.node_name, None, {"metadata": {"labels": wrong}})
        return found

    def _tell(self, old: core_v1.NodeStatus, new: core_v1.NodeStatus) -> None:
        before = {c.type: c.status for c in old.conditions or ()}
        for condition in new.conditions or ():
            reason = _EVENTS.get((condition.type, condition.status))
            if reason is not None and before.get(condition.type) != condition.status:
                text = f"Node {self._config.node_name} status is now: {reason}"
                self._recorder.event(node_reference(self._config.node_name), NORMAL, reason, text)


def _newer(node: core_v1.Node, than: core_v1.Node) -> bool:
    return int(node.metadata.resource_version or 0) > int(than.metadata.resource_version or 0)


def node_reference(name: str) -> core_v1.ObjectReference:
    """Events about a node name it by its name in place of its uid, as upstream's do."""
    return core_v1.ObjectReference(kind="Node", name=name, uid=name)


def _patch(old: core_v1.NodeStatus, new: core_v1.NodeStatus) -> dict[str, Any]:
    """The fields that differ. Conditions and addresses merge by type, so only what changed is sent of them."""
    before, after = to_dict(old), to_dict(new)
    patch: dict[str, Any] = {}
    for name in before.keys() | after.keys():
        if before.get(name) != after.get(name):
            patch[name] = after.get(name)
    if "addresses" in patch and patch["addresses"] is not None:
        patch["addresses"] = [*patch["addresses"], {"$patch": "replace"}]
    if "conditions" in patch:
        known = {c["type"]: c for c in before.get("conditions", ())}
        patch["conditions"] = [c for c in after.get("conditions", ()) if known.get(c["type"]) != c]
        patch["$setElementOrder/conditions"] = [{"type": c["type"]} for c in after.get("conditions", ())]
    for name in ("capacity", "allocatable"):
        if isinstance(patch.get(name), dict):
            gone = dict.fromkeys((before.get(name) or {}).keys() - patch[name].keys())
            patch[name] = {**gone, **patch[name]}
    return patch
