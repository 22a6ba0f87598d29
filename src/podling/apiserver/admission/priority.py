"""Priority: a pod's number comes from its PriorityClass."""

from __future__ import annotations

from typing import Any

from podling.apiserver.admission.base import CREATE, UPDATE, Attributes, Plugin
from podling.apiserver.admission.refusal import forbidden

#: There from the start, whether the objects are or not.
SYSTEM = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}
_CLASSES = "priorityclasses.scheduling.k8s.io"


class Priority(Plugin):
    name = "Priority"
    resources = frozenset(("pods", _CLASSES))
    mutates = True
    validates = True

    async def mutate(self, attributes: Attributes) -> None:
        if attributes.qualified != "pods" or attributes.obj.spec is None:
            return
        spec = attributes.obj.spec
        if attributes.operation == UPDATE:
            # The class of a pod does not change any more, so its number does not either.
            old = attributes.old.spec
            if old is not None:
                spec.priority = old.priority if spec.priority is None else spec.priority
                spec.preemption_policy = spec.preemption_policy or old.preemption_policy
            return
        name, value, policy = self._class(attributes, spec.priority_class_name or "")
        spec.priority_class_name = name or None
        if spec.priority is not None and spec.priority != value:
            raise forbidden(
                attributes,
                f"the integer value of priority ({spec.priority}) must not be provided in pod spec; priority admission "
                f"controller computed {value} from the given PriorityClass name",
            )
        if spec.preemption_policy is not None and spec.preemption_policy != policy:
            raise forbidden(
                attributes,
                f"the string value of PreemptionPolicy ({spec.preemption_policy}) must not be provided in pod spec; "
                f"priority admission controller computed {policy} from the given PriorityClass name",
            )
        spec.priority, spec.preemption_policy = value, policy

    def _class(self, attributes: Attributes, name: str) -> tuple[str, int, str]:
        """Name, value and preemption policy of the class that counts."""
        found: Any
        if not name:
            found = self._default()
            if found is None:
                return "", 0, "PreemptLowerPriority"
        else:
            found = self.app.cached("scheduling.k8s.io", "priorityclasses", name)
            if found is None and name in SYSTEM:
                return name, SYSTEM[name], "PreemptLowerPriority"
            if found is None:
                raise forbidden(attributes, f"no PriorityClass with name {name} was found")
        return found.metadata.name, found.value, found.preemption_policy or "PreemptLowerPriority"

    def _default(self) -> Any:
        """Of several defaults, which is not allowed but may come about, the one with the lowest value."""
        served = self.app.lookup("scheduling.k8s.io", "priorityclasses")
        if served is None:
            return None
        defaults = [e.object for e in served.cache.all() if e.object.global_default]
        return min(defaults, key=lambda c: c.value, default=None)

    async def validate(self, attributes: Attributes) -> None:
        if attributes.qualified != _CLASSES or not attributes.obj.global_default:
            return
        default = self._default()
        if default is not None and (
            attributes.operation == CREATE or default.metadata.name != attributes.obj.metadata.name
        ):
            raise forbidden(
                attributes,
                f"PriorityClass {default.metadata.name} is already marked as globalDefault. Only one default can exist",
            )
