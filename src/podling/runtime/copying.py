"""Bytes between file descriptors and the asynchronous ends of a stream, with back pressure and without transports.

Works on pipes, terminals and sockets alike, on any event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import AsyncIterator

from podling.runtime.base import Sink, Source

CHUNK = 32768


@contextlib.asynccontextmanager
async def task_group() -> AsyncIterator[asyncio.TaskGroup]:
    """A task group whose first failure comes out as itself: the copies of one stream fail for one reason."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as failures:
        first: BaseException = failures
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from None


async def _ready(fd: int, *, to_write: bool, ended: asyncio.Future[None] | None = None) -> None:
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def wake(_: object = None) -> None:
        if not done.done():
            done.set_result(None)

    if ended is not None:
        ended.add_done_callback(wake)

    if to_write:
        loop.add_writer(fd, wake)
    else:
        loop.add_reader(fd, wake)
    try:
        await done
    finally:
        if to_write:
            loop.remove_writer(fd)
        else:
            loop.remove_reader(fd)
        if ended is not None:
            ended.remove_done_callback(wake)


def read_now(fd: int, size: int = CHUNK) -> bytes | None:
    """What is there to read: b"" at the end, None if nothing now. A terminal that nobody has open is at its end."""
    try:
        return os.read(fd, size)
    except BlockingIOError:
        return None
    except OSError as error:
        if error.errno in (errno.EIO, errno.ECONNRESET):
            return b""
        raise


async def read(fd: int, size: int = CHUNK) -> bytes:
    """The next bytes of non-blocking `fd`, b"" at the end."""
    while True:
        data = read_now(fd, size)
        if data is not None:
            return data
        await _ready(fd, to_write=False)


async def write(fd: int, data: bytes) -> None:
    """All of `data` to non-blocking `fd`. BrokenPipeError if nobody reads."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            await _ready(fd, to_write=True)


async def pump_out(fd: int, sink: Sink | None, ended: asyncio.Future[None] | None = None) -> None:
    """Copy from `fd` to `sink` until the end; without a sink the bytes are thrown away, so that the writer runs on.

    Once `ended` is done (the process has exited) what is there is still copied, but nothing more is waited for: a
    background process may hold the other side open for ever.
    """
    while True:
        data = read_now(fd)
        if data is None:
            if ended is not None and ended.done():
                return
            await _ready(fd, to_write=False, ended=ended)
        elif not data:
            return
        elif sink is not None:
            await sink(data)


async def pump_in(source: Source, fd: int) -> None:
    """Copy from `source` to `fd` until either side ends."""
    try:
        while data := await source():
            await write(fd, data)
    except (BrokenPipeError, ConnectionResetError):
        pass
    except OSError as error:
        if error.errno != errno.EIO:
            raise


async def readable(fd: int) -> None:
    """Wait until there is something to read (or to accept)."""
    await _ready(fd, to_write=False)


async def writable(fd: int) -> None:
    """Wait until bytes can be written (or a connection is made, or refused)."""
    await _ready(fd, to_write=True)
