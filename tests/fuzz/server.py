"""The server under fuzzing: what may be answered, and what must hold whatever was asked."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Coroutine
from typing import Any

from hypothesis import HealthCheck, settings

from podling import clock
from podling.api.errors import StatusError
from tests.unit.apiserver.harness import Server, running

#: How often as many examples as in the ordinary suite: FUZZ=20 pytest tests/fuzz.
MORE = int(os.environ.get("FUZZ", "1"))
#: Upstream has no better code for these either: an intent, or directives of a strategic merge, that fit no schema.
UPSTREAMS_500 = (
    "failed to create typed patch object", "failed to create typed live object", "expected a ", "unknown patch type",
    "invalid patch format", "delete patch type with no merge key", "unrecognized type", "map: map[",
    "resourceVersion should not be set on objects to be created", "failed to convert new object",
)  # fmt: skip

JSON = "application/json"
JSON_PATCH, MERGE, STRATEGIC, APPLY = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)


def examples(count: int, **more: Any) -> settings:
    """So many examples, times FUZZ; found anew every time, so that the suite goes on looking."""
    checks = list(HealthCheck)
    return settings(max_examples=count * MORE, deadline=None, suppress_health_check=checks, print_blob=True, **more)


def on_server(test: Callable[[Fuzzed], Coroutine[Any, Any, None]], serving: Any = running) -> None:
    """Run `test` against a new server, on virtual time."""

    async def main() -> None:
        async with serving() as server:
            await test(Fuzzed(server))

    clock.run_virtual(main())


class Fuzzed:
    """Requests whose answers are judged."""

    def __init__(self, server: Server) -> None:
        self.server = server

    @property
    def revision(self) -> int:
        return self.server.store.revision

    async def ask(self, method: str, path: str, body: Any = None, kind: str = JSON, **query: str) -> tuple[int, Any]:
        """Status and answer. Whatever is no answer, and a server error that upstream would not give, fails the test;
        so does a refused write that left something behind."""
        before = self.revision
        data = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else None
        try:
            answer = await self.server.ask(method, path, data, headers={"content-type": kind}, query=query)
        except StatusError as error:
            message = error.status.message or ""
            assert error.code < 500 or message.startswith(UPSTREAMS_500) or any(m in message for m in UPSTREAMS_500), (
                f"{error.code} {message}"
            )
            assert self.revision == before, "a refused request wrote something"
            return error.code, message
        await asyncio.sleep(0)
        return answer.status, answer.obj

    async def shown(self, path: str) -> Any:
        """The object at `path` as JSON has it."""
        from podling.api.struct import to_dict

        _, obj = await self.ask("GET", path)
        # A custom resource is a dict with typed metadata.
        return {**obj, "metadata": to_dict(obj["metadata"])} if isinstance(obj, dict) else to_dict(obj)
