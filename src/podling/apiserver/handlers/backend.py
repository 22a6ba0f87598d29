"""What passing on has in common wherever it goes: joining two upgraded connections, and a backend's failures.

Source: k8s.io/apimachinery pkg/util/proxy, and the errors that client-go makes of what a node agent answers.
"""

from __future__ import annotations

import asyncio

from aiohttp import web

from podling.api import errors, meta_v1
from podling.api.errors import StatusError
from podling.apiserver.audit import trail as audit
from podling.apiserver.handlers.kubelets import Location
from podling.streaming import connection, upstream


async def join(request: web.BaseRequest, answer: upstream.Upgraded) -> web.StreamResponse:
    """Pass a granted upgrade on to the client, and copy both ways until it ends."""
    assert answer.connection is not None
    try:
        await audit.started(101)
        client = connection.take_over(request)
        lines = [f"HTTP/1.1 101 {answer.reason or 'Switching Protocols'}"]
        lines += [f"{key}: {value}" for key, value in answer.headers.items()]
        await client.write("\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape"))
    except ConnectionError:
        answer.connection.close()
        raise
    await connection.splice(client, answer.connection)
    return connection.Taken()


def dial_error(location: Location, error: BaseException) -> StatusError:
    """The node agent can't be reached."""
    why = "i/o timeout" if isinstance(error, TimeoutError) else (getattr(error, "strerror", None) or str(error))
    if isinstance(error, ConnectionRefusedError):
        why = "connect: connection refused"
    return errors.internal(f"error dialing backend: dial tcp {location.authority}: {why}")


def refusal(status: int, body: bytes, resource: str, name: str) -> StatusError:
    """What the node agent answered instead of doing it, as the API server's own failure."""
    text = body.decode("utf-8", "replace").removesuffix("\n")
    if status == 400:
        return errors.bad_request(text)
    if status == 500:
        return errors.internal(text)
    reasons = {401: "Unauthorized", 403: "Forbidden", 404: "NotFound"}
    message = {
        401: "the server has asked for the client to provide credentials",
        403: text or "unknown",
        404: "the server could not find the requested resource",
    }.get(status, f"the server responded with the status code {status} but did not return more information")
    if status != 403:
        message += f" ( {resource} {name})"
    details = meta_v1.StatusDetails(
        name=name, kind=resource, causes=[meta_v1.StatusCause(reason="UnexpectedServerResponse", message=text)]
    )
    return StatusError(
        meta_v1.Status(
            status="Failure",
            code=status,
            reason=reasons.get(status, "InternalError" if status > 500 else "Unknown"),
            message=message,
            details=details,
        )
    )


def cancelled_with(request: web.BaseRequest) -> asyncio.Future[None]:
    """Done when the client has hung up."""
    gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    callbacks = getattr(request.protocol, "on_lost", None)

    def lost() -> None:
        if not gone.done():
            gone.set_result(None)

    if callbacks is not None:
        callbacks.add(lost)
        gone.add_done_callback(lambda _: callbacks.discard(lost))
    return gone
