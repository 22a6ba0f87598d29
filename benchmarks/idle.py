"""What a cluster costs while nothing happens: memory (PSS) and CPU of all its processes.

`--pid` names the root of its process tree (a supervisor); it may be given several times.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from benchmarks.common import Result

_SECONDS = 20


def tree(roots: list[int]) -> list[int]:
    """The processes below the roots, they included."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found, waiting = [], list(roots)
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting.extend(children.get(pid, ()))
    return found


def pss(pid: int) -> int:
    """Kilobytes."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


def cpu(pid: int) -> float:
    """Seconds so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def run(kubeconfig: str, arguments: Any) -> list[Result]:
    if not arguments.pid:
        return []
    await asyncio.sleep(5)
    pids = tree(arguments.pid)
    before = sum(cpu(p) for p in pids)
    await asyncio.sleep(_SECONDS)
    used = sum(cpu(p) for p in pids) - before
    return [
        Result("all processes idle, PSS", sum(pss(p) for p in pids) / 1024, "MiB", 120),
        Result("all processes idle, CPU of one core", used / _SECONDS * 100, "%", 1),
    ]
