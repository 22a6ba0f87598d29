"""A request to the API server, free of HTTP: what the HTTP server and the in-process transport both speak.

In process nothing is serialised: a write hands over `obj`, an answer carries `obj` or `objects`. Over HTTP the body is
`body` and the answer is bytes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Protocol

import msgspec


class User(msgspec.Struct, frozen=True):
    """Who asks."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: Mapping[str, tuple[str, ...]] = {}


#: What the parts that run in the API server's own process are.
LOOPBACK = User("system:apiserver", ("system:masters", "system:authenticated"))


class Request(msgspec.Struct):
    """`path` is decoded, without query; `query` holds the first value of each parameter (repeated ones: `queries`);
    header names are lower-case."""

    method: str
    path: str
    query: dict[str, str] = {}
    queries: dict[str, list[str]] = {}
    headers: dict[str, str] = {}
    body: bytes = b""
    #: In process, instead of `body`: the object (an ApiStruct), or the patch as a dict or list.
    obj: Any = None
    user: User | None = None
    #: A hint for transports that decode: the class of the answer's object (with `expect_list`, of a list's items; for a
    #: watch, of the events' objects). In process it may be ignored.
    expect: Any = None
    expect_list: bool = False
    #: What `body` says, if a transport has read it already: gives it, or raises what reading it raised.
    read: Callable[[], Any] | None = None


class Event(msgspec.Struct, frozen=True):
    """What a watch delivers: ADDED, MODIFIED, DELETED, BOOKMARK or ERROR (then `obj` is a Status)."""

    type: str
    obj: Any


class Response(msgspec.Struct):
    """One of: `obj` (a single object or Status), `objects` (a list, with `metadata`), `body`, `events` (a watch)."""

    status: int = 200
    obj: Any = None
    objects: list[Any] | None = None
    metadata: Any = None
    body: bytes | None = None
    events: AsyncIterator[Event] | None = None
    headers: dict[str, str] = {}
    warnings: list[str] = []


class Transport(Protocol):
    """How a client reaches an API server. Failures come as `api.errors.StatusError`."""

    async def send(self, request: Request) -> Response: ...

    async def close(self) -> None: ...
