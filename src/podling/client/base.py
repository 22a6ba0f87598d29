"""The client: typed verbs over a transport. Controllers, scheduler and node agent know the API server only by this.

`Client` is the same in the API server's process (objects handed over as they are) and over HTTPS. What it returns may
be shared with the server's cache: read-only; `clone()` before you change it. What is given to a write is taken over by
the server: don't change it afterwards.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from enum import StrEnum
from typing import Any, Generic, Protocol, TypeVar

import msgspec

T = TypeVar("T")


class PatchType(StrEnum):
    """Content types of PATCH."""

    JSON = "application/json-patch+json"
    MERGE = "application/merge-patch+json"
    STRATEGIC = "application/strategic-merge-patch+json"
    APPLY = "application/apply-patch+yaml"


class ListResult(msgspec.Struct, Generic[T], frozen=True):
    """`resource_version` is where a watch goes on; `continue_` is the token of the next page, "" on the last."""

    items: list[T]
    resource_version: str
    continue_: str = ""
    remaining: int = 0


class WatchEvent(msgspec.Struct, Generic[T], frozen=True):
    """`type` is ADDED, MODIFIED, DELETED or BOOKMARK (then only metadata.resourceVersion and annotations count)."""

    type: str
    object: T


class Client(Protocol):
    """All methods raise `api.errors.StatusError`. `kind` is a generated class, such as `core_v1.Pod`."""

    async def get(self, kind: type[T], name: str, namespace: str | None = None) -> T: ...

    async def list(
        self,
        kind: type[T],
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
        limit: int = 0,
        continue_: str = "",
        resource_version: str = "",
    ) -> ListResult[T]: ...

    def watch(
        self,
        kind: type[T],
        namespace: str | None = None,
        *,
        resource_version: str = "",
        label_selector: str = "",
        field_selector: str = "",
        send_initial_events: bool = False,
        timeout_seconds: int = 0,
    ) -> AsyncIterator[WatchEvent[T]]:
        """Events until the server ends the watch. An ERROR event is raised as StatusError (410 Expired, ...)."""

    async def create(self, obj: T, *, dry_run: bool = False) -> T: ...

    async def update(self, obj: T, *, dry_run: bool = False) -> T: ...

    async def update_status(self, obj: T) -> T: ...

    async def patch(
        self,
        kind: type[T],
        name: str,
        namespace: str | None,
        patch: Any,
        *,
        type: PatchType = PatchType.STRATEGIC,
        subresource: str = "",
        field_manager: str = "",
        force: bool = False,
    ) -> T: ...

    async def delete(
        self,
        kind: type[Any],
        name: str,
        namespace: str | None = None,
        *,
        grace_period_seconds: int | None = None,
        propagation_policy: str | None = None,
        uid: str | None = None,
        resource_version: str | None = None,
    ) -> None: ...

    async def delete_collection(
        self, kind: type[Any], namespace: str | None = None, *, label_selector: str = "", field_selector: str = ""
    ) -> None: ...

    async def post(self, kind: type[Any], name: str, namespace: str | None, subresource: str, body: T) -> T:
        """Create a subresource: pods/binding, pods/eviction, serviceaccounts/token, ..."""
