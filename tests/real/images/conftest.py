"""A store, a mount point that is left clean, and a real registry on loopback."""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from podling import mounts
from podling.images.store import ImageStore


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[ImageStore]:
    made = ImageStore(tmp_path / "store")
    yield made
    await made.close()
    for target in reversed(mounts.targets_below(str(tmp_path))):
        mounts.unmount(target)


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """Where to mount."""
    target = tmp_path / "root"
    yield target
    mounts.unmount_all(str(target))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """`127.0.0.1:port` of Debian's docker-registry with an empty storage."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("docker-registry is not installed")
    port = _free_port()
    config = tmp_path / "registry.yml"
    config.write_text(
        "version: 0.1\nlog:\n  level: error\n"
        f"storage:\n  filesystem:\n    rootdirectory: {tmp_path / 'registry'}\n"
        f"http:\n  addr: 127.0.0.1:{port}\n"
    )
    with open(tmp_path / "registry.log", "wb") as log:
        process = subprocess.Popen([program, "serve", str(config)], stdout=log, stderr=log)
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()


async def skopeo(*argv: str) -> None:
    """Run skopeo; its complaint is the test's."""
    process = await asyncio.create_subprocess_exec(
        "skopeo", "--insecure-policy", *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
