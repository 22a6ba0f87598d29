"""The OpenAPI documents: put together when they are first asked for, and kept until what is served changes."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from email.utils import format_datetime
from typing import Any, Protocol

from podling import clock
from podling.api import errors, meta_v1
from podling.api.request import Request, User
from podling.api.struct import encode
from podling.apiserver.answer import Answer
from podling.apiserver.core import Core
from podling.apiserver.negotiate import JSON, choose
from podling.apiserver.openapi import openapi3, paths, routes, schemas, swagger
from podling.apiserver.openapi.paths import Operation
from podling.apiserver.openapi.schemas import Definitions
from podling.apiserver.request_info import RequestInfo
from podling.apiserver.version import version_info

#: Raised when the same definitions make other documents: clients keep those that they have by their hash.
_FORM = 2
_PROTOBUF = "application/com.github.proto-openapi.spec.v{}@v1.0+protobuf"
#: What an answer in it is called: the name above is none that a strict parser of media types takes.
_PROTOBUF_ANSWER = "application/com.github.proto-openapi.spec.v{}.v1.0+protobuf"


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
        #: By name and whether in protobuf: a document and its tag.
        self._made: dict[tuple[str, bool], tuple[bytes, str]] = {}
        self._generation = -1
        #: None while this server is the only one.
        self.others: Others | None = None
        app.paths["/openapi/v2"] = self._v2
        app.paths["/openapi/v3"] = self._v3_index
        app.paths["/openapi/v3/"] = self._v3

    def forget(self) -> None:
        """Make the merged document anew when it is asked for: another server's has changed."""
        self._made.pop(("v2", False), None)
        self._made.pop(("v2", True), None)

    def _document(self, name: str, protobuf: bool) -> tuple[bytes, str]:
        if self._generation != self._app.generation:
            self._made.clear()
            self._generation = self._app.generation
        made = self._made.get((name, protobuf))
        if made is None:
            made = self._made[name, protobuf] = self._make(name, protobuf)
            schemas.forget()
        return made

    def _make(self, name: str, protobuf: bool) -> tuple[bytes, str]:
        """Both forms have the tag of the JSON: the Vary header tells them apart."""
        document = self._swagger() if name == "v2" else self._openapi(name)
        json = encode(document)
        if not protobuf:
            return json, _digest(json)
        from podling.apiserver.openapi import gnostic, gnostic3

        return gnostic.document(document) if name == "v2" else gnostic3.document(document), _digest(json)

    # v2

    async def _v2(self, request: Request, info: RequestInfo, user: User) -> Answer:
        kind = _form(request, 2)
        if kind is None:
            return _NOT_ACCEPTABLE
        body, tag = self._document("v2", kind != JSON)
        return cached(request, body, kind, etag=tag)

    def _swagger(self) -> dict[str, Any]:
        made = swagger.document(self._operations(), self._definitions(2), self._info(), cbor=self._app.cbor)
        if self.others is not None:
            self.others.merge_into(made)
        return made

    # v3

    async def _v3_index(self, request: Request, info: RequestInfo, user: User) -> Answer:
        found = self.others.v3_paths() if self.others is not None else {}
        for path in self._documents():
            found[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={self._hash(path)}"}
        return cached(request, encode({"paths": dict(sorted(found.items()))}), JSON)

    async def _v3(self, request: Request, info: RequestInfo, user: User) -> Answer:
        path = info.path.removeprefix("/openapi/v3/").strip("/")
        if path not in self._documents():
            theirs = await self.others.v3(path, request, user) if self.others is not None else None
            if theirs is None:
                raise errors.path_not_found()
            return theirs
        kind = _form(request, 3)
        if kind is None:
            return _NOT_ACCEPTABLE
        hash_, asked = self._hash(path), request.query.get("hash", "")
        if asked and asked != hash_:
            target = f"/openapi/v3/{path}?hash={hash_}"
            return Answer(status=301, body=b"", headers={"Location": target, "Vary": "Accept"})
        body, _ = self._document(path, kind != JSON)
        return cached(request, body, kind, etag=hash_, forever=bool(asked))

    def _openapi(self, path: str) -> dict[str, Any]:
        group, version = _group_version(path)
        definitions = self._definitions(3, group, version) if version else Definitions(3)
        return openapi3.document(self._operations(path), definitions, self._info(), cbor=self._app.cbor)

    # What both are made of

    def _info(self) -> dict[str, str]:
        return {"title": "Kubernetes", "version": version_info().git_version}

    def _operations(self, document: str = "") -> dict[str, list[Operation]]:
        """By path; of one document of the v3 index, if one is given."""
        wanted = _group_version(document)
        found: dict[str, list[Operation]] = {}
        for served in self._app.served.values():
            row = served.resource
            if not document or (row.group, row.version) == wanted:
                found |= paths.of(row, custom=served.publish is not None)
        for path, operation in self._routes().items():
            if not document or path.strip("/") == document:
                found[path] = [operation]
        return found

    def _routes(self) -> dict[str, Operation]:
        return routes.of(self._group_versions(), self._app.paths, cbor=self._app.cbor)

    def _documents(self) -> set[str]:
        """The paths of the v3 index that are ours."""
        mine = {f"apis/{g}/{v}" if g else f"api/{v}" for g, v in self._group_versions()}
        return mine | {path.strip("/") for path in self._routes()}

    def _definitions(self, flavour: int, group: str = "", version: str = "") -> Definitions:
        """With those of the custom resources (of a group version, if one is given)."""
        definitions = Definitions(flavour)
        definitions.add(meta_v1.DeleteOptions)
        definitions.add(meta_v1.Status)
        for served in self._app.served.values():
            row = served.resource
            if served.publish is not None and (not group or (row.group, row.version) == (group, version)):
                for kind, name, definition in served.publish(definitions):
                    definitions.schemas[name] = definition
                    definitions.custom[kind] = name
        return definitions

    def _group_versions(self) -> list[tuple[str, str]]:
        return sorted({(s.resource.group, s.resource.version) for s in self._app.served.values()})

    def _hash(self, path: str) -> str:
        """Changes with what is served of the group version, without making the document."""
        group_version = _group_version(path)
        rows = [s for s in self._app.served.values() if (s.resource.group, s.resource.version) == group_version]
        text = f"{_FORM}{version_info().git_version}/{path}:" + "".join(
            f"{r.name}/{r.kind}/{r.subresources}/{r.verbs}/{s.fingerprint};" for s in rows for r in (s.resource,)
        )
        return _digest(text.encode())


def _group_version(path: str) -> tuple[str, str]:
    """What a document of the v3 index is about; empty if it is about no group version."""
    match path.split("/"):
        case ["api", version]:
            return "", version
        case ["apis", group, version]:
            return group, version
    return "", ""


_NOT_ACCEPTABLE = Answer(status=406, body=b"", headers={"Vary": "Accept"})


def _form(request: Request, flavour: int) -> str | None:
    """The media type of an answer that the client accepts, if there is one."""
    answer = _PROTOBUF_ANSWER.format(flavour)
    media = choose(request.headers.get("accept", ""), (JSON, _PROTOBUF.format(flavour), answer), lambda *_: True)
    return None if media is None else JSON if media.type == JSON else answer


def _digest(body: bytes) -> str:
    return hashlib.sha512(body).hexdigest().upper()


def cached(request: Request, body: bytes, kind: str, *, etag: str = "", forever: bool = False) -> Answer:
    """A document with its ETag, or that the client has it already."""
    tag = f'"{etag or _digest(body)}"'
    headers = {"content-type": kind, "ETag": tag, "Vary": "Accept"}
    if forever:
        # Of an address that names the tag: another document has another address.
        headers["Cache-Control"] = "public, immutable"
        headers["Expires"] = format_datetime(clock.now() + timedelta(days=365), usegmt=True)
    known = {t.strip().removeprefix("W/") for t in request.headers.get("if-none-match", "").split(",")}
    if tag in known or "*" in known:
        return Answer(status=304, body=b"", headers=headers)
    return Answer(body=body, headers=headers)
