"""What the cluster's processes have in common: an event loop until SIGTERM, and the wait for the API server."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Callable, Coroutine
from typing import Any, Protocol
from urllib.parse import urlsplit

from podling import clock, log

_log = log.get(__name__)

#: Seconds to wait for the API server before starting without it.
_PATIENCE = 3.0


class Startable(Protocol):
    """Something with a life between `start` and `close`."""

    async def start(self) -> None: ...

    async def close(self) -> None: ...


def run(make: Callable[[], Startable]) -> None:
    """Make it inside an event loop, start it, and close it on SIGTERM or SIGINT."""
    run_loop(_until_stopped(make))


def run_loop(main: Coroutine[Any, Any, None]) -> None:
    """Run on uvloop, or on asyncio's own loop where there is none."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(main)
    else:
        uvloop.run(main)


def settle() -> None:
    """The process has started: memory is collected from now on, but for what is there now, which mostly stays."""
    gc.freeze()
    gc.enable()


def stop_event() -> asyncio.Event:
    """Set by SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def _until_stopped(make: Callable[[], Startable]) -> None:
    stop = stop_event()
    began = clock.real_seconds()
    part = make()
    await part.start()
    _log.info("started after %.3f s", clock.real_seconds() - began)
    settle()
    await stop.wait()
    await part.close()


async def wait_for(server: str) -> None:
    """When all parts start at once the API server is up in a moment: cheaper than a back-off. But not for long."""
    deadline = clock.elapsed() + _PATIENCE
    url = urlsplit(server)
    while clock.elapsed() < deadline:
        try:
            _, writer = await asyncio.open_connection(url.hostname, url.port)
        except OSError:
            await asyncio.sleep(0.01)
        else:
            writer.close()
            return
