"""The OpenAPI documents: put together when they are first asked for, and kept until what is served changes."""

from __future__ import annotations

import hashlib
import re
from typing import Any, Protocol

from podling.api import errors, meta_v1, registry
from podling.api.registry import Resource
from podling.api.request import Request, User
from podling.api.struct import encode
from podling.apiserver.answer import Answer
from podling.apiserver.core import Core
from podling.apiserver.negotiate import choose, not_acceptable
from podling.apiserver.openapi import gnostic, paths, schemas
from podling.apiserver.openapi.paths import Operation
from podling.apiserver.openapi.schemas import Definitions, Schema
from podling.apiserver.request_info import RequestInfo
from podling.apiserver.version import version_info

V2_PROTOBUF = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
#: What an answer in it is called: the name above is none that a strict parser of media types takes.
_V2_PROTOBUF_ANSWER = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
_JSON_TYPES = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"]
_STREAM_TYPES = [*_JSON_TYPES, "application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch"]
_PATCH_TYPES = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
]
_PLACEHOLDER = re.compile(r"\{(\w+)\}")


class Others(Protocol):
    """What other servers publish of the group versions that they serve (`aggregation.documents`)."""

    def merge_into(self, swagger: dict[str, Any]) -> None:
        """Add their paths and definitions to a v2 document."""

    def v3_paths(self) -> dict[str, Any]:
        """Their entries of the v3 index."""

    async def v3(self, path: str, request: Request, user: User) -> Answer | None:
        """One of their v3 documents, None if it is none of theirs."""


class OpenApi:
    """Answers /openapi/v2 and /openapi/v3."""

    def __init__(self, app: Core) -> None:
        self._app = app
        self._made: dict[str, bytes] = {}
        self._generation = -1
        #: None while this server is the only one.
        self.others: Others | None = None
        app.paths["/openapi/v2"] = self._v2
        app.paths["/openapi/v3"] = self._v3_index
        app.paths["/openapi/v3/"] = self._v3

    def forget(self) -> None:
        """Make the merged document anew when it is asked for: another server's has changed."""
        for name in ("v2", "v2.pb"):
            self._made.pop(name, None)

    def _document(self, name: str) -> bytes:
        if self._generation != self._app.generation:
            self._made.clear()
            self._generation = self._app.generation
        made = self._made.get(name)
        if made is None:
            made = self._made[name] = self._make(name)
            schemas.forget_prose()
        return made

    def _make(self, name: str) -> bytes:
        if name == "v2":
            return encode(self._swagger())
        if name == "v2.pb":
            return gnostic.document(self._swagger())
        return encode(self._openapi(name))

    # v2

    async def _v2(self, request: Request, info: RequestInfo, user: User) -> Answer:
        forms = ("application/json", V2_PROTOBUF, _V2_PROTOBUF_ANSWER)
        media = choose(request.headers.get("accept", ""), forms, lambda *_: True)
        if media is None:
            raise not_acceptable(forms)
        if media.type == "application/json":
            return cached(request, self._document("v2"), media.type)
        return cached(request, self._document("v2.pb"), _V2_PROTOBUF_ANSWER)

    def _swagger(self) -> dict[str, Any]:
        definitions = self._definitions(2)
        operations: dict[str, Any] = {}
        for resource in self._resources():
            for path, found in paths.of(resource).items():
                operations[path] = {
                    **{o.method: self._operation2(o, definitions) for o in found},
                    "parameters": [_path_parameter(p, 2) for p in _PLACEHOLDER.findall(path)] + [_option("pretty", 2)],
                }
        definitions.add(meta_v1.DeleteOptions)
        definitions.add(meta_v1.Status)
        swagger = {
            "swagger": "2.0",
            "info": {"title": "Kubernetes", "version": version_info().git_version},
            "paths": dict(sorted(operations.items())),
            "definitions": dict(sorted(definitions.schemas.items())),
        }
        if self.others is not None:
            self.others.merge_into(swagger)
        return swagger

    def _operation2(self, o: Operation, definitions: Definitions) -> dict[str, Any]:
        parameters = [_option(p, 2) for p in o.options]
        if o.body is not None:
            body = _schema_of(o.body, definitions)
            parameters = [{"name": "body", "in": "body", "required": o.method != "delete", "schema": body}, *parameters]
        ok: dict[str, Any] = {"description": "OK"}
        if o.answer is not None:
            ok["schema"] = _schema_of(o.answer, definitions)
        result: dict[str, Any] = {
            "description": o.summary,
            "operationId": o.id,
            "consumes": _patch_types(o, definitions) if o.method == "patch" else ["*/*"],
            "produces": _STREAM_TYPES if o.action == "list" else _JSON_TYPES,
            "schemes": ["https"],
            "tags": [_tag(o)],
            "parameters": parameters,
            "responses": {"200": ok, "401": {"description": "Unauthorized"}},
            **paths.extensions(o),
        }
        return result

    # v3

    async def _v3_index(self, request: Request, info: RequestInfo, user: User) -> Answer:
        found = self.others.v3_paths() if self.others is not None else {}
        for group, version in self._group_versions():
            path = f"apis/{group}/{version}" if group else f"api/{version}"
            found[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={self._hash(group, version)}"}
        return cached(request, encode({"paths": found}), "application/json")

    async def _v3(self, request: Request, info: RequestInfo, user: User) -> Answer:
        path = info.path.removeprefix("/openapi/v3/").strip("/")
        known = {f"apis/{g}/{v}" if g else f"api/{v}" for g, v in self._group_versions()}
        if path not in known:
            theirs = await self.others.v3(path, request, user) if self.others is not None else None
            if theirs is None:
                raise errors.path_not_found()
            return theirs
        return cached(request, self._document(path), "application/json", forever="hash" in request.query)

    def _openapi(self, path: str) -> dict[str, Any]:
        *_, group, version = ["", *path.split("/")] if path.startswith("apis/") else ["", "", path.rpartition("/")[2]]
        definitions = self._definitions(3, group, version)
        operations: dict[str, Any] = {}
        for resource in self._resources():
            if (resource.group, resource.version) != (group, version):
                continue
            for at, found in paths.of(resource).items():
                operations[at] = {
                    "parameters": [_path_parameter(p, 3) for p in _PLACEHOLDER.findall(at)] + [_option("pretty", 3)],
                    **{o.method: self._operation3(o, definitions) for o in found},
                }
        definitions.add(meta_v1.DeleteOptions)
        definitions.add(meta_v1.Status)
        return {
            "openapi": "3.0.0",
            "info": {"title": "Kubernetes", "version": version_info().git_version},
            "paths": dict(sorted(operations.items())),
            "components": {"schemas": dict(sorted(definitions.schemas.items()))},
        }

    def _operation3(self, o: Operation, definitions: Definitions) -> dict[str, Any]:
        ok: dict[str, Any] = {"description": "OK"}
        if o.answer is not None:
            schema = _schema_of(o.answer, definitions)
            types = _STREAM_TYPES if o.action == "list" else _JSON_TYPES
            ok["content"] = {t: {"schema": schema} for t in types}
        result: dict[str, Any] = {
            "tags": [_tag(o)],
            "description": o.summary,
            "operationId": o.id,
            "parameters": [_option(p, 3) for p in o.options],
            "responses": {"200": ok, "401": {"description": "Unauthorized"}},
            **paths.extensions(o),
        }
        if o.body is not None:
            types = _patch_types(o, definitions) if o.method == "patch" else ["*/*"]
            schema = _schema_of(o.body, definitions)
            result["requestBody"] = {"content": {t: {"schema": schema} for t in types}}
            if o.method != "delete":
                result["requestBody"]["required"] = True
        return result

    def _definitions(self, flavour: int, group: str = "", version: str = "") -> Definitions:
        """With those of the custom resources (of a group version, if one is given)."""
        definitions = Definitions(flavour)
        for served in self._app.served.values():
            row = served.resource
            if served.publish is not None and (not group or (row.group, row.version) == (group, version)):
                for kind, name, definition in served.publish(definitions):
                    definitions.schemas[name] = definition
                    definitions.custom[kind] = name
        return definitions

    def _resources(self) -> list[Resource]:
        return [s.resource for s in self._app.served.values()]

    def _group_versions(self) -> list[tuple[str, str]]:
        return sorted({(r.group, r.version) for r in self._resources()})

    def _hash(self, group: str, version: str) -> str:
        """Changes with what is served of the group version, without making the document."""
        rows = [s for s in self._app.served.values() if (s.resource.group, s.resource.version) == (group, version)]
        text = version_info().git_version + "".join(
            f"{r.name}/{r.kind}/{r.subresources}/{r.verbs}/{s.fingerprint};" for s in rows for r in (s.resource,)
        )
        return hashlib.sha256(text.encode()).hexdigest().upper()


def _schema_of(kind: tuple[str, str, str], definitions: Definitions) -> Schema:
    group, version, name = kind
    if name == "Patch":
        full = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch"
        text = "Patch is provided to give a concrete name and type to the Kubernetes PATCH request body."
        definitions.schemas.setdefault(full, {"type": "object", "description": text})
        return definitions.ref(full)
    if name in ("Status", "DeleteOptions"):
        return definitions.ref(definitions.add(getattr(meta_v1, name)))
    if kind in definitions.custom:
        return definitions.ref(definitions.custom[kind])
    module = registry.module_name(Resource(group=group, version=version, name="", kind=name))
    found = schemas.find(module, name)
    return {"type": "object"} if found is None else definitions.ref(definitions.add(found))


def _patch_types(o: Operation, definitions: Definitions) -> list[str]:
    """Strategic merge patches are for built-in kinds: clients look here whether they may send one."""
    return [t for t in _PATCH_TYPES if "strategic" not in t or o.kind not in definitions.custom]


def _tag(o: Operation) -> str:
    group, version, _ = o.kind
    return f"{group.split('.')[0] or 'core'}_{version}"


def _option(name: str, flavour: int) -> dict[str, Any]:
    kind, text = paths.PARAMETERS[name]
    result: dict[str, Any] = {"name": name, "in": "query", "description": text}
    if flavour == 2:
        return {**result, "type": kind, "uniqueItems": True}
    return {**result, "schema": {"type": kind, "uniqueItems": True}}


def _path_parameter(name: str, flavour: int) -> dict[str, Any]:
    text = "object name and auth scope, such as for teams and projects" if name == "namespace" else "name of the object"
    result: dict[str, Any] = {"name": name, "in": "path", "required": True, "description": text}
    if flavour == 2:
        return {**result, "type": "string", "uniqueItems": True}
    return {**result, "schema": {"type": "string", "uniqueItems": True}}


def cached(request: Request, body: bytes, kind: str, *, forever: bool = False) -> Answer:
    """A document with its ETag, or that the client has it already."""
    etag = f'"{hashlib.sha256(body).hexdigest().upper()}"'
    headers = {"content-type": kind, "ETag": etag, "Vary": "Accept"}
    if forever:
        headers["Expires"] = "Thu, 31 Dec 2099 23:59:59 GMT"
    if request.headers.get("if-none-match") == etag:
        return Answer(status=304, body=b"", headers=headers)
    return Answer(body=body, headers=headers)
