"""Who owns what: taking on what matches and is nobody's, letting go of what no longer matches.

The controller reference of an object names the one controller that manages it. A controller adopts orphans that its
selector matches and releases its own when they no longer match; before it adopts it asks the server (not the cache)
whether it still exists, so that nothing is adopted by somebody deleted.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol, TypeVar

from podling.api import errors
from podling.api.meta_v1 import OwnerReference
from podling.client.client import ApiClient
from podling.controllers.base import NotYet

T = TypeVar("T")


class Selector(Protocol):
    """What `api.selectors` makes of a label selector."""

    def matches(self, labels: dict[str, str], /) -> bool: ...


def controller_of(obj: Any) -> OwnerReference | None:
    """The reference to the managing owner."""
    for reference in obj.metadata.owner_references or ():
        if reference.controller:
            found: OwnerReference = reference
            return found
    return None


def is_controlled_by(obj: Any, owner: Any) -> bool:
    reference = controller_of(obj)
    return reference is not None and reference.uid == owner.metadata.uid


def controller_reference(owner: Any) -> OwnerReference:
    """A reference that makes `owner` the managing owner."""
    return OwnerReference(
        api_version=owner.api_version,
        kind=owner.kind,
        name=owner.metadata.name or "",
        uid=owner.metadata.uid or "",
        controller=True,
        block_owner_deletion=True,
    )


class Claim:
    """One owner's claim to objects of one kind, in one reconciliation."""

    def __init__(self, client: ApiClient, owner: Any, selector: Selector) -> None:
        self._client = client
        self._owner = owner
        self._selector = selector
        self._may_adopt: bool | None = None

    async def claim(self, candidates: Iterable[T]) -> list[T]:
        """Those of `candidates` that are the owner's, adopting and releasing on the way."""
        claimed: list[T] = []
        failures: list[errors.StatusError] = []
        for obj in candidates:
            try:
                if await self._claim_one(obj):
                    claimed.append(obj)
            except errors.StatusError as error:
                failures.append(error)
        if failures:
            raise failures[0]
        return claimed

    async def _claim_one(self, obj: Any) -> bool:
        meta, owner = obj.metadata, self._owner.metadata
        reference = controller_of(obj)
        matches = self._selector.matches(meta.labels or {})
        if reference is not None:
            if reference.uid != owner.uid:
                return False
            if matches:
                return True
            if owner.deletion_timestamp is None:
                await self._release(obj)
            return False
        if owner.deletion_timestamp is not None or not matches or meta.deletion_timestamp is not None:
            return False
        return await self._adopt(obj)

    async def _adopt(self, obj: Any) -> bool:
        if self._may_adopt is None:
            await self._ask()
        reference = controller_reference(self._owner)
        references = [
            {
                "apiVersion": reference.api_version,
                "kind": reference.kind,
                "name": reference.name,
                "uid": reference.uid,
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ]
        return await self._patch(obj, references)

    async def _release(self, obj: Any) -> None:
        await self._patch(obj, [{"$patch": "delete", "uid": self._owner.metadata.uid}])

    async def _patch(self, obj: Any, references: list[dict[str, Any]]) -> bool:
        """The uid in the patch makes it fail on a namesake. False if the object is gone."""
        meta = obj.metadata
        patch = {"metadata": {"ownerReferences": references, "uid": meta.uid}}
        try:
            await self._client.patch(type(obj), meta.name, meta.namespace, patch)
        except errors.StatusError as error:
            if errors.is_not_found(error) or error.reason == "Invalid":
                return False
            raise
        return True

    async def _ask(self) -> None:
        meta = self._owner.metadata
        fresh = await self._client.get(type(self._owner), meta.name, meta.namespace)
        what = f"{self._owner.kind} {meta.namespace}/{meta.name}"
        if fresh.metadata.uid != meta.uid:
            raise NotYet(f"original {what} is gone: got uid {fresh.metadata.uid}, wanted {meta.uid}")
        if fresh.metadata.deletion_timestamp is not None:
            raise NotYet(f"{what} has just been deleted at {fresh.metadata.deletion_timestamp}")
        self._may_adopt = True
