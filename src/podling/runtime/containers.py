"""What this process knows of its containers, and how it learns that they ended: by their exit files, and where conmon
died without leaving one, by its pidfd. Nothing polls."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from typing import Any

from podling import clock, log
from podling.errors import system_text
from podling.runtime import exits, processes
from podling.runtime.base import RuntimeEvent
from podling.runtime.cgroups import Cgroups
from podling.runtime.records import ContainerRecord, Layout, Phase, SandboxRecord

logger = log.get(__name__)

#: What containerd says of a container whose exit nobody saw.
_UNKNOWN_EXIT = 255
#: Seconds after which what could not be written down is tried again.
_WRITE_AGAIN = 5.0


class Container:
    """A container that this process knows of: its record, who waits for its end, and the watch on its conmon."""

    def __init__(self, record: ContainerRecord) -> None:
        self.record = record
        self.lock = asyncio.Lock()
        self.exited = asyncio.Event()
        self.conmon_fd = -1
        if record.phase is Phase.EXITED:
            self.exited.set()


class Containers:
    """Sandboxes and containers by id; what happens to them is written down and told."""

    def __init__(self, layout: Layout, cgroups: Cgroups) -> None:
        self._layout = layout
        self._cgroups = cgroups
        self._sandboxes: dict[str, SandboxRecord] = {}
        self._containers: dict[str, Container] = {}
        self._events: asyncio.Queue[RuntimeEvent] = asyncio.Queue()
        self._watch = exits.Watch(layout.exits, self._on_exit_file)
        self._tasks: set[asyncio.Task[None]] = set()
        self._unwritten: dict[str, SandboxRecord | ContainerRecord] = {}

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _tell(self, kind: str, sandbox_id: str, container_id: str = "") -> None:
        self._events.put_nowait(RuntimeEvent(kind, sandbox_id, container_id))

    def _note(self, record: SandboxRecord | ContainerRecord) -> None:
        """Write down what has happened. It has, also where the disk is full: then it is written when there is room."""
        try:
            self._layout.save(record)
        except OSError as error:
            if not self._unwritten:
                logger.warning("the state of containers is not on disk: %s", system_text(error))
                asyncio.get_running_loop().call_later(_WRITE_AGAIN, self._write_again)
            self._unwritten[record.id] = record

    def _write_again(self) -> None:
        records, self._unwritten = self._unwritten, {}
        for record in records.values():
            if record.id in self._containers or record.id in self._sandboxes:
                self._note(record)

    def _on_exit_file(self, container_id: str) -> None:
        live = self._containers.get(container_id)
        if live is not None and live.record.phase is Phase.RUNNING:
            self._finish(live)

    def _watch_conmon(self, live: Container) -> None:
        """conmon's own death is the only exit that leaves no file."""
        record = live.record
        try:
            fd = os.pidfd_open(record.conmon_pid)
        except ProcessLookupError:
            fd = -1
        if fd >= 0 and processes.start_time(record.conmon_pid) == record.conmon_started:
            live.conmon_fd = fd
            asyncio.get_running_loop().add_reader(fd, self._on_conmon_gone, live)
            return
        if fd >= 0:
            os.close(fd)
        self._on_conmon_gone(live)

    def _unwatch_conmon(self, live: Container) -> None:
        if live.conmon_fd >= 0:
            asyncio.get_running_loop().remove_reader(live.conmon_fd)
            os.close(live.conmon_fd)
            live.conmon_fd = -1

    def _on_conmon_gone(self, live: Container) -> None:
        self._unwatch_conmon(live)
        if live.record.phase is not Phase.RUNNING:
            return
        if exits.read(self._layout.exits, live.record.id) is not None:
            self._finish(live)
        else:
            self._spawn(self._lost(live))

    async def _lost(self, live: Container) -> None:
        """Without conmon nobody will know how it ended, nor reads its output: it is ended."""
        await self._cgroups.kill(live.record.cgroup)
        if live.record.phase is Phase.RUNNING:
            self._set_exited(live, _UNKNOWN_EXIT, "Unknown", "the container's monitor was lost")

    def _finish(self, live: Container) -> None:
        """Its exit file is there: record how it ended."""
        record = live.record
        ended = exits.read(self._layout.exits, record.id)
        if ended is None:
            return
        # Only while the cgroup is still there: it goes with the container.
        killed_for_memory = self._cgroups.oom_kills(record.cgroup) > 0
        reason = "OOMKilled" if killed_for_memory else "Completed" if ended.code == 0 else "Error"
        self._set_exited(live, ended.code, reason)
        # The file's clock is coarser than ours.
        record.finished_at = max(ended.finished_at, record.started_at or ended.finished_at)
        self._note(record)
        if self._cgroups.members(record.cgroup):
            # In a shared process namespace the end of the main process is not that of the others.
            self._spawn(self._cgroups.kill(record.cgroup))

    def _set_exited(self, live: Container, code: int, reason: str, message: str = "") -> None:
        record = live.record
        self._unwatch_conmon(live)
        record.phase, record.exit_code, record.reason, record.message = Phase.EXITED, code, reason, message
        # conmon, like a shell, says 128 + n of a process that signal n ended.
        record.signal = code - 128 if reason != "StartError" and 128 < code <= 192 else 0
        record.finished_at = clock.now()
        self._note(record)
        live.exited.set()
        self._tell("exited", record.sandbox_id, record.id)
