"""What a handler answers, free of HTTP."""

from __future__ import annotations

from typing import Any

from podling.api import meta_v1
from podling.api.request import Response
from podling.apiserver.entry import Entry
from podling.apiserver.served import Served
from podling.apiserver.watch import Watch


class Answer:
    """One of: `entry` or `obj` (one object), `entries` with `list_meta` (a list), `watch`, `body`, `relayed`.

    `obj` is an object of the served version (or another kind altogether, such as a Scale or a Status).
    `relayed` is what another server answered to a request of this process.
    """

    __slots__ = (
        "body", "entries", "entry", "headers", "list_meta", "obj", "relayed", "served", "status", "warnings", "watch",
    )  # fmt: skip

    def __init__(
        self,
        *,
        status: int = 200,
        entry: Entry | None = None,
        obj: Any = None,
        entries: list[Entry] | None = None,
        list_meta: meta_v1.ListMeta | None = None,
        watch: Watch | None = None,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        served: Served | None = None,
        relayed: Response | None = None,
    ) -> None:
        self.status = status
        self.entry = entry
        self.obj = obj
        self.entries = entries
        self.list_meta = list_meta
        self.watch = watch
        self.body = body
        self.headers = headers
        self.served = served
        self.relayed = relayed
        self.warnings: list[str] = []
