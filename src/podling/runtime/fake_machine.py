"""The machine of a simulation: virtual sandboxes and containers, whose processes are timers and scripts on the event
loop. It is what survives a restart of the node agent."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from podling import clock
from podling.images.base import ImageConfig
from podling.runtime import fake_shell
from podling.runtime.base import (
    ContainerConfig,
    ContainerState,
    ContainerStats,
    ContainerStatus,
    Resources,
    RuntimeFailure,
    SandboxConfig,
    SandboxState,
    SandboxStatus,
)
from podling.runtime.fake_behaviour import Behaviour, effective_argv

#: Lines of a container's log that a machine keeps in memory.
LOG_LINES = 10_000


def _stamp(when: datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"


class Sandbox:
    """A pod's virtual sandbox."""

    def __init__(self, sandbox_id: str, config: SandboxConfig, ips: tuple[str, ...]) -> None:
        self.id = sandbox_id
        self.config = config
        self.ips = ips
        self.state = SandboxState.READY
        self.created_at = clock.now()

    def status(self) -> SandboxStatus:
        config = self.config
        return SandboxStatus(
            id=self.id,
            name=config.name,
            namespace=config.namespace,
            uid=config.uid,
            attempt=config.attempt,
            state=self.state,
            created_at=self.created_at,
            ips=() if config.host_network else self.ips,
            labels=config.labels,
            annotations=config.annotations,
        )


class Container:
    """A virtual container and its process."""

    def __init__(
        self,
        container_id: str,
        sandbox: Sandbox,
        config: ContainerConfig,
        behaviour: Behaviour,
        image: ImageConfig,
        on_change: Callable[[str, str, str], None],
        log_to_disk: bool,
    ) -> None:
        self.id = container_id
        self.sandbox = sandbox
        self.config = config
        self.behaviour = behaviour
        self.resources = config.resources
        self.state = ContainerState.CREATED
        self.created_at = clock.now()
        self.started_at: datetime | None = None
        self.finished_at: datetime | None = None
        self.exit_code = 0
        self.signal = 0
        self.reason = ""
        self.message = ""
        self.exited = asyncio.Event()
        self.files: dict[str, bytes] = {}
        self.lines: deque[bytes] = deque(maxlen=LOG_LINES)
        self.log_reopened = 0
        self._image = image
        self.on_change = on_change
        self._log_to_disk = log_to_disk
        self._listeners: list[asyncio.Queue[tuple[str, bytes]]] = []
        self._timers: list[asyncio.TimerHandle] = []
        self._script: asyncio.Task[None] | None = None
        self._process: fake_shell.Process | None = None
        self._cpu = behaviour.cpu
        self._memory = behaviour.memory
        self._cpu_ns = 0.0
        self._cpu_since = 0.0

    @property
    def age(self) -> float:
        """Seconds since it started."""
        return (clock.now() - self.started_at).total_seconds() if self.started_at is not None else 0.0

    def log_path(self) -> str:
        directory = self.sandbox.config.log_directory
        return f"{directory}/{self.config.log_path}" if directory and self.config.log_path else ""

    def environment(self) -> dict[str, str]:
        env = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        env.update(entry.partition("=")[::2] for entry in self._image.env)
        env["HOSTNAME"] = self.sandbox.config.hostname or self.sandbox.config.name
        env.update(self.config.env)
        return env

    def write(self, stream: str, data: bytes) -> None:
        """What the process says: to those attached, and to the log in CRI's format, a line each."""
        for listener in self._listeners:
            listener.put_nowait((stream, data))
        prefix = f"{_stamp(clock.now())} {stream} ".encode()
        lines = [
            prefix + (b"F " if line.endswith(b"\n") else b"P ") + line.rstrip(b"\n") for line in data.splitlines(True)
        ]
        self.lines.extend(lines)
        if self._log_to_disk and (path := self.log_path()):
            with open(path, "ab") as file:
                file.write(b"".join(line + b"\n" for line in lines))

    def listen(self) -> asyncio.Queue[tuple[str, bytes]]:
        queue: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
        self._listeners.append(queue)
        return queue

    def unlisten(self, queue: asyncio.Queue[tuple[str, bytes]]) -> None:
        self._listeners.remove(queue)

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self.state = ContainerState.RUNNING
        self.started_at = clock.now()
        self._cpu_since = loop.time()
        if self._log_to_disk and (path := self.log_path()):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).touch()
        self.on_change("started", self.sandbox.id, self.id)
        behaviour = self.behaviour
        for after, line in behaviour.log:
            self._timers.append(loop.call_later(after, self.write, "stdout", f"{line}\n".encode()))
        if behaviour.log and behaviour.log_every:
            after, line = behaviour.log[-1]
            self._timers.append(loop.call_later(after + behaviour.log_every, self._repeat, line))
        if behaviour.script:
            argv = effective_argv(self.config, self._image)
            self._process = fake_shell.Process(self.environment(), self.files, self.write, self._serve_for_ever)
            self._script = loop.create_task(self._play(self._process, argv))
        elif behaviour.runs_for is not None:
            end = loop.call_later(behaviour.runs_for, self.end, behaviour.exit_code, 0, behaviour.oom_killed)
            self._timers.append(end)
        self._check_memory()

    async def _play(self, process: fake_shell.Process, argv: Sequence[str]) -> None:
        code = await process.run(argv)
        self._script = None
        self.end(code)

    async def _serve_for_ever(self, argv: Sequence[str]) -> int:
        await asyncio.get_running_loop().create_future()
        return 0

    def _repeat(self, line: str) -> None:
        assert self.behaviour.log_every is not None
        self.write("stdout", f"{line}\n".encode())
        self._timers = [timer for timer in self._timers if timer.when() > asyncio.get_running_loop().time()]
        again = asyncio.get_running_loop().call_later(self.behaviour.log_every, self._repeat, line)
        self._timers.append(again)

    def fail_start(self, message: str) -> None:
        """It never ran: the state that containerd gives for a command that is not there."""
        self.started_at = None
        self._finish(128, 0, "StartError", message)

    def end(self, exit_code: int, signal: int = 0, oom_killed: bool = False) -> None:
        """The main process ends, and with it the container."""
        if self.state is not ContainerState.RUNNING:
            return
        self._settle_cpu()
        if oom_killed:
            self._finish(137, 9, "OOMKilled")
        else:
            self._finish(exit_code, signal, "Completed" if exit_code == 0 else "Error")

    def _finish(self, exit_code: int, signal: int, reason: str, message: str = "") -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        if self._script is not None:
            self._script.cancel()
            self._script = None
        self.state = ContainerState.EXITED
        self.finished_at = clock.now()
        self.exit_code, self.signal, self.reason, self.message = exit_code, signal, reason, message
        self.exited.set()
        self.on_change("exited", self.sandbox.id, self.id)

    def kill(self) -> None:
        """SIGKILL."""
        self.end(137, 9)

    async def terminate(self) -> None:
        """The stop signal arrives."""
        behaviour = self.behaviour
        if behaviour.ignores_stop_signal:
            return
        if self._process is not None:
            shared = self.sandbox.config.share_process_namespace or self.sandbox.config.host_pid
            if self._process.handles_term:
                self.end(await self._process.terminate())
            elif shared:
                self.end(143, 15)
            return
        await asyncio.sleep(behaviour.stop_takes)
        self.end(behaviour.stop_exit_code)

    def set_usage(self, cpu: float | None = None, memory: int | None = None) -> None:
        """From now on it uses `cpu` cores and `memory` bytes."""
        self._settle_cpu()
        self._cpu = self._cpu if cpu is None else cpu
        self._memory = self._memory if memory is None else memory
        self._check_memory()

    def set_resources(self, resources: Resources) -> None:
        self.resources = resources
        self._check_memory()

    def _check_memory(self) -> None:
        limit = self.resources.memory_limit
        if limit and self._memory > limit and self.state is ContainerState.RUNNING:
            self._timers.append(asyncio.get_running_loop().call_later(0, self.end, 137, 9, True))

    def _settle_cpu(self) -> None:
        now = clock.elapsed()
        if self.state is ContainerState.RUNNING:
            cores = self._cpu
            if self.resources.cpu_quota > 0 and self.resources.cpu_period > 0:
                cores = min(cores, self.resources.cpu_quota / self.resources.cpu_period)
            self._cpu_ns += (now - self._cpu_since) * cores * 1e9
        self._cpu_since = now

    def stats(self) -> ContainerStats:
        self._settle_cpu()
        running = self.state is ContainerState.RUNNING
        memory = self._memory if running else 0
        return ContainerStats(
            id=self.id,
            timestamp=clock.now(),
            cpu_usage_ns=int(self._cpu_ns),
            memory_working_set=memory,
            memory_usage=memory,
            memory_rss=memory,
            pids=int(running),
        )

    def status(self) -> ContainerStatus:
        config = self.config
        return ContainerStatus(
            id=self.id,
            sandbox_id=self.sandbox.id,
            name=config.name,
            attempt=config.attempt,
            state=self.state,
            created_at=self.created_at,
            started_at=self.started_at,
            finished_at=self.finished_at,
            exit_code=self.exit_code,
            signal=self.signal,
            reason=self.reason,
            message=self.message,
            image=config.image,
            image_name=config.image_name,
            labels=config.labels,
            annotations=config.annotations,
            mounts=config.mounts,
            log_path=self.log_path(),
            resources=self.resources,
            user=(config.security.run_as_user or 0, config.security.run_as_group or 0),
        )


class Machine:
    """What survives a restart of the node agent. `seed` makes the identifiers; `addresses` is the pods' network
    prefix, used unless the runtime is given a network."""

    def __init__(self, seed: str = "", addresses: str = "10.244.0.") -> None:
        self.seed = seed
        self.sandboxes: dict[str, Sandbox] = {}
        self.containers: dict[str, Container] = {}
        self._addresses = addresses
        self._free: deque[int] = deque(range(2, 255))
        self._made = 0

    def new_id(self) -> str:
        self._made += 1
        return hashlib.sha256(f"{self.seed}/{self._made}".encode()).hexdigest()

    def take_address(self) -> str:
        if not self._free:
            raise RuntimeFailure("failed to set up sandbox network: no IP addresses available in range set")
        return f"{self._addresses}{self._free.popleft()}"

    def free_address(self, address: str) -> None:
        self._free.append(int(address.removeprefix(self._addresses)))

    def reboot(self) -> None:
        """Power off and on: nothing runs any more and no sandbox is ready; records remain."""
        for container in self.containers.values():
            if container.state is ContainerState.RUNNING:
                container.end(255)
                container.reason = "Unknown"
        for sandbox in self.sandboxes.values():
            sandbox.state = SandboxState.NOT_READY
