"""RuntimeClass: the overhead and the scheduling of a pod's runtime class become the pod's."""

from __future__ import annotations

from typing import Any

from podling.api import node_v1
from podling.api.struct import clone
from podling.apiserver.admission.base import CREATE, Attributes, Plugin
from podling.apiserver.admission.refusal import forbidden


class RuntimeClass(Plugin):
    name = "RuntimeClass"
    operations = frozenset((CREATE,))
    resources = frozenset(("pods",))
    mutates = True
    validates = True

    async def mutate(self, attributes: Attributes) -> None:
        spec = attributes.obj.spec
        found = self._class(attributes)
        if found is None:
            return
        if found.overhead is not None and found.overhead.pod_fixed:
            fixed = dict(found.overhead.pod_fixed)
            if spec.overhead and spec.overhead != fixed:
                raise forbidden(
                    attributes, "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"
                )
            spec.overhead = fixed
        if found.scheduling is not None:
            _schedule(attributes, spec, found.scheduling)

    async def validate(self, attributes: Attributes) -> None:
        spec = attributes.obj.spec
        if spec is None or not spec.overhead:
            return
        found = self._class(attributes)
        if found is None:
            raise forbidden(attributes, "pod rejected: Pod Overhead set without corresponding RuntimeClass Overhead")
        fixed = found.overhead.pod_fixed if found.overhead is not None else None
        if not fixed:
            raise forbidden(attributes, "pod rejected: Pod Overhead set without corresponding RuntimeClass Overhead")
        if spec.overhead != dict(fixed):
            raise forbidden(attributes, "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead")

    def _class(self, attributes: Attributes) -> node_v1.RuntimeClass | None:
        """The pod's class, None if it names none. StatusError 403 if it does not exist."""
        spec = attributes.obj.spec
        name = spec.runtime_class_name if spec is not None else None
        if not name:
            return None
        found: node_v1.RuntimeClass | None = self.app.cached("node.k8s.io", "runtimeclasses", name)
        if found is None:
            raise forbidden(attributes, f'pod rejected: RuntimeClass "{name}" not found')
        return found


def _schedule(attributes: Attributes, spec: Any, scheduling: node_v1.Scheduling) -> None:
    chosen = dict(spec.node_selector or {})
    for key, value in (scheduling.node_selector or {}).items():
        if chosen.get(key, value) != value:
            raise forbidden(
                attributes,
                f"conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; "
                f"pod.spec.nodeSelector[{key}] = {chosen[key]}",
            )
        chosen[key] = value
    spec.node_selector = chosen or None
    extra = [clone(t) for t in scheduling.tolerations or [] if t not in (spec.tolerations or [])]
    if extra:
        spec.tolerations = [*(spec.tolerations or []), *extra]
