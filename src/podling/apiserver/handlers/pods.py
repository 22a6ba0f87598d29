"""Subresources of pods that are writes of their own: binding, ephemeralcontainers, resize."""

from __future__ import annotations

from typing import Any

from podling.api import core_v1, errors, meta_v1, times
from podling.api.errors import FieldError, StatusError, invalid
from podling.api.struct import clone
from podling.apiserver import body
from podling.apiserver.admission.base import CREATE, Attributes
from podling.apiserver.call import Answer, Call
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
    findings = _binding_findings(binding)
    if findings:
        raise invalid("Binding", "", name, findings)
    app = call.app
    pods = app.served["", "v1", "pods"]
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
        pod = assigned(entry.object, binding, times.format(context.now))
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


def _binding_findings(binding: core_v1.Binding) -> list[FieldError]:
    found = []
    target = binding.target
    if target.kind not in (None, "", "Node"):
        why = f'Unsupported value: "{target.kind}": supported values: "Node", "<empty>"'
        found.append(FieldError("FieldValueNotSupported", "target.kind", why))
    if not target.name:
        found.append(FieldError("FieldValueRequired", "target.name", "Required value"))
    return found


def assigned(old: core_v1.Pod, binding: core_v1.Binding, now: str) -> core_v1.Pod:
    """The pod on the binding's node. StatusError 409 if it can't go there."""
    name, meta = old.metadata.name or "", binding.metadata

    def refuse(why: str) -> StatusError:
        return errors.conflict("pods/binding", "", name, why)

    if meta.uid and meta.uid != old.metadata.uid:
        raise refuse(f"Precondition failed: UID in precondition: {meta.uid}, UID in object meta: {old.metadata.uid}")
    if meta.resource_version and meta.resource_version != old.metadata.resource_version:
        raise refuse(
            f"Precondition failed: ResourceVersion in precondition: {meta.resource_version}, ResourceVersion in object "
            f"meta: {old.metadata.resource_version}"
        )
    if old.metadata.deletion_timestamp:
        raise refuse(f"pod {name} is being deleted, cannot be assigned to a host")
    if old.spec is not None and old.spec.node_name:
        raise refuse(f'pod {name} is already assigned to node "{old.spec.node_name}"')
    if old.spec is not None and old.spec.scheduling_gates:
        raise refuse(f"pod {name} has non-empty .spec.schedulingGates")
    pod = clone(old)
    assert pod.spec is not None
    pod.spec.node_name = binding.target.name
    if meta.annotations:
        pod.metadata.annotations = {**(pod.metadata.annotations or {}), **meta.annotations}
    if meta.labels:
        pod.metadata.labels = {**(pod.metadata.labels or {}), **meta.labels}
    if pod.metadata.generation:
        pod.metadata.generation += 1
    status = pod.status = pod.status or core_v1.PodStatus()
    set_condition(status, core_v1.PodCondition(type="PodScheduled", status="True"), now)
    return pod


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
    """A pod of which only some of the spec may be written; findings come from the pod's strategy."""

    def __init__(self, subresource: str) -> None:
        self._subresource = subresource

    def merge(self, old: Any, shown: Any) -> Any:
        new = clone(old)
        new.metadata.resource_version = shown.metadata.resource_version
        new.metadata.uid = shown.metadata.uid or new.metadata.uid
        self.take(new.spec, shown.spec)
        return new

    def take(self, spec: core_v1.PodSpec, given: core_v1.PodSpec) -> None:
        """Bring over what may be written."""

    def settle(self, call: Call) -> Settle:
        strategy, subresource = call.served.strategy, self._subresource

        def settle(new: Any, old: Any, context: Context) -> list[FieldError]:
            strategy.prepare_subresource_update(subresource, new, old, context)
            return strategy.validate_subresource_update(subresource, new, old)

        return settle


class EphemeralContainers(PodPart):
    """/ephemeralcontainers."""

    def take(self, spec: core_v1.PodSpec, given: core_v1.PodSpec) -> None:
        spec.ephemeral_containers = given.ephemeral_containers


class Resize(PodPart):
    """/resize: the resources of containers, nothing else of them."""

    def take(self, spec: core_v1.PodSpec, given: core_v1.PodSpec) -> None:
        for mine, theirs in (
            (spec.containers, given.containers),
            (spec.init_containers or [], given.init_containers or []),
        ):
            wanted = {c.name: c for c in theirs}
            for container in mine:
                if (other := wanted.get(container.name)) is not None:
                    container.resources = other.resources
                    container.resize_policy = other.resize_policy
        if given.resources is not None:
            spec.resources = given.resources


EPHEMERAL_CONTAINERS = EphemeralContainers("ephemeralcontainers")
RESIZE = Resize("resize")
