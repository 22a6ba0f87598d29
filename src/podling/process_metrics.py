"""process_* and python_*: what the operating system and the interpreter know of this process.

The names are those of Prometheus' client libraries; Go's go_* have their counterparts in python_*.
"""

from __future__ import annotations

import asyncio
import gc
import os
import platform
import resource
from collections.abc import Callable
from functools import partial
from pathlib import Path

from podling.metrics import Labels, Read, Registry

_SELF = Path("/proc/self")
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def register(registry: Registry) -> None:
    """Read from /proc when a scraper asks; what it does not tell is not shown."""
    registry.counter(
        "process_cpu_seconds_total", "Total user and system CPU time spent in seconds.", (), _alone(_cpu_seconds)
    )
    registry.gauge("process_open_fds", "Number of open file descriptors.", (), _alone(_open_files))
    registry.gauge("process_max_fds", "Maximum number of open file descriptors.", (), _alone(_max_files))
    registry.gauge("process_resident_memory_bytes", "Resident memory size in bytes.", (), _alone(_resident))
    registry.gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.", (), _alone(_virtual))
    registry.gauge(
        "process_start_time_seconds", "Start time of the process since unix epoch in seconds.", (), _alone(_start)
    )
    registry.gauge("process_threads", "Number of operating system threads of the process.", (), _alone(_threads))
    _interpreter(registry)


def _interpreter(registry: Registry) -> None:
    version = platform.python_version_tuple()
    registry.gauge(
        "python_info",
        "Python platform information",
        ("implementation", "major", "minor", "patchlevel", "version"),
    ).set(1, platform.python_implementation(), *version, platform.python_version())
    for name, key, help_ in (
        ("objects_collected", "collected", "Objects collected during gc"),
        ("objects_uncollectable", "uncollectable", "Uncollectable objects found during GC"),
        ("collections", "collections", "Number of times this generation was collected"),
    ):
        registry.counter(f"python_gc_{name}_total", help_, ("generation",), partial(_collected, key))
    registry.gauge("python_asyncio_tasks", "Number of tasks on the event loop that have not ended.", (), _alone(_tasks))


def _collected(key: str) -> dict[Labels, float]:
    return {(str(generation),): float(stats[key]) for generation, stats in enumerate(gc.get_stats())}


def _tasks() -> float:
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:
        # Nobody's event loop runs here.
        return 0.0


def _threads() -> float:
    return int(_stat()[17])


def _alone(value: Callable[[], float]) -> Read:
    def read() -> dict[Labels, float]:
        try:
            return {(): value()}
        except OSError:
            return {}

    return read


def _stat() -> list[str]:
    """The fields of /proc/self/stat from the third on: the second is a name that may hold anything."""
    return (_SELF / "stat").read_text().rpartition(")")[2].split()


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system


def _start() -> float:
    booted = next(
        int(line.split()[1]) for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime")
    )
    return booted + int(_stat()[19]) / _TICKS


def _open_files() -> float:
    return len(os.listdir(_SELF / "fd"))


def _max_files() -> float:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _virtual() -> float:
    return int((_SELF / "statm").read_text().split()[0]) * _PAGE


def _resident() -> float:
    return int((_SELF / "statm").read_text().split()[1]) * _PAGE
