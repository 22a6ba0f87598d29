"""ApiClient: the typed verbs of `client.base.Client` over any transport.

In the API server's process nothing is serialised: a write hands its object to the server and reads hand back what the
server's cache holds. Over HTTPS the transport encodes and decodes. The same code runs either way.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, TypeVar, cast

import msgspec

from podling.api import meta_v1, registry
from podling.api.errors import StatusError
from podling.api.registry import Resource
from podling.api.request import LOOPBACK, Event, Request, Response, Transport, User
from podling.api.struct import ApiStruct, from_dict
from podling.client.base import ListResult, PatchType, WatchEvent

T = TypeVar("T")

#: What the server is asked for when only the metadata of objects matters.
METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
METADATA_LIST_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"


class PartialObject(ApiStruct):
    """Any object, as far as its metadata: what a read by `Resource` instead of by class gives."""

    kind: str = ""
    api_version: str = ""
    metadata: meta_v1.ObjectMeta = msgspec.field(default_factory=lambda: meta_v1.ObjectMeta())


def resource_of(kind: Any) -> Resource:
    """The registry's row of a generated class, or the row itself."""
    return kind if isinstance(kind, Resource) else registry.of(kind)


class ApiClient:
    """`client.base.Client` over `transport`.

    Wherever a kind is asked for, a `registry.Resource` may stand instead (any resource, custom ones included): what is
    read is then a `PartialObject`, or in process the server's own object, whose metadata can be read alike.
    `user` is who asks, in process only; `agent` is the User-Agent, whose first part is the default field manager.
    """

    def __init__(self, transport: Transport, *, user: User | None = LOOPBACK, agent: str = "podling") -> None:
        self.transport = transport
        self._user = user
        self._headers = {"user-agent": agent}

    def with_agent(self, agent: str) -> ApiClient:
        """A client over the same transport under another name."""
        return ApiClient(self.transport, user=self._user, agent=agent)

    def as_user(self, user: User) -> ApiClient:
        """A client over the same transport who is somebody else; in process only."""
        return ApiClient(self.transport, user=user, agent=self._headers["user-agent"])

    async def close(self) -> None:
        """Close the transport, for all clients over it."""
        await self.transport.close()

    # Reads

    async def get(self, kind: type[T], name: str, namespace: str | None = None) -> T:
        request = self._request("GET", resource_of(kind).path(name, namespace), kind)
        return cast(T, _single(await self.transport.send(request), kind))

    async def get_subresource(self, kind: Any, name: str, namespace: str | None, subresource: str, body: type[T]) -> T:
        """A subresource of another class than its parent, such as `scale`."""
        request = self._request("GET", resource_of(kind).path(name, namespace, subresource), body)
        return cast(T, _single(await self.transport.send(request), body))

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
    ) -> ListResult[T]:
        request = self._request("GET", resource_of(kind).collection_path(namespace), kind)
        request.expect_list = True
        request.query = _query(
            labelSelector=label_selector,
            fieldSelector=field_selector,
            limit=str(limit) if limit else "",
            **{"continue": continue_},
            resourceVersion=resource_version,
        )
        if isinstance(kind, Resource):
            request.headers = {**request.headers, "accept": METADATA_LIST_ONLY}
        response = await self.transport.send(request)
        meta = response.metadata or meta_v1.ListMeta()
        items = response.objects or []
        return ListResult(
            items if not isinstance(kind, Resource) else [_partial(o) for o in items],
            meta.resource_version or "",
            meta.continue_ or "",
            meta.remaining_item_count or 0,
        )

    async def watch(
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
        request = self._request("GET", resource_of(kind).collection_path(namespace), kind)
        request.query = _query(
            watch="true",
            allowWatchBookmarks="true",
            labelSelector=label_selector,
            fieldSelector=field_selector,
            resourceVersion=resource_version,
            timeoutSeconds=str(timeout_seconds) if timeout_seconds else "",
            sendInitialEvents="true" if send_initial_events else "",
            resourceVersionMatch="NotOlderThan" if send_initial_events else "",
        )
        partial = isinstance(kind, Resource)
        if partial:
            request.headers = {**request.headers, "accept": METADATA_ONLY}
        response = await self.transport.send(request)
        events = response.events
        if events is None:
            raise TypeError(f"no watch came of {request.path}")
        try:
            async for event in events:
                if event.type == "ERROR":
                    raise StatusError(_status(event))
                yield WatchEvent(event.type, _partial(event.obj) if partial else event.obj)
        finally:
            close = getattr(events, "aclose", None)
            if close is not None:
                await close()

    async def document(self, path: str, *, accept: str = "application/json") -> bytes:
        """What is at a path that is no resource, as it comes."""
        headers = {**self._headers, "accept": accept}
        response = await self.transport.send(Request("GET", path, headers=headers, user=self._user))
        return response.body or b""

    async def ask(self, path: str, query: dict[str, str]) -> Response:
        """What is at a path of no resource that podling knows, such as a metric: dicts."""
        request = self._request("GET", path, dict)
        request.query = _query(**query)
        return await self.transport.send(request)

    # Writes

    async def create(self, obj: T, *, dry_run: bool = False) -> T:
        resource = registry.of(type(obj))
        request = self._request("POST", resource.collection_path(_meta(obj).namespace), type(obj), obj)
        request.query = _query(dryRun="All" if dry_run else "")
        return cast(T, _single(await self.transport.send(request), type(obj)))

    async def update(self, obj: T, *, dry_run: bool = False) -> T:
        return await self.update_subresource(obj, "", dry_run=dry_run)

    async def update_status(self, obj: T) -> T:
        return await self.update_subresource(obj, "status")

    async def update_subresource(self, obj: T, subresource: str, *, dry_run: bool = False) -> T:
        """PUT a subresource of the object's own class: `status`, `finalize`, `approval`, `ephemeralcontainers`."""
        meta = _meta(obj)
        path = registry.of(type(obj)).path(meta.name or "", meta.namespace, subresource)
        request = self._request("PUT", path, type(obj), obj)
        request.query = _query(dryRun="All" if dry_run else "")
        return cast(T, _single(await self.transport.send(request), type(obj)))

    async def put(self, kind: Any, name: str, namespace: str | None, subresource: str, body: T) -> T:
        """PUT a subresource of another class than its parent, such as `scale`."""
        path = resource_of(kind).path(name, namespace, subresource)
        request = self._request("PUT", path, type(body), body)
        return cast(T, _single(await self.transport.send(request), type(body)))

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
    ) -> T:
        request = self._request("PATCH", resource_of(kind).path(name, namespace, subresource), kind, patch)
        request.headers = {**request.headers, "content-type": str(type)}
        request.query = _query(fieldManager=field_manager, force="true" if force else "")
        return cast(T, _single(await self.transport.send(request), kind))

    async def delete(
        self,
        kind: Any,
        name: str,
        namespace: str | None = None,
        *,
        grace_period_seconds: int | None = None,
        propagation_policy: str | None = None,
        uid: str | None = None,
        resource_version: str | None = None,
    ) -> None:
        options = meta_v1.DeleteOptions(
            grace_period_seconds=grace_period_seconds, propagation_policy=propagation_policy
        )
        if uid is not None or resource_version is not None:
            options.preconditions = meta_v1.Preconditions(uid=uid, resource_version=resource_version)
        await self.transport.send(self._request("DELETE", resource_of(kind).path(name, namespace), None, options))

    async def delete_collection(
        self,
        kind: Any,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
        propagation_policy: str | None = None,
    ) -> None:
        options = meta_v1.DeleteOptions(propagation_policy=propagation_policy)
        request = self._request("DELETE", resource_of(kind).collection_path(namespace), None, options)
        request.query = _query(labelSelector=label_selector, fieldSelector=field_selector)
        await self.transport.send(request)

    async def post(self, kind: type[Any], name: str, namespace: str | None, subresource: str, body: T) -> T:
        path = resource_of(kind).path(name, namespace, subresource)
        request = self._request("POST", path, type(body), body)
        return cast(T, _single(await self.transport.send(request), type(body), lenient=True))

    def _request(self, method: str, path: str, kind: Any, obj: Any = None) -> Request:
        expect = PartialObject if isinstance(kind, Resource) else kind
        return Request(method, path, headers=self._headers, obj=obj, user=self._user, expect=expect)


def _query(**values: str) -> dict[str, str]:
    return {name: value for name, value in values.items() if value}


def _meta(obj: Any) -> meta_v1.ObjectMeta:
    meta: meta_v1.ObjectMeta = obj.metadata
    return meta


def _single(response: Response, kind: Any, *, lenient: bool = False) -> Any:
    """The answer's object. `lenient`: some subresources answer with a Status instead (bindings, evictions)."""
    obj = response.obj
    if isinstance(kind, Resource):
        return _partial(obj)
    if isinstance(obj, kind) or lenient:
        return obj
    if isinstance(obj, dict):
        return from_dict(obj, kind)
    raise TypeError(f"expected a {kind.__name__}, got {type(obj).__name__}")


def _partial(obj: Any) -> Any:
    """Something with `.metadata` as a struct: the server may hold custom resources as plain dicts."""
    return from_dict(obj, PartialObject) if isinstance(obj, dict) else obj


def _status(event: Event) -> meta_v1.Status:
    return event.obj if isinstance(event.obj, meta_v1.Status) else from_dict(event.obj, meta_v1.Status)
