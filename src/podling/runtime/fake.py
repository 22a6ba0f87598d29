"""Virtual containers on the event loop's time: the node of a simulation, and of tests that need no kernel.

`Machine` (module `fake_machine`) is what would survive a restart of the node agent: sandboxes, containers and their
processes. `FakeRuntime` is the agent's view of it, with the same verbs and states as the real one. No threads, no
clock but the loop's, and no identifiers but what the seed gives, so a run can be repeated exactly.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from pathlib import Path

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
from podling.runtime.fake_behaviour import SERVER, Chooser, ExecOutcome, default_behaviour, effective_argv
from podling.runtime.fake_machine import Container, Sandbox
from podling.runtime.fake_machine import Machine as Machine


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
        #: Why it can start nothing, "" if it can.
        self.down = ""

    def problem(self) -> str:
        return self.down

    async def version(self) -> str:
        return "1.0.0"

    async def start(self) -> None:
        for container in self.machine.containers.values():
            container.on_change = self._changed

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
