"""conmon, the monitor that each container has: it holds the container's standard streams, writes its log in CRI's
format, serves those who attach, and records the exit code. It outlives the node agent.

Protocol facts (conmon 2.1): the result of the OCI runtime's create comes as one line of JSON on the descriptor named in
_OCI_SYNCPIPE; BUNDLE/ctl is a fifo of "TYPE HEIGHT WIDTH" lines (1 resizes the terminal, 2 opens the log anew);
BUNDLE/attach is a SOCK_SEQPACKET socket, whose packets begin with 2 (stdout) or 3 (stderr) towards the client and are
plain stdin towards the container.
"""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path
from typing import Any

import msgspec

from podling.runtime import copying, processes
from podling.runtime.base import ContainerConfig, Resizes, RuntimeFailure, Source, Streams

_STDOUT, _STDERR = 2, 3
_PACKET = 8192


def find() -> str:
    path = shutil.which("conmon")
    if path is None:
        raise RuntimeFailure("no conmon was found in PATH: install the package conmon")
    return path


def _argv(
    program: str, oci: list[str], container_id: str, config: ContainerConfig, bundle: Path, exits: Path, log: str
) -> list[str]:
    argv = [program, "--cid", container_id, "--cuuid", container_id, "--name", config.name]
    argv += ["--runtime", oci[0], *(f"--runtime-arg={arg}" for arg in oci[1:])]
    argv += ["--bundle", str(bundle), "--container-pidfile", str(bundle / "pid")]
    argv += ["--conmon-pidfile", str(bundle / "conmon.pid"), "--exit-dir", str(exits), "--full-attach"]
    argv += ["--log-path", f"k8s-file:{log}" if log else "none", "--log-level", "error", "--no-sync-log"]
    if config.tty:
        argv.append("--terminal")
    if config.stdin:
        argv.append("--stdin")
        if not config.stdin_once:
            argv.append("--leave-stdin-open")
    return argv


async def create(
    program: str, oci: list[str], container_id: str, config: ContainerConfig, bundle: Path, exits: Path, log: str
) -> int:
    """Have conmon create the container of `bundle`; returns the process id of its init, which waits to be started.

    RuntimeFailure with the OCI runtime's own words if it cannot be made.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    os.set_blocking(writer, True)
    env = {**processes.ENVIRONMENT, "_OCI_SYNCPIPE": str(writer)}
    errors = os.open(bundle / "conmon.err", os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        argv = _argv(program, oci, container_id, config, bundle, exits, log)
        try:
            # It leaves a mark where it runs when the kernel kills for memory.
            child = processes.spawn(argv, env=env, stderr=errors, pass_fds=(writer,), cwd=str(bundle))
        finally:
            os.close(writer)
        answer = b""
        while not answer.endswith(b"\n") and (data := await copying.read(reader)):
            answer += data
        await child.wait()
        told = os.pread(errors, 4096, 0).decode(errors="replace").strip()
    finally:
        os.close(reader)
        os.close(errors)
    return _created(answer, told)


def _created(answer: bytes, told: str) -> int:
    """The pid out of conmon's answer; `told` is what it wrote on its stderr."""
    try:
        result: dict[str, Any] = msgspec.json.decode(answer, type=dict[str, Any])
    except msgspec.DecodeError:
        raise RuntimeFailure(
            f"conmon failed: {told or answer.decode(errors='replace') or 'it gave no answer'}"
        ) from None
    pid = int(result.get("pid", -1))
    if pid <= 0:
        raise RuntimeFailure(str(result.get("message") or told or "OCI runtime error").strip())
    return pid


def _control(bundle: Path, message: str) -> None:
    """Tell conmon something; a container that has ended has nobody who listens, which is no error."""
    try:
        fd = os.open(bundle / "ctl", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return
    try:
        os.write(fd, message.encode())
    finally:
        os.close(fd)


def reopen_log(bundle: Path) -> None:
    _control(bundle, "2 0 0\n")


def resize(bundle: Path, width: int, height: int) -> None:
    _control(bundle, f"1 {height} {width}\n")


async def attach(bundle: Path, streams: Streams, *, tty: bool) -> None:
    """Join the container's standard streams until it ends or its output is closed."""
    connection = _connect(bundle)
    try:
        async with copying.task_group() as group:
            helpers = []
            if streams.stdin is not None:
                helpers.append(group.create_task(_send(streams.stdin, connection)))
            if tty and streams.resize is not None:
                helpers.append(group.create_task(_follow_size(streams.resize, bundle)))
            await _receive(connection, streams)
            for helper in helpers:
                helper.cancel()
    finally:
        connection.close()


def _connect(bundle: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    # Through a descriptor of the directory: a socket's path may have no more than 107 bytes.
    directory = os.open(bundle, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        connection.setblocking(False)
        connection.connect(f"/proc/self/fd/{directory}/attach")
    except OSError as error:
        connection.close()
        raise RuntimeFailure(f"failed to attach to the container: {error.strerror}") from None
    finally:
        os.close(directory)
    return connection


async def _receive(connection: socket.socket, streams: Streams) -> None:
    while packet := await copying.read(connection.fileno(), _PACKET + 1):
        sink = streams.stderr if packet[0] == _STDERR else streams.stdout
        if sink is not None:
            await sink(packet[1:])


async def _send(source: Source, connection: socket.socket) -> None:
    try:
        while data := await source():
            for at in range(0, len(data), _PACKET):
                await copying.write(connection.fileno(), data[at : at + _PACKET])
        # The end of stdin: conmon passes it on if the container's stdin is to be closed after the first who attached.
        connection.shutdown(socket.SHUT_WR)
    except (BrokenPipeError, ConnectionResetError):
        pass


async def _follow_size(sizes: Resizes, bundle: Path) -> None:
    async for width, height in sizes:
        resize(bundle, width, height)
