"""Nodes and pods for the scheduler's tests, in a line each."""

from __future__ import annotations

from typing import Any

from podling.api import core_v1
from podling.api.struct import from_dict
from podling.scheduler.cache import Cache


def node(name: str, *, cpu: str = "4", memory: str = "8Gi", pods: str = "110", **more: Any) -> core_v1.Node:
    """`labels`, `taints` ("key=value:Effect"), `unschedulable`."""
    taints = []
    for text in more.get("taints", ()):
        key, _, rest = text.partition("=")
        value, _, effect = rest.partition(":")
        taints.append({"key": key, "value": value, "effect": effect})
    return from_dict(
        {
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **more.get("labels", {})}},
            "spec": {"taints": taints, "unschedulable": more.get("unschedulable", False)},
            "status": {"allocatable": {"cpu": cpu, "memory": memory, "pods": pods, **more.get("extra", {})}},
        },
        core_v1.Node,
    )


def pod(name: str, *, cpu: str | None = None, memory: str | None = None, **spec: Any) -> core_v1.Pod:
    """`on` is the node; `priority`, `labels`, `ports`; anything else goes into the spec in wire form."""
    requests = {k: v for k, v in (("cpu", cpu), ("memory", memory), *spec.pop("requests", {}).items()) if v}
    ports = [{"containerPort": p, "hostPort": p} for p in spec.pop("ports", ())]
    metadata = {"name": name, "namespace": "default", "uid": f"uid-{name}", "labels": spec.pop("labels", {})}
    if node_name := spec.pop("on", None):
        spec["nodeName"] = node_name
    status = spec.pop("status", {})
    container = {"name": "c", "image": "i", "resources": {"requests": requests}, "ports": ports}
    return from_dict({"metadata": metadata, "spec": {"containers": [container], **spec}, "status": status}, core_v1.Pod)


def cache(*objects: core_v1.Node | core_v1.Pod) -> Cache:
    made = Cache()
    for obj in objects:
        if isinstance(obj, core_v1.Node):
            made.set_node(obj)
        else:
            made.set_pod(obj)
    return made
