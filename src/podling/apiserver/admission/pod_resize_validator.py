"""PodResizeValidator: a pod is not resized beyond what its node could ever give."""

from __future__ import annotations

from collections.abc import Mapping

from podling.api import core_v1
from podling.apiserver.admission.base import UPDATE, Attributes, Plugin
from podling.apiserver.admission.refusal import forbidden
from podling.machinery import pod_resources

_OS = "kubernetes.io/os"


class PodResizeValidator(Plugin):
    name = "PodResizeValidator"
    operations = frozenset((UPDATE,))
    resources = frozenset(("pods",))
    subresources = frozenset(("resize",))
    validates = True

    async def validate(self, attributes: Attributes) -> None:
        pod: core_v1.Pod = attributes.obj
        name = pod.spec.node_name if pod.spec is not None else None
        if not name or pod.spec == attributes.old.spec:
            return
        node = self.app.get("nodes", "", name)
        if node is None:
            raise forbidden(attributes, f'node "{name}" not found')
        if lacking := _lacking(pod, node.status.allocatable or {}):
            raise forbidden(attributes, f"Node didn't have enough allocatable resources: {'; '.join(lacking)}")
        system = (node.metadata.labels or {}).get(_OS, "")
        if system != "linux":
            raise forbidden(attributes, f'pod resize is only supported on linux nodes, node "{name}" is "{system}"')


def _lacking(pod: core_v1.Pod, allocatable: Mapping[str, str | int | float]) -> list[str]:
    wanted, given = pod_resources.requests(pod), pod_resources.amounts(allocatable)
    return [
        f"{resource}, requested: {wanted[resource]}, allocatable: {given.get(resource, 0)}"
        for resource in ("cpu", "memory")
        if wanted.get(resource, 0) > given.get(resource, 0)
    ]
