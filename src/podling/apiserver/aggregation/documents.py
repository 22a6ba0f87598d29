"""What other servers say of themselves: their discovery and OpenAPI documents, fetched and kept.

A server is asked when its APIService comes or changes, and every minute after that; a failure is repeated sooner, after
half a second at first. While nothing comes, its resources are not shown and its version counts as stale; of OpenAPI
the last that was heard stays. Source: kube-aggregator's handler_discovery, controllers/openapi, controllers/openapiv3.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any
from urllib.parse import urlencode

import msgspec

from podling import log
from podling.api.request import Request, User
from podling.api.struct import encode
from podling.apiserver.aggregation import relay
from podling.apiserver.aggregation.remote import AGGREGATOR, Remote, Unreachable
from podling.apiserver.answer import Answer
from podling.apiserver.discovery import Discovery
from podling.apiserver.openapi import merge
from podling.apiserver.openapi.document import OpenApi, cached
from podling.client.workqueue import WorkQueue

LOG = log.get(__name__)

#: Seconds between two looks at a server, which is also the longest wait after a failure.
INTERVAL = 60.0
FIRST_RETRY = 0.5
DISCOVERY_TIMEOUT, OPENAPI_TIMEOUT = 5.0, 60.0
WORKERS = 2

#: As whom OpenAPI documents are asked for.
_READER = User("system:aggregator")
_AGGREGATED = (
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,"
    "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json"
)
#: Headers of an OpenAPI document that are for the client.
_SHOWN = ("etag", "vary", "expires", "last-modified", "cache-control")

_decode = msgspec.json.Decoder().decode


class _Known:
    """What is known of one group version. `v3` is its server's index, None if it has none."""

    def __init__(self) -> None:
        self.etag = ""
        self.entry: dict[str, Any] | None = None
        self.v2_etag = ""
        self.v2: dict[str, Any] | None = None
        self.v3: dict[str, Any] | None = None
        #: Made from v2, for a server without v3.
        self.converted: bytes | None = None


class Documents:
    """`openapi.document.Others`. `changed` when an APIService has come or changed, `gone` when it has gone."""

    def __init__(self, discovery: Discovery, openapi: OpenApi) -> None:
        self._discovery = discovery
        self._openapi = openapi
        self._remotes: dict[str, Remote] = {}
        self._known: dict[str, _Known] = {}
        self._queue: WorkQueue[str] = WorkQueue(name="open_api_aggregation_controller", base=FIRST_RETRY, most=INTERVAL)
        self._workers: list[asyncio.Task[None]] = []

    def changed(self, remote: Remote) -> None:
        before = self._remotes.get(remote.name)
        self._remotes[remote.name] = remote
        if before is None:
            self._known[remote.name] = _Known()
            self._show(remote, None)
        elif before.service != remote.service:
            # Another server's marks mean nothing here.
            self._known[remote.name].etag = self._known[remote.name].v2_etag = ""
        if not self._workers:
            loop = asyncio.get_running_loop()
            self._workers = [
                loop.create_task(self._queue.serve(self._sync, self._failed), name=f"aggregation {n}")
                for n in range(WORKERS)
            ]
        self._queue.forget(remote.name)
        self._queue.add(remote.name)

    def gone(self, remote: Remote) -> None:
        self._remotes.pop(remote.name, None)
        self._known.pop(remote.name, None)
        self._discovery.remote.pop((remote.group, remote.version), None)
        self._discovery.forget()
        self._openapi.forget()

    async def close(self) -> None:
        self._queue.shutdown()
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)

    # Work

    async def _sync(self, name: str) -> None:
        remote = self._remotes.get(name)
        if remote is not None:
            await self._look(remote, self._known[name])
            self._queue.add_after(name, INTERVAL)

    def _failed(self, name: str, error: Exception) -> None:
        if isinstance(error, Unreachable):
            LOG.debug("the documents of %s can't be had, trying again: %s", name, error)
        else:
            LOG.error("the documents of %s can't be read, trying again", name, exc_info=error)

    async def _look(self, remote: Remote, known: _Known) -> None:
        try:
            entry: dict[str, Any] | None = await self._discover(remote, known)
        except Unreachable:
            known.etag, known.entry = "", None
            self._show(remote, None)
            raise
        self._show(remote, entry)
        if remote.available:
            # A server that is not well keeps what it published; it comes here again when it is.
            await self._read_openapi(remote, known)

    # Discovery

    async def _discover(self, remote: Remote, known: _Known) -> dict[str, Any]:
        """The entry of the group version. Raises Unreachable."""
        asked = {"Accept": _AGGREGATED, **({"If-None-Match": known.etag} if known.etag else {})}
        status, headers, body = await relay.fetch(
            remote, "/apis", AGGREGATOR, asked, timeout=DISCOVERY_TIMEOUT, probing=True
        )
        if status == 304 and known.entry is not None:
            return known.entry
        if status == 503:
            where = f"{remote.service.namespace}/{remote.service.name}"
            raise Unreachable(f"service {where} returned non-success response code: {status}")
        if status == 200 and _is_aggregated(headers.get("content-type", "")):
            known.etag = headers.get("etag", "")
            known.entry = _entry_of(_json(body, "discovery"), remote)
            return known.entry
        status, _, body = await relay.fetch(
            remote,
            remote.path,
            User(AGGREGATOR.name),
            {"Accept": "application/json"},
            timeout=DISCOVERY_TIMEOUT,
            probing=True,
        )
        if status != 200:
            text = body[:1024].decode("utf-8", "replace")
            raise Unreachable(f"failed to download legacy discovery for {remote.path}: {text}")
        return {"version": remote.version, "resources": from_legacy(_json(body, remote.path).get("resources") or [])}

    def _show(self, remote: Remote, entry: dict[str, Any] | None) -> None:
        """Of what is not known the version is shown, and that it is stale."""
        shown = {"version": remote.version, **(entry or {}), "freshness": "Current" if entry is not None else "Stale"}
        discovery, key = self._discovery, (remote.group, remote.version)
        if self._remotes.get(remote.name) is remote and discovery.remote.get(key) != shown:
            discovery.remote[key] = shown
            discovery.forget()

    # OpenAPI

    async def _read_openapi(self, remote: Remote, known: _Known) -> None:
        status, _, body = await relay.fetch(remote, "/openapi/v3", _READER, {}, timeout=OPENAPI_TIMEOUT)
        if status not in (200, 404):
            raise Unreachable("Error, could not get list of group versions for APIService")
        known.v3 = _json(body, "/openapi/v3").get("paths") or {} if status == 200 else None
        asked = {"Accept": "application/json", **({"If-None-Match": known.v2_etag} if known.v2_etag else {})}
        status, headers, body = await relay.fetch(remote, "/openapi/v2", _READER, asked, timeout=OPENAPI_TIMEOUT)
        if status == 304:
            return
        if status not in (200, 404):
            raise Unreachable(f"failed to retrieve openAPI spec, http error: {status}")
        known.v2_etag = headers.get("etag", "") if status == 200 else ""
        before, known.v2 = known.v2, None
        if status == 200:
            document = _json(body, "/openapi/v2")
            known.v2 = {**merge.only_below(document, f"{remote.path}/"), "info": document.get("info")}
        known.converted = encode(merge.to_v3(known.v2)) if known.v3 is None and known.v2 is not None else None
        if known.v2 != before:
            self._openapi.forget()

    def merge_into(self, swagger: dict[str, Any]) -> None:
        for remote in sorted(self._remotes.values(), key=_merge_order):
            v2 = self._known[remote.name].v2
            if v2 is not None:
                merge.merge(swagger, v2)

    def v3_paths(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, remote in self._remotes.items():
            known = self._known[name]
            found.update(known.v3 or {})
            if known.converted is not None:
                path = remote.path.lstrip("/")
                digest = hashlib.sha256(known.converted).hexdigest().upper()
                found[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={digest}"}
        return found

    async def v3(self, path: str, request: Request, user: User) -> Answer | None:
        for name, remote in self._remotes.items():
            known = self._known[name]
            if known.converted is not None and path == remote.path.lstrip("/"):
                return cached(request, known.converted, "application/json", forever="hash" in request.query)
            if known.v3 is not None and path in known.v3:
                return await self._passed_on(remote, path, request, user)
        return None

    async def _passed_on(self, remote: Remote, path: str, request: Request, user: User) -> Answer:
        asked = {"Accept": request.headers.get("accept", "application/json")}
        if etag := request.headers.get("if-none-match"):
            asked["If-None-Match"] = etag
        target = f"/openapi/v3/{path}"
        if "hash" in request.query:
            target += f"?{urlencode({'hash': request.query['hash']})}"
        try:
            status, headers, body = await relay.fetch(remote, target, user, asked, timeout=OPENAPI_TIMEOUT)
        except Unreachable as error:
            return Answer(status=error.code, body=f"{error}\n".encode(), headers={"content-type": "text/plain"})
        shown = {name: headers[name] for name in _SHOWN if name in headers}
        return Answer(
            status=status, body=body, headers={"content-type": headers.get("content-type", "application/json"), **shown}
        )


def _json(body: bytes, what: str) -> dict[str, Any]:
    try:
        found = _decode(body)
    except msgspec.MsgspecError as error:
        raise Unreachable(f"{what} is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise Unreachable(f"{what} is no JSON object")
    return found


def _is_aggregated(content_type: str) -> bool:
    parameters = {p.strip() for p in content_type.split(";")}
    return {"g=apidiscovery.k8s.io", "as=APIGroupDiscoveryList"} <= parameters and not parameters.isdisjoint(
        {"v=v2", "v=v2beta1"}
    )


def _entry_of(document: dict[str, Any], remote: Remote) -> dict[str, Any]:
    """What an aggregated document says of the group version; nothing but its name if it says nothing."""
    for group in document.get("items") or []:
        if (group.get("metadata") or {}).get("name", "") != remote.group:
            continue
        for version in group.get("versions") or []:
            if version.get("version") == remote.version:
                for resource in version.get("resources") or []:
                    # Old clients expect it.
                    resource.setdefault("responseKind", {"group": "", "version": "", "kind": ""})
                return {k: v for k, v in version.items() if k != "freshness"}
    return {"version": remote.version}


def from_legacy(listed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The resources of an APIResourceList as aggregated discovery shows them."""
    found: dict[str, dict[str, Any]] = {}
    for r in listed:
        if "/" not in r["name"]:
            found[r["name"]] = {
                "resource": r["name"],
                "responseKind": _kind(r),
                "scope": _scope(r),
                "singularResource": r.get("singularName", ""),
                "verbs": r.get("verbs") or [],
                **{key: r[key] for key in ("shortNames", "categories") if r.get(key)},
            }
    for r in listed:
        name, slash, subresource = r["name"].partition("/")
        if slash:
            parent = {
                "resource": name,
                "responseKind": _kind({}),
                "scope": _scope(r),
                "singularResource": "",
                "verbs": [],
            }
            shown = {"subresource": subresource, "responseKind": _kind(r), "verbs": r.get("verbs") or []}
            found.setdefault(name, parent).setdefault("subresources", []).append(shown)
    return list(found.values())


def _kind(r: dict[str, Any]) -> dict[str, str]:
    return {"group": r.get("group", ""), "version": r.get("version", ""), "kind": r.get("kind", "")}


def _scope(r: dict[str, Any]) -> str:
    return "Namespaced" if r.get("namespaced") else "Cluster"


def _merge_order(remote: Remote) -> tuple[int, int, str]:
    """Whose definitions keep their names."""
    return -remote.spec.group_priority_minimum, -remote.spec.version_priority, remote.name
