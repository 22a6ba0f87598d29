"""An extension API server, as sample-apiserver is one: flunders of wardle.example.com, kept in memory.

It believes X-Remote-* headers only of who shows a certificate of the front proxy, answers discovery in both forms and
OpenAPI v2 and v3, and knows create, read, list, watch, update, patch, delete and deletecollection.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from pathlib import Path
from typing import Any

from aiohttp import web

from podling.apiserver.openapi import merge
from podling.cluster.pki import Pki

GROUP, VERSION = "wardle.example.com", "v1alpha1"
BASE = f"/apis/{GROUP}/{VERSION}"
SERVICE, NAMESPACE = "sample-api", "wardle"
VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
FLUNDER = "com.example.wardle.v1alpha1.Flunder"


def flunder(name: str, **more: Any) -> dict[str, Any]:
    meta = {"name": name, **more.pop("meta", {})}
    return {"apiVersion": f"{GROUP}/{VERSION}", "kind": "Flunder", "metadata": meta, **more}


class Extension:
    """`front_proxy` is the CA (PEM) whose certificates are believed.

    `aggregated`, `v3` and `verbs` say what it can do; `failing` with what status it answers everything, if it does.
    """

    def __init__(self, directory: Path, front_proxy: bytes) -> None:
        self.aggregated = True
        self.v3 = True
        self.verbs = list(VERBS)
        self.failing = 0
        self.objects: dict[str, dict[str, Any]] = {}
        #: Every request as it came: (method, path, headers).
        self.seen: list[tuple[str, str, Any]] = []
        self.port = 0
        self._watchers: set[tuple[str, asyncio.Queue[dict[str, Any]]]] = set()
        self._revision = 0
        directory.mkdir(exist_ok=True)
        self.pki = Pki(directory / "extension-pki", "wardle")
        self._serving = self.pki.serving("wardle", "wardle", dns=[f"{SERVICE}.{NAMESPACE}.svc"])
        self._trusted = directory / "front-proxy.crt"
        self._trusted.write_bytes(front_proxy)
        self._runner: web.ServerRunner | None = None

    @property
    def bundle(self) -> str:
        """What an APIService's caBundle has to be."""
        return base64.b64encode(self.pki.ca.certificate).decode()

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._serving.certificate_path, self._serving.key_path)
        context.load_verify_locations(self._trusted)
        context.verify_mode = ssl.CERT_OPTIONAL
        self._runner = web.ServerRunner(web.Server(self._handle), shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port or self.port, ssl_context=context, reuse_address=True)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]

    async def close(self) -> None:
        for _, queue in self._watchers:
            queue.put_nowait({})
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    # Requests

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.seen.append((request.method, request.rel_url.path_qs, request.headers.copy()))
        if self.failing:
            return web.Response(status=self.failing, text="I am not well")
        assert request.transport is not None
        certificate = request.transport.get_extra_info("peercert") or {}
        subject = {key: value for part in certificate.get("subject", ()) for key, value in part}
        if subject.get("commonName") != "front-proxy-client" or not request.headers.get("X-Remote-User"):
            return _status(401, "Unauthorized", "Unauthorized")
        path = request.path
        if path in ("/apis", f"/apis/{GROUP}", BASE) or path.startswith("/openapi/"):
            return self._document(request, path)
        parts = path.removeprefix(BASE).strip("/").split("/")
        if not path.startswith(BASE) or "flunders" not in parts:
            return _status(404, "NotFound", "the server could not find the requested resource")
        namespace = parts[1] if parts[0] == "namespaces" else ""
        rest = parts[parts.index("flunders") + 1 :]
        if rest[1:] == ["elsewhere"]:
            return web.Response(status=302, headers={"Location": "https://example.com/"})
        if rest[1:] == ["echo"]:
            return await _echo(request)
        return await self._resource(request, namespace, rest[0] if rest else "")

    async def _resource(self, request: web.BaseRequest, namespace: str, name: str) -> web.StreamResponse:
        method, key = request.method, f"{namespace}/{name}"
        if method == "GET" and not name:
            if request.query.get("watch") in ("1", "true"):
                return await self._watch(request, namespace)
            return web.json_response(self._list(namespace))
        if method == "POST":
            obj = await request.json()
            name = obj["metadata"].get("name") or f"{obj['metadata']['generateName']}x"
            if f"{namespace}/{name}" in self.objects:
                message = f'flunders.{GROUP} "{name}" already exists'
                return _status(409, "AlreadyExists", message)
            obj["metadata"] |= {"name": name, "namespace": namespace, "uid": f"uid-{len(self.seen)}"}
            obj["metadata"].setdefault("creationTimestamp", "2026-01-01T00:00:00Z")
            return web.json_response(self._put("ADDED", obj), status=201)
        if method == "DELETE" and not name:
            if "deletecollection" not in self.verbs:
                return _status(
                    405, "MethodNotAllowed", "the server does not allow this method on the requested resource"
                )
            for other in [o for o in self.objects.values() if namespace in ("", o["metadata"]["namespace"])]:
                self._remove(other)
            return web.json_response({"kind": "Status", "apiVersion": "v1", "status": "Success"})
        found = self.objects.get(key)
        if found is None:
            return _status(404, "NotFound", f'flunders.{GROUP} "{name}" not found')
        if method == "DELETE":
            self._remove(found)
            return web.json_response({"kind": "Status", "apiVersion": "v1", "status": "Success"})
        if method in ("PUT", "PATCH"):
            new = await request.json()
            if method == "PATCH":
                new = _merged(found, new)
            else:
                new["metadata"] = {**found["metadata"], **new["metadata"]}
            return web.json_response(self._put("MODIFIED", new))
        return web.json_response(found)

    def _list(self, namespace: str) -> dict[str, Any]:
        items = [o for o in self.objects.values() if namespace in ("", o["metadata"]["namespace"])]
        meta = {"resourceVersion": str(self._revision)}
        return {"kind": "FlunderList", "apiVersion": f"{GROUP}/{VERSION}", "metadata": meta, "items": items}

    def _put(self, event: str, obj: dict[str, Any]) -> dict[str, Any]:
        self._revision += 1
        obj["metadata"]["resourceVersion"] = str(self._revision)
        self.objects[f"{obj['metadata']['namespace']}/{obj['metadata']['name']}"] = obj
        self._tell(event, obj)
        return obj

    def _remove(self, obj: dict[str, Any]) -> None:
        meta = obj["metadata"]
        if meta.get("finalizers"):
            meta["deletionTimestamp"] = "2026-01-01T00:00:00Z"
            self._put("MODIFIED", obj)
            return
        self._revision += 1
        self.objects.pop(f"{meta['namespace']}/{meta['name']}", None)
        self._tell("DELETED", obj)

    def _tell(self, event: str, obj: dict[str, Any]) -> None:
        if event == "MODIFIED" and obj["metadata"].get("deletionTimestamp") and not obj["metadata"].get("finalizers"):
            self._remove(obj)
            return
        for namespace, queue in self._watchers:
            if namespace in ("", obj["metadata"]["namespace"]):
                queue.put_nowait({"type": event, "object": obj})

    async def _watch(self, request: web.BaseRequest, namespace: str) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        watcher = (namespace, asyncio.Queue[dict[str, Any]]())
        self._watchers.add(watcher)
        try:
            while event := await watcher[1].get():
                await response.write(json.dumps(event).encode() + b"\n")
        finally:
            self._watchers.discard(watcher)
        return response

    def watched(self, namespace: str = "") -> bool:
        """Whether somebody watches a namespace; without one, whether somebody watches all of them."""
        return any(watched == namespace for watched, _ in self._watchers)

    # Documents

    def _document(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        if path == "/apis":
            if self.aggregated and "as=APIGroupDiscoveryList" in request.headers.get("Accept", ""):
                etag = f'"{len(self.verbs)}"'
                if request.headers.get("If-None-Match") == etag:
                    return web.Response(status=304, headers={"ETag": etag})
                body = json.dumps(self._discovery()).encode()
                return web.Response(body=body, headers={"Content-Type": AGGREGATED, "ETag": etag})
            return web.json_response({"kind": "APIGroupList", "apiVersion": "v1", "groups": []})
        if path == BASE:
            resource = {"name": "flunders", "singularName": "flunder", "namespaced": True, "kind": "Flunder"}
            resources = [{**resource, "verbs": self.verbs, "shortNames": ["fl"]}]
            group_version = f"{GROUP}/{VERSION}"
            found = {
                "kind": "APIResourceList",
                "apiVersion": "v1",
                "groupVersion": group_version,
                "resources": resources,
            }
            return web.json_response(found)
        if path == "/openapi/v2":
            return web.json_response(self._swagger())
        if path == "/openapi/v3" and self.v3:
            url = f"/openapi/v3{BASE}?hash=ABC"
            return web.json_response({"paths": {BASE.lstrip("/"): {"serverRelativeURL": url}}})
        if path == f"/openapi/v3{BASE}" and self.v3:
            document = merge.to_v3(merge.only_below(self._swagger(), f"{BASE}/"))
            return web.json_response(document, headers={"ETag": '"ABC"'})
        return _status(404, "NotFound", "the server could not find the requested resource")

    def _discovery(self) -> dict[str, Any]:
        kind = {"group": GROUP, "version": VERSION, "kind": "Flunder"}
        resource = {
            "resource": "flunders",
            "responseKind": kind,
            "scope": "Namespaced",
            "singularResource": "flunder",
            "shortNames": ["fl"],
            "verbs": self.verbs,
        }
        versions = [{"version": VERSION, "resources": [resource], "freshness": "Current"}]
        items = [{"metadata": {"name": GROUP, "creationTimestamp": None}, "versions": versions}]
        return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}

    def _swagger(self) -> dict[str, Any]:
        kind = {"group": GROUP, "version": VERSION, "kind": "Flunder"}
        spec = {"type": "object", "properties": {"reference": {"type": "string", "description": "What it refers to."}}}
        definition = {
            "description": "A flounder.",
            "type": "object",
            "properties": {
                "apiVersion": {"type": "string"},
                "kind": {"type": "string"},
                "metadata": {"$ref": "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"},
                "spec": spec,
            },
            "x-kubernetes-group-version-kind": [kind],
        }
        strings = {"type": "object", "additionalProperties": {"type": "string"}}
        one = {"type": "string"}
        properties = {"name": one, "namespace": one, "labels": strings, "annotations": strings}
        meta = {"type": "object", "description": "As Wardle has it.", "properties": properties}
        ok = {"200": {"description": "OK", "schema": {"$ref": f"#/definitions/{FLUNDER}"}}}
        body = {"name": "body", "in": "body", "required": True, "schema": {"$ref": f"#/definitions/{FLUNDER}"}}
        path = f"{BASE}/namespaces/{{namespace}}/flunders"
        more = {"x-kubernetes-group-version-kind": kind}
        get = {"operationId": "read", "responses": ok, "x-kubernetes-action": "get", **more}
        put = {"operationId": "replace", "parameters": [body], "responses": ok, "x-kubernetes-action": "put", **more}
        post = {**put, "operationId": "create", "x-kubernetes-action": "post"}
        return {
            "swagger": "2.0",
            "info": {"title": "wardle", "version": "1"},
            "paths": {
                path: {"post": post},
                f"{path}/{{name}}": {"get": get, "put": put, "parameters": [{"$ref": "#/parameters/pretty-1"}]},
                "/version/": {"get": {"responses": {}}},
            },
            "definitions": {
                FLUNDER: definition,
                "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta": meta,
                "unused": {"type": "object"},
            },
            "parameters": {"pretty-1": {"name": "pretty", "in": "query", "type": "string", "uniqueItems": True}},
        }


def _status(code: int, reason: str, message: str) -> web.Response:
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": message,
    }
    return web.json_response(body, status=code)


def _merged(old: Any, patch: Any) -> Any:
    """A JSON merge patch."""
    if not isinstance(patch, dict):
        return patch
    old = dict(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            old.pop(key, None)
        else:
            old[key] = _merged(old.get(key), value)
    return old


async def _echo(request: web.BaseRequest) -> web.StreamResponse:
    """A WebSocket that says what it hears."""
    if request.headers.get("Upgrade", "").lower() != "websocket":
        return _status(400, "BadRequest", "Upgrade request required")
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        await socket.send_str(f"{request.headers['X-Remote-User']}: {message.data}")
    return socket
