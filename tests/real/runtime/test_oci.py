"""What only real containers can show: isolation, identity, terminals, and what is left behind."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from podling import mounts
from podling.images.base import ImageConfig
from podling.runtime import processes
from podling.runtime.base import (
    ContainerState,
    Device,
    DNSConfig,
    Mount,
    Resources,
    RuntimeFailure,
    SandboxState,
    SeccompKind,
    SecurityContext,
    Streams,
)
from podling.runtime.oci import OciRuntime
from podling.runtime.records import Phase
from podling.runtime.teardown import teardown
from tests.real.runtime.runtime_harness import OciHarness
from tests.real.runtime.test_contract import FOREVER, sink, source, until

pytestmark = pytest.mark.real

Body = Callable[[OciHarness], Awaitable[None]]


@pytest.fixture(params=["crun", "runc"])
def node(request: pytest.FixtureRequest, home: Path) -> Callable[[Body], None]:
    harness = OciHarness(home, request.param)

    async def main(body: Body) -> None:
        await harness.up()
        try:
            async with asyncio.timeout(60):
                await body(harness)
        finally:
            await harness.down()
            assert mounts.targets_below(str(home)) == []

    return lambda body: harness.run(main(body))


async def said(h: OciHarness, container_id: str, *argv: str) -> str:
    result = await h.runtime.exec_sync(container_id, argv, 20)
    return (result.stdout + result.stderr).decode().strip()


@pytest.mark.parametrize(
    ("image_user", "security", "identity"),
    [
        ("", SecurityContext(), "uid=0(root) gid=0(root) groups=0(root),29(audio)"),
        ("web", SecurityContext(), "uid=101(web) gid=102(web) groups=29(audio),102(web)"),
        (
            "",
            SecurityContext(run_as_user=1000, run_as_group=3000, supplemental_groups=(4000,)),
            "uid=1000 gid=3000 groups=3000,4000",
        ),
        ("web", SecurityContext(run_as_user=65534), "uid=65534 gid=0(root) groups=0(root)"),
    ],
)
def test_user(node: Callable[[Body], None], image_user: str, security: SecurityContext, identity: str) -> None:
    async def body(h: OciHarness) -> None:
        h.images.set_config(ImageConfig(user=image_user))
        _, container_id = await h.running("sh", "-c", "id; sleep 1000", security=security)
        log = (await h.runtime.container_status(container_id)).log_path
        await until(lambda: " F " in Path(log).read_text())
        uid = identity.partition("uid=")[2].split("(")[0].split(" ")[0]
        for text in (await said(h, container_id, "id"), Path(log).read_text().split(" F ", 1)[1].strip()):
            before, _, groups = text.partition(" groups=")
            wanted, _, wanted_groups = identity.partition(" groups=")
            assert (before, set(groups.split(","))) == (wanted, set(wanted_groups.split(",")))
        status = await h.runtime.container_status(container_id)
        assert status.user is not None and str(status.user[0]) == uid

    node(body)


def test_user_that_the_image_does_not_know(node: Callable[[Body], None]) -> None:
    async def body(h: OciHarness) -> None:
        h.images.set_config(ImageConfig(user="nobody-knows"))
        sandbox_id = await h.runtime.run_sandbox(h.sandbox_config())
        with pytest.raises(RuntimeFailure, match="unable to find user nobody-knows"):
            await h.runtime.create_container(sandbox_id, h.container_config(*FOREVER))
        assert await h.runtime.list_containers() == []

    node(body)


def test_confinement(node: Callable[[Body], None]) -> None:
    async def body(h: OciHarness) -> None:
        security = SecurityContext(
            readonly_rootfs=True, no_new_privs=True, drop_capabilities=("ALL",), add_capabilities=("NET_BIND_SERVICE",),
            seccomp=SeccompKind.RUNTIME_DEFAULT,
        )  # fmt: skip
        _, container_id = await h.running(*FOREVER, security=security)
        status = await said(h, container_id, "cat", "/proc/self/status")
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert int(fields["CapEff"], 16) == int(fields["CapBnd"], 16) == 1 << 10
        assert (fields["NoNewPrivs"], fields["Seccomp"]) == ("1", "2")
        assert "Read-only file system" in await said(h, container_id, "touch", "/x")
        assert "Operation not permitted" in await said(h, container_id, "unshare", "-m", "true")
        assert await said(h, container_id, "cat", "/proc/timer_list") == ""
        assert "Read-only" in await said(h, container_id, "sh", "-c", "echo 1 > /proc/sys/vm/swappiness")

    node(body)


def test_privileged(node: Callable[[Body], None]) -> None:
    async def body(h: OciHarness) -> None:
        _, container_id = await h.running(*FOREVER, security=SecurityContext(privileged=True))
        own = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapBnd"))
        assert own in await said(h, container_id, "cat", "/proc/self/status")
        assert await said(h, container_id, "sh", "-c", "mkdir /m && mount -t tmpfs none /m && echo yes") == "yes"
        assert "loop" in await said(h, container_id, "ls", "/dev") or "vda" in await said(h, container_id, "ls", "/dev")

    node(body)


def test_device(node: Callable[[Body], None]) -> None:
    async def body(h: OciHarness) -> None:
        _, container_id = await h.running(*FOREVER, devices=(Device("/dev/zero", "/dev/nothing", "r"),))
        assert await said(h, container_id, "sh", "-c", "head -c 3 /dev/nothing | wc -c") == "3"

    node(body)


def test_sandbox_gives_names_memory_and_sysctls(node: Callable[[Body], None]) -> None:
    async def body(h: OciHarness) -> None:
        config: dict[str, Any] = {
            "hostname": "web-0",
            "dns": DNSConfig(("10.96.0.10",), ("a.svc", "b"), ("ndots:5",)),
            "sysctls": {"kernel.shm_rmid_forced": "1", "net.ipv4.ip_unprivileged_port_start": "80"},
        }
        sandbox_id, one = await h.running(*FOREVER, sandbox=config)
        two = await h.runtime.create_container(sandbox_id, h.container_config(*FOREVER, name="two"))
        await h.runtime.start_container(two)
        assert await said(h, one, "hostname") == "web-0"
        assert await said(h, one, "cat", "/etc/hostname") == "web-0"
        assert "HOSTNAME=web-0" in await said(h, one, "env")
        expected = "search a.svc b\nnameserver 10.96.0.10\noptions ndots:5"
        assert await said(h, one, "cat", "/etc/resolv.conf") == expected
        assert await said(h, one, "cat", "/proc/sys/kernel/shm_rmid_forced") == "1"
        assert await said(h, one, "cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start") == "80"
        await said(h, one, "sh", "-c", "echo shared > /dev/shm/x")
        assert await said(h, two, "cat", "/dev/shm/x") == "shared"
        assert await said(h, two, "cat", "/tmp/x") != "shared"
        namespaces = [await said(h, each, "ls", "-l", "/proc/self/ns/net", "/proc/self/ns/ipc") for each in (one, two)]
        assert [line.split("->")[1] for line in namespaces[0].splitlines()] == [
            line.split("->")[1] for line in namespaces[1].splitlines()
        ]

    node(body)


def test_low_ports_and_pings_need_no_root(node: Callable[[Body], None]) -> None:
    async def body(h: OciHarness) -> None:
        user = SecurityContext(run_as_user=1000)
        _, container_id = await h.running("sleep", "1000", security=user)
        assert await said(h, container_id, "cat", "/proc/sys/net/ipv4/ping_group_range") == "0\t2147483647"
        assert await said(h, container_id, "timeout", "1", "nc", "-l", "-p", "80") in ("", "Terminated")
        _, private = await h.running("sleep", "1000", sandbox={"user_namespace": True, "name": "u"})
        assert await said(h, private, "cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start") == "0"

    node(body)


def test_bad_sysctl_leaves_nothing_behind(node: Callable[[Body], None]) -> None:
    async def body(h: OciHarness) -> None:
        with pytest.raises(RuntimeFailure, match=r'failed to set sysctl "net\.nonsense"'):
            await h.runtime.run_sandbox(h.sandbox_config(sysctls={"net.nonsense": "1"}))
        assert await h.runtime.list_sandboxes() == []
        assert list((h.home / "run/sandboxes").iterdir()) == [] and list((h.home / "state/sandboxes").iterdir()) == []
        assert await h.network.attachments() == {}

    node(body)


def test_another_kind_of_isolation_is_not_promised(node: Callable[[Body], None]) -> None:
    async def body(h: OciHarness) -> None:
        with pytest.raises(RuntimeFailure, match='no runtime for "gvisor" is configured'):
            await h.runtime.run_sandbox(h.sandbox_config(runtime_handler="gvisor"))
        assert await h.runtime.run_sandbox(h.sandbox_config(runtime_handler="runc"))

    node(body)


def test_host_namespaces(node: Callable[[Body], None]) -> None:
    async def body(h: OciHarness) -> None:
        config = {"host_network": True, "host_ipc": True, "host_pid": True}
        _, container_id = await h.running(*FOREVER, sandbox=config)
        for kind in ("net", "ipc", "pid", "uts"):
            assert os.readlink(f"/proc/self/ns/{kind}") in await said(
                h, container_id, "readlink", f"/proc/self/ns/{kind}"
            )

    node(body)


def test_shared_process_namespace(node: Callable[[Body], None]) -> None:
    async def body(h: OciHarness) -> None:
        sandbox_id, one = await h.running(*FOREVER, sandbox={"share_process_namespace": True})
        two = await h.runtime.create_container(sandbox_id, h.container_config("sleep", "2000", name="two"))
        await h.runtime.start_container(two)
        listed = await said(h, two, "ps", "-o", "pid,args")
        assert "1 /pause -P" in listed and "sleep 1000" in listed and "sleep 2000" in listed
        await h.runtime.stop_container(one, 5)
        assert (await h.runtime.container_status(one)).exit_code == 143
        await h.crash()
        await h.again()
        assert (await h.runtime.sandbox_status(sandbox_id)).state is SandboxState.READY
        assert (await h.runtime.container_status(two)).state is ContainerState.RUNNING

    node(body)


def test_user_namespace(node: Callable[[Body], None]) -> None:
    async def body(h: OciHarness) -> None:
        volume = h.home / "volume"
        volume.mkdir()
        (volume / "mine").write_text("secret")
        (volume / "mine").chmod(0o600)
        sandbox_id, container_id = await h.running(
            *FOREVER,
            sandbox={"user_namespace": True, "sysctls": {"net.ipv4.ip_unprivileged_port_start": "80"}, "hostname": "u"},
            mounts=(Mount(host_path=str(volume), container_path="/data"),),
        )
        assert await said(h, container_id, "id", "-u") == "0"
        inside, outside, size = (await said(h, container_id, "cat", "/proc/self/uid_map")).split()
        assert (inside, size) == ("0", "65536") and int(outside) >= 65536
        pid = (await h.runtime.container_status(container_id)).pid
        assert os.stat(f"/proc/{pid}").st_uid == int(outside)
        assert await said(h, container_id, "cat", "/data/mine") == "secret"
        assert await said(h, container_id, "sh", "-c", "touch /data/new /root/new && hostname") == "u"
        assert (volume / "new").stat().st_uid == 0
        assert await said(h, container_id, "cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start") == "80"
        await h.crash()
        await h.again()
        assert (await h.runtime.sandbox_status(sandbox_id)).state is SandboxState.READY
        await h.runtime.remove_sandbox(sandbox_id)

    node(body)


def test_user_namespace_with_a_shared_process_namespace(node: Callable[[Body], None]) -> None:
    async def body(h: OciHarness) -> None:
        config = {"user_namespace": True, "share_process_namespace": True}
        _, container_id = await h.running(*FOREVER, sandbox=config)
        assert "1 /pause -P" in await said(h, container_id, "ps", "-o", "pid,args")

    node(body)


def test_removing_a_container_leaves_its_volumes_alone(node: Callable[[Body], None]) -> None:
    async def body(h: OciHarness) -> None:
        volume = h.home / "volume"
        (volume / "deep").mkdir(parents=True)
        (volume / "deep" / "file").touch()
        given = (Mount(host_path=str(volume), container_path="/data"),)
        for config in ({"user_namespace": True}, {}):
            sandbox_id, _ = await h.running(*FOREVER, sandbox=config, mounts=given)
            await h.runtime.remove_sandbox(sandbox_id)
            await h.running(*FOREVER, sandbox=config, mounts=given)
        await h.crash()
        await teardown(h.home / "state", h.home / "run", h.images, h.network)
        assert (volume / "deep" / "file").exists()

    node(body)


def test_target_container(node: Callable[[Body], None]) -> None:
    async def body(h: OciHarness) -> None:
        sandbox_id, one = await h.running(*FOREVER)
        config = h.container_config("sleep", "3000", name="debugger", target_pid_container=one)
        two = await h.runtime.create_container(sandbox_id, config)
        await h.runtime.start_container(two)
        assert "1 sleep 1000" in await said(h, two, "ps", "-o", "pid,args")

    node(body)


def test_volumes(node: Callable[[Body], None]) -> None:
    async def body(h: OciHarness) -> None:
        volume = h.home / "volume"
        (volume / "sub").mkdir(parents=True)
        (volume / "file").write_text("content")
        given = (
            Mount(host_path=str(volume), container_path="/data/a"),
            Mount(host_path=str(volume), container_path="/data/ro", readonly=True),
            Mount(host_path=str(volume / "file"), container_path="/etc/config", readonly=True),
            Mount(host_path=str(volume), container_path="/data/rro", readonly=True, recursive_readonly=True),
        )
        _, container_id = await h.running(*FOREVER, mounts=given, working_dir="/made/up")
        assert await said(h, container_id, "cat", "/etc/config", "/data/ro/file") == "contentcontent"
        assert await said(h, container_id, "touch", "/data/a/new") == "" and (volume / "new").exists()
        assert "Read-only" in await said(h, container_id, "touch", "/data/ro/new2")
        assert "Read-only" in await said(h, container_id, "touch", "/data/rro/new2")
        assert await said(h, container_id, "pwd") == "/made/up"

    node(body)


def test_mounts_made_later_reach_a_container_that_asked_for_them(node: Callable[[Body], None]) -> None:
    async def body(h: OciHarness) -> None:
        volume = h.home / "run" / "volume"
        (volume / "later").mkdir(parents=True)
        given = (Mount(host_path=str(volume), container_path="/data", propagation="rslave"),)
        _, container_id = await h.running(*FOREVER, mounts=given)
        mounts.mount("tmpfs", str(volume / "later"), "tmpfs")
        (volume / "later" / "x").touch()
        assert await said(h, container_id, "ls", "/data/later") == "x"

    node(body)


def test_mounts_made_in_a_container_reach_the_machine(node: Callable[[Body], None]) -> None:
    async def body(h: OciHarness) -> None:
        volume = h.home / "run" / "volume"
        (volume / "inside").mkdir(parents=True)
        given = (Mount(host_path=str(volume), container_path="/data", propagation="rshared"),)
        privileged = SecurityContext(privileged=True)
        _, container_id = await h.running(*FOREVER, mounts=given, security=privileged)
        assert await said(h, container_id, "mount", "-t", "tmpfs", "none", "/data/inside") == ""
        assert str(volume / "inside") in mounts.targets_below(str(volume))

    node(body)


def test_bidirectional_volume_has_to_be_on_a_shared_mount(node: Callable[[Body], None]) -> None:
    async def body(h: OciHarness) -> None:
        private = h.home / "private"
        private.mkdir()
        mounts.mount("tmpfs", str(private), "tmpfs")
        mounts.mount("none", str(private), flags=mounts.PRIVATE)
        try:
            with pytest.raises(RuntimeFailure, match="but it is not a shared mount"):
                volume = Mount(host_path=str(private), container_path="/d", propagation="rshared")
                await h.running(*FOREVER, mounts=(volume,))
        finally:
            mounts.unmount(str(private))

    node(body)


def test_volume_mounted_after_the_runtime_came_up(node: Callable[[Body], None]) -> None:
    async def body(h: OciHarness) -> None:
        volume = h.home / "tmpfs"
        volume.mkdir()
        mounts.mount("tmpfs", str(volume), "tmpfs")
        (volume / "x").touch()
        try:
            given = (Mount(host_path=str(volume), container_path="/data"),)
            _, container_id = await h.running(*FOREVER, mounts=given)
            assert await said(h, container_id, "ls", "/data") == "x"
        finally:
            mounts.unmount(str(volume))

    node(body)


def test_limits_are_in_the_cgroup(node: Callable[[Body], None]) -> None:
    async def body(h: OciHarness) -> None:
        limits = Resources(cpu_shares=512, cpu_quota=50_000, cpu_period=100_000, memory_limit=64 << 20, pids_limit=20)
        _, container_id = await h.running(*FOREVER, resources=limits)
        runtime = h.runtime
        assert isinstance(runtime, OciRuntime)
        if runtime._cgroups.version == 1:
            files = {"memory/memory.limit_in_bytes": 64 << 20, "cpu/cpu.shares": 512, "cpu/cpu.cfs_quota_us": 50_000}
        else:
            files = {"memory.max": 64 << 20, "cpu.weight": 59}
        for name, value in {**files, "pids/pids.max" if "cpu/cpu.shares" in files else "pids.max": 20}.items():
            assert await said(h, container_id, "cat", f"/sys/fs/cgroup/{name}") == str(value)
        await runtime.update_resources(container_id, Resources(memory_limit=32 << 20))
        name = next(iter(files))
        assert await said(h, container_id, "cat", f"/sys/fs/cgroup/{name}") == str(32 << 20)

    node(body)


def test_terminal_of_an_exec(node: Callable[[Body], None]) -> None:
    async def body(h: OciHarness) -> None:
        _, container_id = await h.running(*FOREVER)
        out = bytearray()

        async def sizes() -> Any:
            yield 99, 33
            await asyncio.sleep(30)

        async def keys() -> bytes:
            if typed:
                await until(lambda: b"33 99" in out)
                return typed.pop()
            await asyncio.sleep(30)
            return b""

        typed = [b"exit 6\n"]
        streams = Streams(stdin=keys, stdout=sink(out), resize=sizes())
        argv = ("sh", "-c", "while ! stty size | grep '33 99'; do sleep 0.02; done; tty; exec sh")
        assert await h.runtime.exec(container_id, argv, tty=True, streams=streams) == 6
        assert b"/dev/pts/0" in out

    node(body)


def test_exec_with_input(node: Callable[[Body], None]) -> None:
    async def body(h: OciHarness) -> None:
        _, container_id = await h.running(*FOREVER)
        out = bytearray()
        big = os.urandom(300_000)
        chunks = [big[at : at + 50_000] for at in range(0, len(big), 50_000)]
        streams = Streams(stdin=source(*chunks), stdout=sink(out))
        assert await h.runtime.exec(container_id, ("cat",), tty=False, streams=streams) == 0
        assert out == big

    node(body)


def test_exec_of_what_is_not_there(node: Callable[[Body], None]) -> None:
    async def body(h: OciHarness) -> None:
        _, container_id = await h.running(*FOREVER)
        with pytest.raises(RuntimeFailure, match="nonexistent"):
            await h.runtime.exec_sync(container_id, ("nonexistent",), 20)
        for tty in (False, True):
            err = bytearray()
            streams = Streams(stdout=sink(err), stderr=sink(err))
            with pytest.raises(RuntimeFailure, match="nonexistent"):
                await h.runtime.exec(container_id, ("nonexistent",), tty=tty, streams=streams)
            assert err == b""

    node(body)


def test_background_child_does_not_hold_up_exec(node: Callable[[Body], None]) -> None:
    async def body(h: OciHarness) -> None:
        _, container_id = await h.running(*FOREVER)
        if h.runtime.name == "runc":
            pytest.skip("runc copies the streams itself and waits for their end")
        result = await h.runtime.exec_sync(container_id, ("sh", "-c", "sleep 777 & echo done"), 20)
        assert result.stdout == b"done\n"

    node(body)


def test_cancelled_exec_is_killed(node: Callable[[Body], None]) -> None:
    async def body(h: OciHarness) -> None:
        _, container_id = await h.running(*FOREVER)
        task = asyncio.ensure_future(
            h.runtime.exec(container_id, ("sh", "-c", "touch /tmp/up; sleep 555"), tty=False, streams=Streams())
        )
        while "up" not in await said(h, container_id, "ls", "/tmp"):
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert "555" not in await said(h, container_id, "ps", "-o", "args")

    node(body)


SCRIPT = "read a; echo got $a; cat; echo over"


@pytest.mark.parametrize("once", [True, False])
def test_attach_with_input(node: Callable[[Body], None], once: bool) -> None:
    async def body(h: OciHarness) -> None:
        _, container_id = await h.running(
            "sh", "-c", "read a; echo got $a; cat; echo over", stdin=True, stdin_once=once
        )
        out = bytearray()
        streams = Streams(stdin=source(b"hello\n", b"more\n"), stdout=sink(out))
        if once:
            await h.runtime.attach(container_id, streams)
            assert out == b"got hello\nmore\nover\n"
        else:
            attached = asyncio.ensure_future(h.runtime.attach(container_id, streams))
            await until(lambda: b"more\n" in out)
            attached.cancel()
            await asyncio.wait([attached])
            assert (await h.runtime.container_status(container_id)).state is ContainerState.RUNNING

    node(body)


def test_container_with_terminal(node: Callable[[Body], None]) -> None:
    async def body(h: OciHarness) -> None:
        _, container_id = await h.running("sh", stdin=True, tty=True)
        out = bytearray()

        async def sizes() -> Any:
            yield 120, 40
            await asyncio.sleep(30)

        async def keys() -> bytes:
            if typed:
                return typed.pop(0)
            await asyncio.sleep(30)
            return b""

        typed = [b"echo $TERM; while ! stty size | grep '40 120'; do sleep 0.02; done; exit 4\n"]
        await h.runtime.attach(container_id, Streams(stdin=keys, stdout=sink(out), resize=sizes()))
        assert b"xterm" in out and b"40 120" in out
        await until(lambda: h.runtime._containers[container_id].record.exit_code == 4)  # type: ignore[attr-defined]

    node(body)


def test_lost_monitor_ends_its_container(node: Callable[[Body], None]) -> None:
    async def body(h: OciHarness) -> None:
        _, container_id = await h.running(*FOREVER)
        record = h.runtime._containers[container_id].record  # type: ignore[attr-defined]
        os.kill(record.conmon_pid, signal.SIGKILL)
        status = await h.ended(container_id)
        assert (status.exit_code, status.reason) == (255, "Unknown")
        assert processes.start_time(record.pid) == 0

    node(body)


def test_crash_in_the_middle_of_things_is_tidied_up(node: Callable[[Body], None]) -> None:
    async def body(h: OciHarness) -> None:
        sandbox_id, container_id = await h.running(*FOREVER)
        half = await h.runtime.run_sandbox(h.sandbox_config(name="half", cgroup_parent=""))
        runtime = h.runtime
        assert isinstance(runtime, OciRuntime)
        runtime._sandboxes[half].phase = Phase.MAKING
        runtime._layout.save(runtime._sandboxes[half])
        runtime._containers[container_id].record.phase = Phase.STARTING
        runtime._layout.save(runtime._containers[container_id].record)
        (h.home / "state/containers/garbage.json").write_text("{")
        await h.crash()
        await h.again()
        status = await h.runtime.container_status(container_id)
        assert (status.state, status.reason) == (ContainerState.EXITED, "StartError")
        assert [each.id for each in await h.runtime.list_sandboxes()] == [sandbox_id]
        await until(lambda: not (h.home / "run/sandboxes" / half).exists())
        await h.runtime.remove_sandbox(sandbox_id)
        for directory in (
            "run/sandboxes",
            "run/containers",
            "run/oci",
            "run/exits",
            "state/sandboxes",
            "state/containers",
        ):
            assert list((h.home / directory).iterdir()) == []

    node(body)


def test_after_a_reboot_nothing_is_ready(node: Callable[[Body], None]) -> None:
    async def body(h: OciHarness) -> None:
        sandbox_id, container_id = await h.running(*FOREVER)
        records = {path: path.read_bytes() for path in (h.home / "state").rglob("*.json")}
        await h.runtime.close()
        await teardown(h.home / "state", h.home / "run", h.images, h.network)
        for path, content in records.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        await h.again()
        assert (await h.runtime.sandbox_status(sandbox_id)).state is SandboxState.NOT_READY
        await until(lambda: h.runtime._containers[container_id].exited.is_set())  # type: ignore[attr-defined]
        assert (await h.runtime.container_status(container_id)).reason == "Unknown"
        await h.runtime.remove_sandbox(sandbox_id)

    node(body)


def test_teardown_removes_all_of_a_crashed_runtime(node: Callable[[Body], None]) -> None:
    async def body(h: OciHarness) -> None:
        await h.running(*FOREVER)
        await h.running(*FOREVER, sandbox={"share_process_namespace": True, "cgroup_parent": ""})
        runtime = h.runtime
        assert isinstance(runtime, OciRuntime)
        pids = [live.record.pid for live in runtime._containers.values()]
        groups = [record.cgroup for record in runtime._sandboxes.values()]
        await h.crash()
        await teardown(h.home / "state", h.home / "run", h.images, h.network)
        assert not any(processes.start_time(pid) for pid in pids)
        assert not any(runtime._cgroups.exists(group) for group in groups)
        assert not runtime._cgroups.exists(str(Path(groups[0]).parent))
        assert not (h.home / "run").exists() and not (h.home / "state").exists()
        assert mounts.targets_below(str(h.home)) == []

    node(body)


def test_nothing_is_left_where_the_agent_runs(
    node: Callable[[Body], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    async def body(h: OciHarness) -> None:
        assert isinstance(h.runtime, OciRuntime)
        _, container_id = await h.running("tail", "/dev/zero", resources=Resources(memory_limit=16 << 20))
        assert (await h.ended(container_id)).reason == "OOMKilled"
        assert os.getcwd() == str(tmp_path)
        assert list(tmp_path.iterdir()) == []

    node(body)


def test_a_new_agent_returns_the_addresses_of_sandboxes_that_are_gone(node: Callable[[Body], None]) -> None:
    async def body(h: OciHarness) -> None:
        lives = await h.runtime.run_sandbox(h.sandbox_config(name="lives", cgroup_parent=""))
        lost = await h.runtime.run_sandbox(h.sandbox_config(name="lost", cgroup_parent=""))
        assert isinstance(h.runtime, OciRuntime)
        # As after a reboot: the record is there, what it speaks of is not.
        for kind in ("net", "ipc", "uts"):
            mounts.unmount(str(h.runtime._layout.namespaces(lost) / kind))
        await h.network.attach("leaked", f"{h.runtime._layout.namespaces(lives)}/net")
        await h.crash()
        await h.again()
        made = await h.runtime.run_sandbox(h.sandbox_config(name="made", cgroup_parent=""))
        await until(lambda: h.network._attached.keys() == {lives, made})

    node(body)
