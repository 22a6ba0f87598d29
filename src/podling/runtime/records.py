"""What the runtime remembers on disk: one small JSON file per sandbox and container, each written atomically.

Written before anything is made and after it changed, so that whatever a crash leaves behind can be found, adopted or
taken away.
"""

from __future__ import annotations

import os
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

import msgspec

from podling import log
from podling.runtime.base import ContainerConfig, Resources, SandboxConfig

logger = log.get(__name__)


class Phase(StrEnum):
    """`making` and `starting` are seen on disk only after a crash in the middle."""

    MAKING = "making"
    READY = "ready"
    STOPPED = "stopped"
    CREATED = "created"
    STARTING = "starting"
    RUNNING = "running"
    EXITED = "exited"


class SandboxRecord(msgspec.Struct, kw_only=True):
    id: str
    config: SandboxConfig
    created_at: datetime
    phase: Phase = Phase.MAKING
    ips: tuple[str, ...] = ()
    hostname: str = ""
    cgroup: str = ""
    resources: Resources = Resources()
    #: Where the range of ids begins that a user namespace maps to; 0 without one.
    user_base: int = 0
    #: The process that is PID 1 of a shared process namespace, and when it was started (clock ticks since boot).
    init_pid: int = 0
    init_started: int = 0


class ContainerRecord(msgspec.Struct, kw_only=True):
    id: str
    sandbox_id: str
    config: ContainerConfig
    created_at: datetime
    phase: Phase = Phase.MAKING
    image: str = ""
    cgroup: str = ""
    log_path: str = ""
    stop_signal: str = "SIGTERM"
    user: tuple[int, int] = (0, 0)
    resources: Resources = Resources()
    #: Process ids with the time they were started (clock ticks since boot): together they name a process for good.
    pid: int = 0
    pid_started: int = 0
    conmon_pid: int = 0
    conmon_started: int = 0
    started_at: datetime | None = None
    finished_at: datetime | None = None
    exit_code: int = 0
    signal: int = 0
    reason: str = ""
    message: str = ""


Record = TypeVar("Record", SandboxRecord, ContainerRecord)


class Layout:
    """Where things are. `state_dir` outlives a reboot, `run_dir` need not."""

    def __init__(self, state_dir: Path, run_dir: Path) -> None:
        self.state_dir = state_dir.resolve()
        self.run_dir = run_dir.resolve()
        self.sandbox_records = self.state_dir / "sandboxes"
        self.container_records = self.state_dir / "containers"
        self.sandboxes = self.run_dir / "sandboxes"
        self.containers = self.run_dir / "containers"
        self.exits = self.run_dir / "exits"
        self.oci = self.run_dir / "oci"
        self.pin = self.run_dir / "pin"
        self._parents: set[str] = set()

    def make(self) -> None:
        for path in (
            self.sandbox_records,
            self.container_records,
            self.sandboxes,
            self.containers,
            self.exits,
            self.oci,
        ):
            path.mkdir(parents=True, exist_ok=True)
        self.run_dir.chmod(0o711)
        self.state_dir.chmod(0o700)

    def namespaces(self, sandbox_id: str) -> Path:
        return self.sandboxes / sandbox_id / "ns"

    def bundle(self, container_id: str) -> Path:
        return self.containers / container_id

    def rootfs(self, container_id: str) -> Path:
        return self.containers / container_id / "rootfs"

    def record_file(self, record: SandboxRecord | ContainerRecord) -> Path:
        home = self.sandbox_records if isinstance(record, SandboxRecord) else self.container_records
        return home / f"{record.id}.json"

    def note_parents(self, cgroup: str) -> None:
        """Remember in which cgroups pods have been put, for when they are to be removed as well."""
        parents = {str(parent) for parent in Path(cgroup).parents} - {"/"}
        if not parents <= self._parents:
            self._parents |= parents | set(self.parents())
            (self.state_dir / "cgroups").write_text("".join(f"{parent}\n" for parent in sorted(self._parents)))

    def parents(self) -> list[str]:
        """The cgroups that pods have been put in, the deepest first."""
        try:
            lines = (self.state_dir / "cgroups").read_text().split()
        except FileNotFoundError:
            return []
        return sorted(lines, key=lambda path: path.count("/"), reverse=True)

    def save(self, record: SandboxRecord | ContainerRecord) -> None:
        path = self.record_file(record)
        new = path.with_suffix(".new")
        new.write_bytes(msgspec.json.encode(record))
        os.replace(new, path)

    def forget(self, record: SandboxRecord | ContainerRecord) -> None:
        self.record_file(record).unlink(missing_ok=True)

    def load_sandboxes(self) -> list[SandboxRecord]:
        return _load(self.sandbox_records, SandboxRecord)

    def load_containers(self) -> list[ContainerRecord]:
        return _load(self.container_records, ContainerRecord)


def _load(directory: Path, kind: type[Record]) -> list[Record]:
    found: list[Record] = []
    for path in sorted(directory.glob("*.json")):
        try:
            found.append(msgspec.json.decode(path.read_bytes(), type=kind))
        except msgspec.MsgspecError as error:
            # Only a loss of power can leave one; the things it told of are gone with it.
            logger.warning("unreadable record %s is dropped: %s", path, error)
            path.unlink()
    return sorted(found, key=lambda record: record.created_at)
