"""metrics.k8s.io: what nodes and pods use, answered by asking their node agents, as metrics-server does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from podling.api import errors, meta_v1, times
from podling.api.metrics_v1beta1 import ContainerMetrics, NodeMetrics, PodMetrics
from podling.api.struct import encode
from podling.apiserver.answer import Answer
from podling.apiserver.call import Call
from podling.apiserver.entry import Entry
from podling.apiserver.listing import Selection
from podling.apiserver.usage import NodeUsage, Usage


async def nodes(call: Call) -> Answer:
    """get and list of nodes.metrics.k8s.io."""
    found = _chosen(call, "nodes")
    usages = await _usages(call, [entry.name for entry in found])
    return _answer(call, (_node(e.object, usage) for e in found if (usage := usages.get(e.name)) is not None))


async def pods(call: Call) -> Answer:
    """get and list of pods.metrics.k8s.io."""
    found = [e for e in _chosen(call, "pods") if e.object.status.phase == "Running" and e.object.spec.node_name]
    usages = await _usages(call, {e.object.spec.node_name for e in found})
    made = []
    for entry in found:
        usage = usages.get(entry.object.spec.node_name)
        containers = usage.pods.get(entry.object.metadata.uid) if usage is not None else None
        if usage is not None and containers:
            made.append(_pod(entry.object, usage, containers))
    return _answer(call, made)


def _chosen(call: Call, name: str) -> list[Entry]:
    """The nodes or pods that are meant."""
    item = call.app.lookup("", name)
    assert item is not None
    if call.info.verb == "get":
        entry = item.cache.get(item.key(call.info.namespace, call.info.name))
        return [entry] if entry is not None else []
    query = call.request.query
    chosen = Selection(item, call.info.namespace, query.get("labelSelector", ""), query.get("fieldSelector", ""))
    return chosen.entries()


async def _usages(call: Call, names: Iterable[str]) -> dict[str, NodeUsage]:
    """By name of node, of those that answer."""
    usages = call.app.usages
    if usages is None:
        return {}
    wanted = list(names)
    found = await asyncio.gather(*(usages.of(name) for name in wanted))
    return {name: usage for name, usage in zip(wanted, found, strict=True) if usage is not None}


def _meta(obj: Any) -> meta_v1.ObjectMeta:
    meta = obj.metadata
    return meta_v1.ObjectMeta(
        name=meta.name, namespace=meta.namespace, labels=meta.labels, creation_timestamp=times.now()
    )


def _amounts(usage: Usage) -> dict[str, str]:
    return {
        "cpu": f"{usage.cpu}n" if usage.cpu else "0",
        "memory": f"{usage.memory // 1024}Ki" if usage.memory else "0",
    }


def _window(seconds: float) -> str:
    return f"{seconds:.3f}".rstrip("0").rstrip(".") + "s"


def _node(obj: Any, usage: NodeUsage) -> NodeMetrics:
    return NodeMetrics(
        metadata=_meta(obj),
        timestamp=times.format(usage.when),
        window=_window(usage.seconds),
        usage=_amounts(usage.node),
    )


def _pod(obj: Any, usage: NodeUsage, containers: dict[str, Usage]) -> PodMetrics:
    return PodMetrics(
        metadata=_meta(obj),
        timestamp=times.format(usage.when),
        window=_window(usage.seconds),
        containers=[ContainerMetrics(name=name, usage=_amounts(used)) for name, used in containers.items()],
    )


def _answer(call: Call, objects: Iterable[NodeMetrics | PodMetrics]) -> Answer:
    codec, entries = call.served.codec, []
    for obj in objects:
        key = call.served.key(obj.metadata.namespace or "", obj.metadata.name or "")
        entries.append(Entry(key, 0, encode(obj), codec, obj))
    if call.info.verb == "list":
        return Answer(entries=entries, list_meta=meta_v1.ListMeta(), served=call.served)
    if entries:
        return Answer(entry=entries[0], served=call.served)
    info = call.info
    name = f"{info.namespace}/{info.name}" if info.namespace else info.name
    raise errors.not_found(call.served.resource.kind.lower(), "metrics.k8s.io", name)
