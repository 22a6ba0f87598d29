"""Small pieces of asyncio that pod workers are built with."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


async def result(task: asyncio.Task[T]) -> T:
    """A task as a coroutine."""
    return await task


async def all_of(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """All at once; the first failure cancels the rest."""
    async with asyncio.TaskGroup() as group:
        for each in work:
            group.create_task(each)


class Gathering:
    """Tasks side by side: `wait` raises the first failure as it is, and leaving cancels what still runs."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[Any]] = []

    async def __aenter__(self) -> Gathering:
        return self

    def add(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.append(task)
        return task

    async def wait(self) -> None:
        await asyncio.gather(*self._tasks)

    async def __aexit__(self, *exception: object) -> None:
        for task in self._tasks:
            if not task.done():
                task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def retrieved(task: asyncio.Task[Any]) -> None:
    """A failure that nobody came to hear of is no accident here."""
    if not task.cancelled():
        task.exception()
