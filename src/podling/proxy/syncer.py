"""Takes a ruleset to the kernel whenever it changes, as one transaction, and again as a whole if the kernel refuses."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from podling import clock, log
from podling.network.base import NetworkFailure
from podling.network.nftables import Nft, delete_table
from podling.proxy.ruleset import Ruleset

_log = log.get(__name__)
T = TypeVar("T")

#: Back-off after the kernel refused the rules, in seconds, doubling.
_RETRY_FIRST, _RETRY_MOST = 0.5, 30.0


class Syncer:
    """`prepare` brings the ruleset up to date just before it is read; `finished` runs when the kernel has it.

    The first change after a quiet time goes at once; what comes while that is under way, or within `interval` seconds
    after it, goes together.
    """

    def __init__(
        self,
        name: str,
        ruleset: Ruleset[Any],
        *,
        netns: str,
        interval: float,
        prepare: Callable[[], None],
        finished: Callable[[], Awaitable[None]],
    ) -> None:
        self._name = name
        self._ruleset = ruleset
        self._netns = netns
        self._interval = interval
        self._prepare = prepare
        self._finished = finished
        self._changed = asyncio.Event()
        self._busy = False
        self._whole = True
        self._worker = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._nft: Nft | None = None
        self._task: asyncio.Task[None] | None = None

    def mark(self) -> None:
        """There is something to prepare."""
        self._changed.set()

    @property
    def pending(self) -> bool:
        """Whether a change that was marked is not in the kernel yet."""
        return self._busy or self._changed.is_set()

    async def start(self) -> None:
        """Install everything; a refusal is retried later, like any other."""
        with contextlib.suppress(NetworkFailure):
            await self._sync()
        self._task = asyncio.create_task(self._run(), name=self._name)

    async def close(self) -> None:
        """Stop; the rules stay."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        self._worker.shutdown()
        if self._nft is not None:
            self._nft.close()
            self._nft = None

    async def in_thread(self, function: Callable[[], T]) -> T:
        """Work with the kernel, in order with the loading of rules."""
        return await asyncio.get_running_loop().run_in_executor(self._worker, function)

    async def _run(self) -> None:
        retry = _RETRY_FIRST
        while True:
            await self._changed.wait()
            try:
                await self._sync()
                retry = _RETRY_FIRST
                await asyncio.sleep(self._interval)
            except NetworkFailure:
                await asyncio.sleep(retry)
                retry = min(retry * 2, _RETRY_MOST)

    async def _sync(self) -> None:
        self._busy = True
        self._changed.clear()
        began = clock.real_seconds()
        try:
            self._prepare()
            script = self._ruleset.full() if self._whole else self._ruleset.changes()
            if script:
                await self.in_thread(lambda: self._load(script))
            self._whole = False
            self._ruleset.installed()
            await self._finished()
        except NetworkFailure as error:
            # The kernel may have lost our table to somebody else: next time all of it.
            _log.error("%s: %s", self._name, error)
            self._whole = True
            self._changed.set()
            raise
        finally:
            self._busy = False
        _log.debug("%s: %d bytes of rules in %.1f ms", self._name, len(script), (clock.real_seconds() - began) * 1000)

    def _load(self, script: str) -> None:
        if self._nft is None:
            self._nft = Nft(self._netns)
        self._nft.run(script)


def remove_table(table: str, netns: str) -> None:
    """Remove a table, if it is there."""
    with contextlib.closing(Nft(netns)) as nft:
        nft.run(delete_table(table))
