"""ExtendedResourceToleration: a pod that asks for a node's special devices tolerates the taint that keeps others off.

Such nodes are tainted with the name of the resource.
"""

from __future__ import annotations

from podling.api import core_v1
from podling.apiserver.admission.base import CREATE, UPDATE, Attributes, Plugin


class ExtendedResourceToleration(Plugin):
    name = "ExtendedResourceToleration"
    operations = frozenset((CREATE, UPDATE))
    resources = frozenset(("pods",))
    mutates = True

    async def mutate(self, attributes: Attributes) -> None:
        spec: core_v1.PodSpec | None = attributes.obj.spec
        if spec is None:
            return
        asked = {
            name
            for container in (*spec.containers, *(spec.init_containers or ()))
            for name in (container.resources.requests if container.resources is not None else None) or {}
            if is_extended(name)
        }
        wanted = [core_v1.Toleration(key=name, operator="Exists", effect="NoSchedule") for name in sorted(asked)]
        present = spec.tolerations or []
        if missing := [t for t in wanted if t not in present]:
            spec.tolerations = [*present, *missing]


def is_extended(name: str) -> bool:
    """Whether a resource is none of Kubernetes' own: its name has another domain."""
    domain, slash, _ = name.partition("/")
    return bool(slash) and not f".{domain}".endswith(".kubernetes.io") and not name.startswith("requests.")
