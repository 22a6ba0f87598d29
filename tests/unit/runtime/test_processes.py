"""Children: their exit codes, and their end."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

from podling.runtime import processes

LOOPS: list[Callable[..., Any]] = [asyncio.run, uvloop.run]


@pytest.mark.parametrize("run", LOOPS, ids=["asyncio", "uvloop"])
def test_exit_codes(run: Callable[..., Any]) -> None:
    async def main() -> list[int]:
        scripts = ("exit 0", "exit 7", "kill -TERM $$")
        return [await processes.spawn(["/bin/sh", "-c", script]).wait() for script in scripts]

    assert run(main()) == [0, 7, -signal.SIGTERM]


@pytest.mark.parametrize("run", LOOPS, ids=["asyncio", "uvloop"])
def test_a_child_that_was_waited_for_in_vain_is_killed_and_reaped(run: Callable[..., Any]) -> None:
    async def main() -> None:
        for _ in range(20):
            child = processes.spawn(["/bin/sleep", "60"])
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await child.wait()
            child.kill_and_reap()
            assert await child.wait() == -signal.SIGKILL
            with pytest.raises(ProcessLookupError):
                os.kill(child.pid, 0)

    run(main())
