"""Subresources of pods that are writes of their own: binding, ephemeralcontainers, resize."""

from __future__ import annotations

from typing import Any

from podling.api import core_v1, errors, meta_v1
from podling.api.errors import FieldError, invalid
from podling.api.struct import clone
from podling.apiserver import body
from podling.apiserver.admission.base import CREATE, Attributes
from podling.apiserver.answer import Answer
from podling.apiserver.call import Call
from podling.apiserver.codec import StructCodec
from podling.apiserver.facet import Facet, Settle
from podling.apiserver.handlers.write import ATTEMPTS, MODIFIED, write
from podling.apiserver.strategy import Context
from podling.store.base import Conflict

_BINDING = StructCodec(core_v1.Binding, "v1")


def success() -> meta_v1.Status:
    """What subresources answer that have no object to show."""
    return meta_v1.Status(status="Success", code=201)


async def bind(call: Call) -> Answer:
    """POST pods/<name>/binding, or of a Binding: the pod goes to the node."""
    binding = body.read_object(call, _BINDING, "Binding", "v1")
    name = call.info.name or binding.metadata.name or ""
    if binding.metadata.name and binding.metadata.name != name:
        raise errors.bad_request(
            f"name in URL does not match name in Binding object: {name} != {binding.metadata.name}"
        )
    app = call.app
    pods = app.served["", "v1", "pods"]
    strategy: Any = pods.strategy
    findings = strategy.validate_binding(binding)
    if findings:
        raise invalid("Binding", "", name, findings)
    context = call.context(name)
    attributes = Attributes(
        CREATE, pods.resource, "binding", call.info.namespace, name, binding, None, call.user, context.dry_run,
        call.warnings, kind="Binding",
    )  # fmt: skip
    await app.admission.mutate(attributes)
    await app.admission.validate(attributes)
    await app.hub.current()
    for _ in range(ATTEMPTS):
        entry = pods.cache.get(f"{call.info.namespace}/{name}")
        if entry is None:
            raise errors.not_found("pods", "", name)
        pod = clone(entry.object)
        strategy.bind(pod, binding, context)
        if context.dry_run:
            return Answer(status=201, obj=success())
        pod.metadata.resource_version = None
        value = pods.stored_codec.encode(pod)
        try:
            await write(call, pods.prefix + entry.key, value, pod, entry.revision)
        except Conflict:
            await app.hub.current()
            continue
        return Answer(status=201, obj=success())
    raise errors.conflict("pods", "", name, MODIFIED)


def set_condition(status: core_v1.PodStatus, condition: core_v1.PodCondition, now: str) -> None:
    """Put in or replace a condition; its transition time only moves when its status does."""
    conditions = status.conditions = list(status.conditions or [])
    condition.last_transition_time = now
    for index, existing in enumerate(conditions):
        if existing.type == condition.type:
            if existing.status == condition.status:
                condition.last_transition_time = existing.last_transition_time
            conditions[index] = condition
            return
    conditions.append(condition)


class PodPart(Facet):
    """A pod of which only some of the spec may be written; the pod's strategy says what."""

    def __init__(self, subresource: str) -> None:
        self._subresource = subresource

    def merge(self, old: Any, shown: Any) -> Any:
        new = clone(old)
        new.metadata.resource_version = shown.metadata.resource_version
        new.metadata.uid = shown.metadata.uid or new.metadata.uid
        new.spec = shown.spec
        return new

    def settle(self, call: Call) -> Settle:
        strategy, subresource = call.served.strategy, self._subresource

        def settle(new: Any, old: Any, context: Context) -> list[FieldError]:
            strategy.prepare_subresource_update(subresource, new, old, context)
            return strategy.validate_subresource_update(subresource, new, old)

        return settle


EPHEMERAL_CONTAINERS = PodPart("ephemeralcontainers")
RESIZE = PodPart("resize")
