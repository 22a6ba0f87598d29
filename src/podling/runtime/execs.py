"""Commands run beside a container's own process, through the OCI runtime's exec."""

from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import os
import signal
import socket
import struct
import termios
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from podling.runtime import copying, processes
from podling.runtime.base import ExecResult, ExecTimeout, Resizes, RuntimeFailure, Sink, Streams
from podling.runtime.crun import OciCli

#: CRI's bound on what exec_sync returns, of each stream.
LARGEST_OUTPUT = 16 << 20

#: Seconds that the OCI runtime is given to notice that the command is dead.
_REAPING = 2.0


def _process(bundle: Path, argv: Sequence[str], tty: bool) -> dict[str, Any]:
    """The container's own process with another command: same user, environment, capabilities and directory."""
    process: dict[str, Any] = msgspec.json.decode((bundle / "config.json").read_bytes())["process"]
    process["args"], process["terminal"] = list(argv), tty
    if tty and not any(entry.startswith("TERM=") for entry in process["env"]):
        process["env"].append("TERM=xterm")
    return process


class Exec:
    """One command. `start` it, copy its streams, `wait` for its exit code; leaving the context kills it."""

    def __init__(self, oci: OciCli, bundle: Path, container_id: str, argv: Sequence[str], tty: bool = False) -> None:
        self._oci = oci
        self._bundle = bundle
        self._container_id = container_id
        self._argv = argv
        self._tty = tty
        #: runc hands a terminal over only for detached commands, whose exit code nobody gets: it copies from its own.
        self.relays_terminal = oci.name == "runc"
        self._pid_file = bundle / f"exec-{os.urandom(6).hex()}.pid"
        self._child: processes.Child | None = None
        self._open: list[int] = []
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def __aenter__(self) -> Exec:
        self._messages = self._keep(os.memfd_create("messages", os.MFD_CLOEXEC))
        self._spec = self._keep(os.memfd_create("process", os.MFD_CLOEXEC))
        os.write(self._spec, msgspec.json.encode(_process(self._bundle, self._argv, self._tty)))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._child is not None and not self.ended.done():
            await self._kill(self._child)
        self._pid_file.unlink(missing_ok=True)
        for fd in self._open:
            os.close(fd)

    def _keep(self, fd: int) -> int:
        self._open.append(fd)
        return fd

    def pipe(self) -> tuple[int, int]:
        """(our reading end, the command's writing end)."""
        reader, writer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(reader, False)
        return self._keep(reader), writer

    def input_pipe(self) -> tuple[int, int]:
        """(the command's reading end, our writing end)."""
        reader, writer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(writer, False)
        return reader, self._keep(writer)

    def close_input(self, fd: int) -> None:
        """The end of its standard input."""
        self._open.remove(fd)
        os.close(fd)

    def start(
        self,
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        options: Sequence[str] = (),
        pass_fds: Sequence[int] = (),
    ) -> None:
        command = self._oci.argv(f"--log=/proc/self/fd/{self._messages}", "--log-format=json")
        command += ["exec", f"--process=/proc/self/fd/{self._spec}", f"--pid-file={self._pid_file}", *options]
        fds = (self._messages, self._spec, *pass_fds)
        argv = [*command, self._container_id]
        self._child = processes.spawn(argv, stdin=stdin, stdout=stdout, stderr=stderr, pass_fds=fds)

    def began(self) -> bool:
        """Whether the command itself runs or ran; until then what is on stderr are the OCI runtime's words."""
        return bool(self._read_pid())

    def size_changed(self) -> None:
        """Have a terminal that the OCI runtime relays take the new size of ours."""
        if self.relays_terminal and self._child is not None:
            self._child.kill(signal.SIGWINCH)

    def own_words(self, sink: Sink | None) -> Sink:
        """Passes on what the command itself says; a complaint of the OCI runtime becomes the failure of `wait`."""

        async def pass_on(data: bytes) -> None:
            # The file comes a moment after the command has started, and no event tells of it in time.
            while not self.began() and not self.ended.done():  # noqa: ASYNC110  a file, and for a millisecond
                await asyncio.sleep(0.002)
            if sink is not None and self.began():
                await sink(data)

        return pass_on

    def _read_pid(self) -> int:
        try:
            text = self._pid_file.read_text().strip()
        except FileNotFoundError:
            return 0
        return int(text) if text.isdigit() else 0

    async def wait(self) -> int:
        """Its exit code. RuntimeFailure if it could not be run."""
        assert self._child is not None
        code = await self._child.wait()
        if not self.ended.done():
            self.ended.set_result(None)
        if code != 0 and not self.began():
            raise RuntimeFailure(f"failed to exec in container: {self._complaint() or f'exit code {code}'}")
        return code if code >= 0 else 128 - code

    def _complaint(self) -> str:
        messages = []
        for line in os.pread(self._messages, 65536, 0).splitlines():
            try:
                messages.append(str(msgspec.json.decode(line)["msg"]))
            except (msgspec.DecodeError, KeyError, TypeError):
                messages.append(line.decode(errors="replace"))
        return "; ".join(messages)

    async def _kill(self, child: processes.Child) -> None:
        """SIGKILL the command and what it started in its session. The OCI runtime's process then ends by itself; killed
        it would leave zombies behind, which hold up the end of the container."""
        pid = self._read_pid()
        if pid:
            try:
                group = os.getpgid(pid)
                if os.getsid(pid) != os.getsid(0):
                    os.killpg(group, signal.SIGKILL)
                else:
                    os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            try:
                async with asyncio.timeout(_REAPING):
                    await child.wait()
                return
            except TimeoutError:
                pass
        child.kill_and_reap()


async def run_sync(
    oci: OciCli, bundle: Path, container_id: str, argv: Sequence[str], timeout: float | None
) -> ExecResult:
    """Run to the end and collect the output. ExecTimeout if it takes longer; it is killed then."""
    output: tuple[bytearray, bytearray] = (bytearray(), bytearray())
    async with Exec(oci, bundle, container_id, argv) as command:
        (out, its_out), (err, its_err) = command.pipe(), command.pipe()
        try:
            command.start(stdout=its_out, stderr=its_err)
        finally:
            os.close(its_out)
            os.close(its_err)
        try:
            async with asyncio.timeout(timeout or None), copying.task_group() as group:
                for fd, into in zip((out, err), output, strict=True):
                    group.create_task(copying.pump_out(fd, _collector(into), command.ended))
                code = await command.wait()
        except TimeoutError:
            raise ExecTimeout(f'command "{" ".join(argv)}" timed out') from None
    return ExecResult(bytes(output[0]), bytes(output[1]), code)


def _collector(into: bytearray) -> Any:
    async def collect(data: bytes) -> None:
        into.extend(data[: LARGEST_OUTPUT - len(into)])

    return collect


async def run(oci: OciCli, bundle: Path, container_id: str, argv: Sequence[str], tty: bool, streams: Streams) -> int:
    """Run with `streams` connected until it exits; returns the exit code. Cancelling kills it."""
    async with Exec(oci, bundle, container_id, argv, tty) as command:
        if tty:
            return await _on_terminal(command, bundle, streams)
        return await _on_pipes(command, streams)


async def _on_pipes(command: Exec, streams: Streams) -> int:
    (out, its_out), (err, its_err) = command.pipe(), command.pipe()
    its_in, feed = command.input_pipe() if streams.stdin is not None else (None, -1)
    try:
        command.start(its_in, its_out, its_err)
    finally:
        for fd in (its_out, its_err, *((its_in,) if its_in is not None else ())):
            os.close(fd)

    async with copying.task_group() as group:
        group.create_task(copying.pump_out(out, streams.stdout, command.ended))
        group.create_task(copying.pump_out(err, command.own_words(streams.stderr), command.ended))
        feeding = group.create_task(_feed(command, streams, feed))
        code = await command.wait()
        feeding.cancel()
    return code


async def _feed(command: Exec, streams: Streams, fd: int) -> None:
    if streams.stdin is not None:
        await copying.pump_in(streams.stdin, fd)
        command.close_input(fd)


async def _on_terminal(command: Exec, bundle: Path, streams: Streams) -> int:
    if command.relays_terminal:
        terminal, other = _new_terminal()
        try:
            command.start(other, other, other)
        finally:
            os.close(other)
    else:
        async with _console(bundle) as (listener, directory, option):
            command.start(options=[option], pass_fds=[directory])
            terminal = await _received_terminal(command, listener)
    try:
        async with copying.task_group() as group:
            group.create_task(copying.pump_out(terminal, command.own_words(streams.stdout), command.ended))
            helpers = []
            if streams.stdin is not None:
                helpers.append(group.create_task(copying.pump_in(streams.stdin, terminal)))
            if streams.resize is not None:
                helpers.append(group.create_task(_follow_size(streams.resize, terminal, command)))
            code = await command.wait()
            for helper in helpers:
                helper.cancel()
        return code
    finally:
        os.close(terminal)


def _new_terminal() -> tuple[int, int]:
    """(master side, non-blocking; slave side)."""
    master, slave = os.openpty()
    os.set_blocking(master, False)
    return master, slave


async def _received_terminal(command: Exec, listener: socket.socket) -> int:
    """The terminal that the OCI runtime made, unless it fails before; then that failure."""
    waiting = asyncio.ensure_future(command.wait())
    accepting = asyncio.ensure_future(_receive_terminal(listener))
    try:
        await asyncio.wait((waiting, accepting), return_when=asyncio.FIRST_COMPLETED)
        if accepting.done():
            return accepting.result()
        await waiting
        raise RuntimeFailure("failed to exec in container: the OCI runtime sent no terminal")
    finally:
        waiting.cancel()
        accepting.cancel()
        await asyncio.wait((waiting, accepting))


@contextlib.asynccontextmanager
async def _console(bundle: Path) -> AsyncIterator[tuple[socket.socket, int, str]]:
    """A socket that the OCI runtime sends the terminal to: (listener, directory to pass on, option that names it)."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.setblocking(False)
    directory = os.open(bundle, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    name = f"console-{os.urandom(6).hex()}"
    try:
        # By way of the directory's descriptor: a socket's path may have no more than 107 bytes.
        listener.bind(f"/proc/self/fd/{directory}/{name}")
        listener.listen(1)
        yield listener, directory, f"--console-socket=/proc/self/fd/{directory}/{name}"
    finally:
        (bundle / name).unlink(missing_ok=True)
        listener.close()
        os.close(directory)


async def _receive_terminal(listener: socket.socket) -> int:
    """The terminal's master side, as a non-blocking descriptor."""
    await copying.readable(listener.fileno())
    connection, _ = listener.accept()
    with connection:
        connection.setblocking(False)
        await copying.readable(connection.fileno())
        _, ancillary, _, _ = connection.recvmsg(4096, socket.CMSG_SPACE(array.array("i", [0]).itemsize))
    fds = array.array("i")
    for _, _, data in ancillary:
        fds.frombytes(data[: fds.itemsize])
    if not fds:
        raise RuntimeFailure("failed to exec in container: the OCI runtime sent no terminal")
    os.set_blocking(fds[0], False)
    return fds[0]


async def _follow_size(sizes: Resizes, terminal: int, command: Exec) -> None:
    async for width, height in sizes:
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        command.size_changed()
