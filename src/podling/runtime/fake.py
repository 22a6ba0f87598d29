"""Virtual containers on the event loop's time: the node of a simulation, and of tests that need no kernel.

`Machine` is what would survive a restart of the node agent: sandboxes, containers and their processes. `FakeRuntime`
is the agent's view of it, with the same verbs and states as the real one. No threads, no clock but the loop's, and no
identifiers but what the seed gives, so a run can be repeated exactly.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from datetime import datetime
from pathlib import Path

from podling import clock
from podling.images.base import ImageConfig, ImageService
from podling.network.base import SandboxNetwork
from podling.runtime import fake_shell
from podling.runtime.base import (
    ContainerConfig,
    ContainerState,
    ContainerStats,
    ContainerStatus,
    ExecResult,
    ExecTimeout,
    NotFound,
    Resources,
    RuntimeEvent,
    RuntimeFailure,
    SandboxConfig,
    SandboxState,
    SandboxStatus,
    Sink,
    Source,
    Streams,
)
from podling.runtime.fake_behaviour import SERVER, Behaviour, Chooser, ExecOutcome, default_behaviour, effective_argv

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
        self._on_change = on_change
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
        self._on_change("started", self.sandbox.id, self.id)
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
        self._on_change("exited", self.sandbox.id, self.id)

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


class FakeRuntime:
    """The runtime of a simulated node.

    `behaviour` chooses what a container does; with `log_to_disk` logs are also written where the real runtime would
    write them. Another FakeRuntime on the same `machine` is what the node agent sees after a restart.
    """

    name = "fake"

    def __init__(
        self,
        images: ImageService | None = None,
        network: SandboxNetwork | None = None,
        *,
        behaviour: Chooser = default_behaviour,
        machine: Machine | None = None,
        log_to_disk: bool = False,
    ) -> None:
        self.machine = machine if machine is not None else Machine()
        self._images = images
        self._network = network
        self._choose = behaviour
        self._log_to_disk = log_to_disk
        self._events: asyncio.Queue[RuntimeEvent] = asyncio.Queue()
        self._closed = False

    async def version(self) -> str:
        return "1.0.0"

    async def start(self) -> None:
        for container in self.machine.containers.values():
            container._on_change = self._changed

    async def close(self) -> None:
        self._closed = True

    def _changed(self, kind: str, sandbox_id: str, container_id: str) -> None:
        if not self._closed:
            self._events.put_nowait(RuntimeEvent(kind, sandbox_id, container_id))

    async def events(self) -> AsyncIterator[RuntimeEvent]:
        while True:
            yield await self._events.get()

    def sandbox(self, sandbox_id: str) -> Sandbox:
        """The virtual sandbox itself, for a test or a chaos drill to reach into."""
        try:
            return self.machine.sandboxes[sandbox_id]
        except KeyError:
            raise NotFound(f'an error occurred when try to find sandbox "{sandbox_id}": not found') from None

    def container(self, container_id: str) -> Container:
        """The virtual container itself: `end` it, `set_usage`, read its `lines`, change its `files`."""
        try:
            return self.machine.containers[container_id]
        except KeyError:
            raise NotFound(f'an error occurred when try to find container "{container_id}": not found') from None

    def log(self, container_id: str) -> bytes:
        """The container's log in CRI's format, as its log file would hold it."""
        return b"".join(line + b"\n" for line in self.container(container_id).lines)

    def healthy(self, container_id: str) -> bool:
        """Whether a network probe of the container succeeds now."""
        container = self.container(container_id)
        return container.state is ContainerState.RUNNING and container.behaviour.healthy(container.age)

    async def run_sandbox(self, config: SandboxConfig) -> str:
        sandbox_id = self.machine.new_id()
        ips: tuple[str, ...] = ()
        if not config.host_network:
            if self._network is not None:
                ips = (await self._network.attach(sandbox_id, "", config.port_mappings)).ips
            else:
                ips = (self.machine.take_address(),)
        self.machine.sandboxes[sandbox_id] = Sandbox(sandbox_id, config, ips)
        self._changed("started", sandbox_id, "")
        return sandbox_id

    async def stop_sandbox(self, sandbox_id: str) -> None:
        sandbox = self.machine.sandboxes.get(sandbox_id)
        if sandbox is None:
            return
        for container in self._of(sandbox_id):
            container.kill()
        if sandbox.ips:
            if self._network is not None:
                await self._network.detach(sandbox_id, None)
            else:
                self.machine.free_address(sandbox.ips[0])
            sandbox.ips = ()
        if sandbox.state is SandboxState.READY:
            sandbox.state = SandboxState.NOT_READY
            self._changed("exited", sandbox_id, "")

    async def remove_sandbox(self, sandbox_id: str) -> None:
        if sandbox_id not in self.machine.sandboxes:
            return
        await self.stop_sandbox(sandbox_id)
        for container in self._of(sandbox_id):
            await self.remove_container(container.id)
        self.machine.sandboxes.pop(sandbox_id, None)
        self._changed("removed", sandbox_id, "")

    def _of(self, sandbox_id: str) -> list[Container]:
        return [each for each in self.machine.containers.values() if each.sandbox.id == sandbox_id]

    async def sandbox_status(self, sandbox_id: str) -> SandboxStatus:
        return self.sandbox(sandbox_id).status()

    async def list_sandboxes(self) -> list[SandboxStatus]:
        return [sandbox.status() for sandbox in self.machine.sandboxes.values()]

    async def create_container(self, sandbox_id: str, config: ContainerConfig) -> str:
        sandbox = self.sandbox(sandbox_id)
        if sandbox.state is not SandboxState.READY:
            raise RuntimeFailure(f'failed to create container: sandbox "{sandbox_id}" is not running')
        image = ImageConfig()
        if self._images is not None:
            found = await self._images.status(config.image)
            if found is None:
                raise RuntimeFailure(f'failed to create container: image "{config.image}" not found')
            image = found.config
        behaviour = self._choose(config)
        argv = effective_argv(config, image)
        if behaviour is SERVER and not config.command and fake_shell.knows(argv):
            behaviour = default_behaviour(ContainerConfig(name=config.name, image=config.image, command=argv))
        if behaviour.create_error:
            raise RuntimeFailure(behaviour.create_error)
        container_id = self.machine.new_id()
        container = Container(container_id, sandbox, config, behaviour, image, self._changed, self._log_to_disk)
        self.machine.containers[container_id] = container
        return container_id

    async def start_container(self, container_id: str) -> None:
        container = self.container(container_id)
        if container.state is not ContainerState.CREATED:
            raise RuntimeFailure(f'container "{container_id}" is in state {container.state}: it can be started once')
        if container.behaviour.start_takes:
            await asyncio.sleep(container.behaviour.start_takes)
        if container.behaviour.start_error:
            container.fail_start(container.behaviour.start_error)
            raise RuntimeFailure(container.behaviour.start_error)
        container.start()

    async def stop_container(self, container_id: str, timeout: float) -> None:
        container = self.machine.containers.get(container_id)
        if container is None or container.state is not ContainerState.RUNNING:
            return
        term = asyncio.get_running_loop().create_task(container.terminate())
        try:
            async with asyncio.timeout(timeout):
                await container.exited.wait()
        except TimeoutError:
            container.kill()
        finally:
            term.cancel()

    async def remove_container(self, container_id: str) -> None:
        container = self.machine.containers.get(container_id)
        if container is None:
            return
        container.kill()
        self.machine.containers.pop(container_id, None)
        self._changed("removed", container.sandbox.id, container_id)

    async def container_status(self, container_id: str) -> ContainerStatus:
        return self.container(container_id).status()

    async def list_containers(self, sandbox_id: str | None = None) -> list[ContainerStatus]:
        containers = self.machine.containers.values() if sandbox_id is None else self._of(sandbox_id)
        return [container.status() for container in containers]

    async def update_resources(self, container_id: str, resources: Resources) -> None:
        self.container(container_id).set_resources(resources)

    async def update_sandbox_resources(self, sandbox_id: str, resources: Resources) -> None:
        self.sandbox(sandbox_id)

    async def reopen_log(self, container_id: str) -> None:
        container = self._running(container_id)
        container.log_reopened += 1
        if self._log_to_disk and (path := container.log_path()):
            Path(path).touch()

    def _running(self, container_id: str) -> Container:
        container = self.container(container_id)
        if container.state is not ContainerState.RUNNING:
            raise RuntimeFailure(f'container "{container_id}" is not running (state: {container.state})')
        return container

    async def exec_sync(self, container_id: str, argv: tuple[str, ...], timeout: float | None) -> ExecResult:
        output: dict[str, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}
        try:
            async with asyncio.timeout(timeout or None):
                code = await self._exec(container_id, argv, lambda stream, data: output[stream].extend(data))
        except TimeoutError:
            raise ExecTimeout(f'command "{" ".join(argv)}" timed out') from None
        return ExecResult(bytes(output["stdout"]), bytes(output["stderr"]), code)

    async def _exec(self, container_id: str, argv: tuple[str, ...], write: fake_shell.Write) -> int:
        container = self._running(container_id)
        answer = container.behaviour.exec
        if answer is None and fake_shell.knows(argv):
            command = fake_shell.Process(container.environment(), container.files, write, _succeed)
            return await self._while_running(container, command.run(argv))
        outcome = answer(argv, container.age) if answer is not None else _answer_like_probes(container)
        return await self._while_running(container, _play(outcome, write))

    async def _while_running(self, container: Container, command: Coroutine[None, None, int]) -> int:
        """The command's exit code; the end of the container kills it."""
        ended = asyncio.ensure_future(container.exited.wait())
        running = asyncio.ensure_future(command)
        try:
            await asyncio.wait((ended, running), return_when=asyncio.FIRST_COMPLETED)
            return running.result() if running.done() else 137
        finally:
            ended.cancel()
            running.cancel()

    async def exec(self, container_id: str, argv: tuple[str, ...], *, tty: bool, streams: Streams) -> int:
        output: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
        copier = asyncio.ensure_future(_copy_out(output, streams, merged=tty))
        try:
            code = await self._exec(container_id, argv, lambda stream, data: output.put_nowait((stream, data)))
            output.put_nowait(("end", b""))
            await copier
            return code
        finally:
            copier.cancel()

    async def attach(self, container_id: str, streams: Streams) -> None:
        container = self._running(container_id)
        output = container.listen()
        copier = asyncio.ensure_future(_copy_out(output, streams, merged=container.config.tty))
        reader = asyncio.ensure_future(_swallow(streams.stdin))
        try:
            await container.exited.wait()
            output.put_nowait(("end", b""))
            await copier
        finally:
            container.unlisten(output)
            copier.cancel()
            reader.cancel()

    async def port_forward(self, sandbox_id: str, port: int, stdin: Source, stdout: Sink) -> None:
        sandbox = self.sandbox(sandbox_id)
        for container in self._of(sandbox_id):
            if container.state is ContainerState.RUNNING and container.behaviour.serve is not None:
                await container.behaviour.serve(port, stdin, stdout)
                return
        raise RuntimeFailure(
            f'failed to connect to localhost:{port} inside namespace "{sandbox.id}": '
            f"dial tcp4 127.0.0.1:{port}: connect: connection refused"
        )

    async def container_stats(self, container_id: str) -> ContainerStats:
        return self.container(container_id).stats()


def _answer_like_probes(container: Container) -> ExecOutcome:
    return ExecOutcome(exit_code=0 if container.behaviour.healthy(container.age) else 1)


async def _play(outcome: ExecOutcome, write: fake_shell.Write) -> int:
    if outcome.takes is None:
        await asyncio.Event().wait()
    else:
        await asyncio.sleep(outcome.takes)
    write("stdout", outcome.stdout)
    write("stderr", outcome.stderr)
    return outcome.exit_code


async def _succeed(argv: Sequence[str]) -> int:
    return 0


async def _swallow(stdin: Source | None) -> None:
    while stdin is not None and await stdin():
        pass


async def _copy_out(output: asyncio.Queue[tuple[str, bytes]], streams: Streams, *, merged: bool) -> None:
    while True:
        stream, data = await output.get()
        if stream == "end":
            return
        sink = streams.stderr if stream == "stderr" and not merged else streams.stdout
        if sink is not None and data:
            await sink(data)
