"""A request of this process for what another server serves.

Controllers in the API server's process hand over objects and get objects; here both are JSON on the way. What comes is
dicts, as of custom resources.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
import msgspec

from podling.api import errors, meta_v1
from podling.api.errors import StatusError
from podling.api.request import Event, Request, Response, User
from podling.api.struct import encode, from_dict
from podling.apiserver.admission.webhooks_client import NoPlace
from podling.apiserver.aggregation import remote as remotes
from podling.apiserver.aggregation.remote import Remote, Unreachable
from podling.apiserver.answer import Answer
from podling.apiserver.request_info import RequestInfo

#: Seconds that a request may take, unless it is a watch.
TIMEOUT = 60.0

_PASSED_ON = ("accept", "content-type", "if-none-match", "user-agent")
_decode = msgspec.json.Decoder().decode


async def send(remote: Remote, request: Request, info: RequestInfo, user: User) -> Answer:
    """The answer of the other server. StatusError for its refusals, 503 if there is none."""
    watch = info.verb == "watch"
    try:
        async with asyncio.timeout(None if watch else TIMEOUT):
            answer = await _open(remote, request, user)
            if watch and answer.status == 200:
                return Answer(relayed=Response(events=_events(answer)))
            async with answer:
                return Answer(status=answer.status, relayed=_decoded(info, answer, await answer.read()))
    except (aiohttp.ClientError, OSError, TimeoutError, Unreachable) as error:
        raise unavailable(remotes.failure(error)) from error


async def fetch(
    remote: Remote, path: str, user: User, headers: dict[str, str], *, timeout: float, probing: bool = False
) -> tuple[int, dict[str, str], bytes]:
    """GET a document: status, headers (lower-case names) and body. Raises Unreachable.

    `probing` asks also a server that is not known to be well.
    """
    asked = [*headers.items(), *remotes.identity(user)]
    try:
        place = remote.place() if probing else remotes.checked(remote)
        async with asyncio.timeout(timeout), await remote.open(place, "GET", path, asked) as answer:
            return answer.status, {k.lower(): v for k, v in answer.headers.items()}, await answer.read()
    except (aiohttp.ClientError, OSError, TimeoutError, NoPlace) as error:
        raise remotes.failure(error) from error


def unavailable(error: Unreachable) -> StatusError:
    """As a client makes it out of an answer that is no Status."""
    status = errors.unavailable("the server is currently unable to handle the request")
    cause = meta_v1.StatusCause(reason="UnexpectedServerResponse", message=str(error))
    status.status.details = meta_v1.StatusDetails(causes=[cause])
    return status


async def _open(remote: Remote, request: Request, user: User) -> aiohttp.ClientResponse:
    place = remotes.checked(remote)
    headers = [(name, request.headers[name]) for name in _PASSED_ON if name in request.headers]
    if "accept" not in request.headers:
        headers.append(("accept", "application/json"))
    body = request.body or (encode(request.obj) if request.obj is not None else b"")
    if body and "content-type" not in request.headers:
        headers.append(("content-type", "application/json"))
    target = quote(request.path, safe="/:~!$&'()*+,;=@")
    if query := [*request.query.items(), *((k, v) for k, values in request.queries.items() for v in values[1:])]:
        target += f"?{urlencode(query)}"
    return await remote.open(place, request.method, target, [*headers, *remotes.identity(user)], body or None)


def _decoded(info: RequestInfo, answer: aiohttp.ClientResponse, body: bytes) -> Response:
    if answer.status >= 400:
        raise _failure(answer.status, body)
    if not info.resource:
        return Response(answer.status, body=body, headers={k.lower(): v for k, v in answer.headers.items()})
    found: Any = _decode(body) if body else None
    if isinstance(found, dict) and info.verb == "list" and isinstance(found.get("items", ...), list | None):
        objects = [_typed(found, item) for item in found.get("items") or ()]
        meta = from_dict(found.get("metadata") or {}, meta_v1.ListMeta)
        return Response(answer.status, objects=objects, metadata=meta)
    return Response(answer.status, obj=found)


def _typed(list_: dict[str, Any], item: dict[str, Any]) -> dict[str, Any]:
    """Items of a list leave out what the list says for all."""
    kind = str(list_.get("kind", "")).removesuffix("List")
    return {"apiVersion": list_.get("apiVersion", ""), "kind": kind, **item}


def _failure(code: int, body: bytes) -> StatusError:
    try:
        found = _decode(body)
        if isinstance(found, dict) and found.get("kind") == "Status":
            return StatusError(from_dict(found, meta_v1.Status))
    except msgspec.MsgspecError:
        pass
    if code == 503:
        return unavailable(Unreachable(body.decode("utf-8", "replace").strip()))
    text = "the server could not find the requested resource" if code == 404 else body.decode("utf-8", "replace")
    reason = {401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 405: "MethodNotAllowed"}.get(code, "Unknown")
    return StatusError(meta_v1.Status(status="Failure", code=code, reason=reason, message=text.strip()))


async def _events(answer: aiohttp.ClientResponse) -> AsyncIterator[Event]:
    """A watch: one JSON object a line, however it is cut into pieces."""
    rest = b""
    try:
        async for piece in answer.content.iter_any():
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                if line.strip():
                    found = _decode(line)
                    yield Event(found["type"], found["object"])
    except aiohttp.ClientError as error:
        raise unavailable(remotes.failure(error)) from error
    finally:
        answer.close()
