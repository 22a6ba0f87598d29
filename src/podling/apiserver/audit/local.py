"""Requests of the server's own process: the same stages, without HTTP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from podling.api.errors import StatusError
from podling.api.request import Request, User
from podling.apiserver.answer import Answer
from podling.apiserver.audit import objects
from podling.apiserver.audit.trail import Trail
from podling.apiserver.negotiate import PLAIN
from podling.apiserver.request_info import RequestInfo

Handler = Callable[[Request, RequestInfo, User], Awaitable[Answer]]


async def audited(
    trail: Trail, handler: Handler, request: Request, user: User, later: Callable[[Trail], None]
) -> Answer:
    """The answer to a request whose trail this is. That of a watch is given to `later` when the watch ends."""
    watch = None
    try:
        await trail.identified(user)
        answer = await handler(request, trail.info, user)
        watch = answer.watch
        if watch is not None:
            await trail.started(answer.status)
        elif answer.relayed is not None:
            trail.passed_on(answer.status)
        else:
            body = objects.in_process(answer) if trail.wants_answer else b""
            trail.answered(answer, body, PLAIN, {})
        return answer
    except StatusError as error:
        trail.failed(error.status)
        raise
    except Exception as error:
        trail.panicked(error)
        raise
    finally:
        if watch is None:
            await trail.leave()
        else:
            trail.stray()
            watch.when_ended(lambda: later(trail))
