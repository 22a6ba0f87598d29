"""/status and /scale of custom resources."""

from __future__ import annotations

from typing import Any

import msgspec

from podling.api import autoscaling_v1, errors, meta_v1
from podling.api.errors import FieldError
from podling.apiserver.answer import Answer
from podling.apiserver.call import Call
from podling.apiserver.crd.objects import copied, make
from podling.apiserver.crd.strategy import CustomStrategy, at_path, replicas_at
from podling.apiserver.facet import Facet, Settle
from podling.apiserver.handlers import patch, read, scale, write
from podling.apiserver.strategy import Context
from podling.machinery.validation import Path, invalid

#: Stands for "there is no number of replicas", which is not the same as 0.
_UNSET = -(1 << 31)


class CustomStatus(Facet):
    """/status: nothing but the status changes, metadata neither."""

    def settle(self, call: Call) -> Settle:
        strategy = call.served.strategy

        def settle(new: Any, old: Any, context: Context) -> list[FieldError]:
            strategy.prepare_status_update(new, old, context)
            return strategy.validate_status_update(new, old)

        return settle


class CustomScale(scale.Scale):
    """/scale: the number of replicas stands where the definition says."""

    def __init__(self, strategy: CustomStrategy) -> None:
        found = strategy.scale
        assert found is not None
        self._spec, self._status = found.spec_replicas_path, found.status_replicas_path
        self._selector = found.label_selector_path or ""
        self.replicas_path = tuple(f"f:{part}" for part in self._spec.removeprefix(".").split("."))

    def show(self, obj: Any) -> autoscaling_v1.Scale:
        """As a change sees it: without a number of replicas there is `_UNSET`."""
        wanted, problem = replicas_at(obj, self._spec)
        actual, other = replicas_at(obj, self._status)
        selector = at_path(obj, self._selector)[0] if self._selector else None
        if problem or other:
            raise errors.StatusError(meta_v1.Status(status="Failure", code=500, message=problem or other))
        meta = obj.metadata
        return autoscaling_v1.Scale(
            metadata=meta_v1.ObjectMeta(
                name=meta.name,
                namespace=meta.namespace,
                uid=meta.uid,
                resource_version=meta.resource_version,
                creation_timestamp=meta.creation_timestamp,
            ),
            spec=autoscaling_v1.ScaleSpec(replicas=_UNSET if wanted is None else wanted),
            status=autoscaling_v1.ScaleStatus(
                replicas=actual or 0, selector=selector if isinstance(selector, str) and selector else None
            ),
        )

    def merge(self, old: Any, shown: autoscaling_v1.Scale) -> Any:
        wanted = (shown.spec.replicas if shown.spec is not None else None) or 0
        if wanted == _UNSET:
            raise errors.bad_request(f'the spec replicas field "{self._spec}" cannot be empty')
        if wanted < 0:
            finding = invalid(Path("spec.replicas"), wanted, "must be greater than or equal to 0")
            raise errors.invalid("Scale", "autoscaling", shown.metadata.name or "", [finding])
        meta = msgspec.structs.replace(old.metadata)
        new = make(old.kind, old.api_version, meta, copied(old.content))
        here: dict[str, Any] = new
        *parents, last = self._spec.removeprefix(".").split(".")
        for part in parents:
            here = here.setdefault(part, {})
        here[last] = wanted
        new.metadata.resource_version = shown.metadata.resource_version
        new.metadata.uid = shown.metadata.uid or new.metadata.uid
        return new

    def answer(self, answer: Answer) -> Answer:
        shown = super().answer(answer)
        found = shown.obj
        if isinstance(found, autoscaling_v1.Scale) and found.spec is not None and found.spec.replicas == _UNSET:
            raise errors.internal(f'the spec replicas field "{self._spec}" does not exist')
        return shown


STATUS = CustomStatus()


async def get_scale(call: Call) -> Answer:
    """GET /scale."""
    answer = await read.get(call)
    await call.served.ready([answer.entry] if answer.entry is not None else [])
    return _scale(call).answer(answer)


async def update_scale(call: Call) -> Answer:
    """PUT /scale."""
    return await write.update_facet(call, _scale(call))


async def patch_scale(call: Call) -> Answer:
    """PATCH /scale."""
    return await patch.patch_facet(call, _scale(call))


def _scale(call: Call) -> CustomScale:
    found = call.served.strategy.scale_facet
    assert isinstance(found, CustomScale)
    return found
