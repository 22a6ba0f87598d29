"""PodTolerationRestriction: what pods of a namespace tolerate: some of it by default, and nothing but what is allowed.

Both come from annotations of the namespace, or from the plugin's configuration.
"""

from __future__ import annotations

from typing import Any

import msgspec

from podling.api import core_v1, errors
from podling.api.struct import from_dict
from podling.apiserver.admission.base import CREATE, UPDATE, Attributes, Plugin
from podling.apiserver.core import Core

_DEFAULTS = "scheduler.alpha.kubernetes.io/defaultTolerations"
_ALLOWED = "scheduler.alpha.kubernetes.io/tolerationsWhitelist"
_NOT_READY = "node.kubernetes.io/not-ready"
_MEMORY_PRESSURE = core_v1.Toleration(key="node.kubernetes.io/memory-pressure", operator="Exists", effect="NoSchedule")


class Configuration(msgspec.Struct):
    default: list[core_v1.Toleration] = []
    allowed: list[core_v1.Toleration] = []


class PodTolerationRestriction(Plugin):
    name = "PodTolerationRestriction"
    operations = frozenset((CREATE, UPDATE))
    resources = frozenset(("pods",))
    mutates = True
    validates = True

    def __init__(self, app: Core, configuration: Configuration | None = None) -> None:
        super().__init__(app)
        self._configuration = configuration or Configuration()

    @classmethod
    def parse(cls, document: dict[str, Any]) -> Configuration:
        return Configuration(_tolerations(document.get("default")), _tolerations(document.get("whitelist")))

    async def mutate(self, attributes: Attributes) -> None:
        spec: core_v1.PodSpec | None = attributes.obj.spec
        if spec is None:
            return
        if attributes.operation == CREATE:
            defaults = self._annotated(attributes, _DEFAULTS)
            if defaults is None:
                defaults = self._configuration.default
            if defaults:
                own = spec.tolerations or []
                if _conflict(defaults, own):
                    raise errors.internal("namespace tolerations and pod tolerations conflict")
                spec.tolerations = _merged(defaults, own)
        if _is_guaranteed_something(attributes.obj) and _MEMORY_PRESSURE not in (spec.tolerations or []):
            spec.tolerations = [*(spec.tolerations or []), _MEMORY_PRESSURE]

    async def validate(self, attributes: Attributes) -> None:
        spec: core_v1.PodSpec | None = attributes.obj.spec
        found = list((spec.tolerations if spec is not None else None) or ())
        if not found:
            return
        allowed = self._annotated(attributes, _ALLOWED)
        if allowed is None:
            allowed = self._configuration.allowed
        if allowed and not all(any(_superset(a, t) for a in allowed) for t in found):
            why = "pod tolerations (possibly merged with namespace default tolerations) conflict with its namespace "
            raise errors.internal(why + "whitelist")

    def _annotated(self, attributes: Attributes, key: str) -> list[core_v1.Toleration] | None:
        """What an annotation of the namespace says; None if it says nothing."""
        namespace = self.app.get("namespaces", "", attributes.namespace)
        if namespace is None:
            raise errors.not_found("namespaces", "", attributes.namespace)
        text = (namespace.metadata.annotations or {}).get(key)
        if text is None:
            return None
        if not text:
            return []
        try:
            return _tolerations(msgspec.json.decode(text))
        except (msgspec.MsgspecError, TypeError) as error:
            raise errors.internal(str(error)) from None


def _tolerations(values: Any) -> list[core_v1.Toleration]:
    return [from_dict(value, core_v1.Toleration) for value in values or ()]


def _is_guaranteed_something(pod: core_v1.Pod) -> bool:
    from podling.machinery import qos

    return qos.qos_class(pod) != "BestEffort"


def _conflict(first: list[core_v1.Toleration], second: list[core_v1.Toleration]) -> bool:
    """Whether the same taint is tolerated in two ways."""
    return any(
        (a.key, a.effect) == (b.key, b.effect) and (a.operator, a.value, a.toleration_seconds)
        != (b.operator, b.value, b.toleration_seconds)
        for a in first
        for b in second
    )  # fmt: skip


def _merged(first: list[core_v1.Toleration], second: list[core_v1.Toleration]) -> list[core_v1.Toleration]:
    """Both, without what another one covers."""
    everything = [*first, *second]
    result: list[core_v1.Toleration] = []
    for index, toleration in enumerate(everything):
        covered = any(
            _superset(other, toleration) and not (_superset(toleration, other) and index < place)
            for place, other in enumerate(everything)
            if place != index
        )
        if not covered:
            result.append(toleration)
    return result


def _superset(wide: core_v1.Toleration, narrow: core_v1.Toleration) -> bool:
    """Whether all that `narrow` tolerates, `wide` does too, as long."""
    if wide == narrow:
        return True
    if (wide.key and wide.key != narrow.key) or (not wide.key and wide.operator != "Exists"):
        return False
    if wide.effect and wide.effect != narrow.effect:
        return False
    if wide.effect == "NoExecute" and wide.toleration_seconds is not None:
        seconds = narrow.toleration_seconds
        if seconds is None or seconds > wide.toleration_seconds:
            return False
    if wide.operator == "Exists":
        return True
    return narrow.operator in (None, "", "Equal") and (wide.value or "") == (narrow.value or "")
