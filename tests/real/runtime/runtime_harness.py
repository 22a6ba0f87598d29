"""Two nodes to run the contract on: a virtual one, and this machine with containers of busybox.

A harness gives the runtime, drops it as `kill -9` of the node agent would, and takes everything away at the end.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import subprocess
from collections.abc import Coroutine, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from podling import clock, mounts
from podling.images.base import Credentials, FilesystemUsage, Image, ImageConfig, Progress
from podling.network.base import Attachment, PortMapping
from podling.runtime.base import ContainerConfig, ContainerState, ContainerStatus, Runtime, SandboxConfig
from podling.runtime.fake import FakeRuntime, Machine
from podling.runtime.fake_behaviour import Behaviour, default_behaviour
from podling.runtime.fake_images import FakeImages

T = TypeVar("T")

PASSWD = "root:x:0:0:root:/root:/bin/sh\nweb:x:101:102:web:/home/web:/bin/sh\n"
GROUP = "root:x:0:\nweb:x:102:\naudio:x:29:root,web\n"


class BusyboxImages:
    """One image, made of the machine's static busybox; each container gets an overlay of it."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._lower = home / "lower"
        self.image = Image(id="sha256:" + hashlib.sha256(b"busybox").hexdigest(), repo_tags=("busybox",))
        for directory in ("bin", "etc", "tmp", "proc", "sys", "dev", "root", "home/web"):
            (self._lower / directory).mkdir(parents=True)
        (self._lower / "tmp").chmod(0o1777)
        shutil.copy("/bin/busybox", self._lower / "bin")
        for applet in subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True).stdout.split():
            if applet != "busybox":
                (self._lower / "bin" / applet).symlink_to("busybox")
        (self._lower / "etc/passwd").write_text(PASSWD)
        (self._lower / "etc/group").write_text(GROUP)

    def set_config(self, config: ImageConfig) -> None:
        self.image = Image(id=self.image.id, repo_tags=self.image.repo_tags, config=config)

    async def pull(
        self, reference: str, credentials: tuple[Credentials, ...] = (), progress: Progress | None = None
    ) -> Image:
        return self.image

    async def status(self, reference: str) -> Image | None:
        return self.image if reference in (self.image.id, "busybox") else None

    async def list(self) -> list[Image]:
        return [self.image]

    async def remove(self, reference: str) -> None:
        return None

    def last_used(self, image_id: str) -> datetime:
        return clock.EPOCH

    async def usage(self) -> FilesystemUsage:
        return FilesystemUsage(str(self._home), 0, 0)

    async def mount(self, image_id: str, key: str, target: str, *, readonly: bool = False) -> None:
        upper, work = self._home / key / "upper", self._home / key / "work"
        upper.mkdir(parents=True)
        work.mkdir()
        options = f"lowerdir={self._lower},upperdir={upper},workdir={work}"
        mounts.mount("overlay", target, "overlay", options=options)

    async def unmount(self, key: str, target: str) -> None:
        mounts.unmount(target)
        shutil.rmtree(self._home / key, ignore_errors=True)

    async def written(self, key: str) -> tuple[int, int]:
        files = [path for path in (self._home / key / "upper").rglob("*") if path.is_file()]
        return sum(path.stat().st_size for path in files), len(files)


class LoopbackNetwork:
    """Brings up `lo` in each namespace and calls that its address."""

    def __init__(self) -> None:
        self._attached: dict[str, Attachment] = {}

    async def attach(self, sandbox_id: str, netns: str, port_mappings: tuple[PortMapping, ...] = ()) -> Attachment:
        subprocess.run(["nsenter", f"--net={netns}", "ip", "link", "set", "lo", "up"], check=True)
        self._attached[sandbox_id] = Attachment(sandbox_id, ("127.0.0.1",), "lo")
        return self._attached[sandbox_id]

    async def detach(self, sandbox_id: str, netns: str | None) -> None:
        self._attached.pop(sandbox_id, None)

    async def attachments(self) -> dict[str, Attachment]:
        return dict(self._attached)

    async def retain(self, sandbox_ids: Iterable[str]) -> None:
        for sandbox_id in self._attached.keys() - frozenset(sandbox_ids):
            del self._attached[sandbox_id]


class Harness:
    """A node for a test."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.runtime: Runtime
        self.image = ""
        #: Whether it has a kernel.
        self.real = False

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        raise NotImplementedError

    async def up(self) -> None:
        raise NotImplementedError

    async def crash(self) -> None:
        """The agent is gone without a word; containers live on."""
        raise NotImplementedError

    async def down(self) -> None:
        raise NotImplementedError

    async def again(self) -> Runtime:
        """A new agent on the same node."""
        raise NotImplementedError

    def sandbox_config(self, **more: Any) -> SandboxConfig:
        logs = str(self.home / "logs")
        group = f"/podling-test-{self.home.name}-{os.getpid()}"
        given: dict[str, Any] = {"name": "pod", "namespace": "default", "uid": "1234", "log_directory": logs}
        return SandboxConfig(**{**given, "cgroup_parent": f"{group}/pod", **more})

    def container_config(self, *command: str, name: str = "main", **more: Any) -> ContainerConfig:
        given: dict[str, Any] = {
            "name": name,
            "image": self.image,
            "image_name": "busybox",
            "log_path": f"{name}/0.log",
        }
        return ContainerConfig(**{**given, "command": command, **more})

    async def running(self, *command: str, sandbox: dict[str, Any] | None = None, **more: Any) -> tuple[str, str]:
        """A sandbox with one started container: (sandbox id, container id)."""
        sandbox_id = await self.runtime.run_sandbox(self.sandbox_config(**(sandbox or {})))
        container_id = await self.runtime.create_container(sandbox_id, self.container_config(*command, **more))
        await self.runtime.start_container(container_id)
        return sandbox_id, container_id

    async def ended(self, container_id: str) -> ContainerStatus:
        """Its status once it has exited."""
        async with asyncio.timeout(20):
            async for event in self.runtime.events():
                status = await self.runtime.container_status(container_id)
                if event.container_id == container_id and status.state is ContainerState.EXITED:
                    return status
        raise AssertionError("unreachable")


def _misbehave(config: ContainerConfig) -> Behaviour:
    """What commands do on the virtual node that a kernel would see to."""
    if config.command[:1] == ("/nonexistent",):
        return Behaviour(start_error="executable file `/nonexistent` not found in $PATH: No such file or directory")
    if config.command[:2] == ("tail", "/dev/zero"):
        return Behaviour(memory=1 << 40)
    if config.command[:1] == ("nc",):

        async def echo(port: int, stdin: Any, stdout: Any) -> None:
            while data := await stdin():
                await stdout(data)

        return Behaviour(serve=echo)
    return default_behaviour(config)


class FakeHarness(Harness):
    def run(self, main: Coroutine[Any, Any, T]) -> T:
        return clock.run_virtual(main)

    async def up(self) -> None:
        self._images = FakeImages()
        self.image = (await self._images.pull("busybox")).id
        self._machine = Machine()
        await self.again()

    async def again(self) -> Runtime:
        self.runtime = FakeRuntime(self._images, machine=self._machine, behaviour=_misbehave, log_to_disk=True)
        await self.runtime.start()
        return self.runtime

    async def crash(self) -> None:
        await self.runtime.close()

    async def down(self) -> None:
        await self.runtime.close()


class OciHarness(Harness):
    def __init__(self, home: Path, binary: str | None = None) -> None:
        super().__init__(home)
        self.real = True
        self._binary = binary

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        return asyncio.run(main)

    async def up(self) -> None:
        self.images = BusyboxImages(self.home / "images")
        self.network = LoopbackNetwork()
        self.image = self.images.image.id
        await self.again()

    async def again(self) -> Runtime:
        from podling.runtime.oci import OciRuntime

        self.runtime = OciRuntime(
            self.home / "state", self.home / "run", self.images, self.network, self._binary, tune_kernel=False
        )
        await self.runtime.start()
        return self.runtime

    async def crash(self) -> None:
        # Its watches go with the process; nothing else may be needed.
        from podling.runtime.oci import OciRuntime

        assert isinstance(self.runtime, OciRuntime)
        self.runtime._watch.close()
        for live in self.runtime._containers.values():
            self.runtime._unwatch_conmon(live)
        for task in self.runtime._tasks:
            task.cancel()

    async def down(self) -> None:
        from podling.runtime.teardown import teardown

        await self.runtime.close()
        await teardown(self.home / "state", self.home / "run", self.images, self.network)
