"""What every runtime does, on a virtual node and on this machine."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from podling import clock
from podling.runtime.base import (
    ContainerState,
    ExecTimeout,
    NotFound,
    Resources,
    RuntimeFailure,
    SandboxState,
    Streams,
)
from tests.real.runtime.runtime_harness import FakeHarness, Harness, OciHarness

Body = Callable[[Harness], Awaitable[None]]

FOREVER = ("sleep", "1000")
POLITE = ("sh", "-c", "trap 'echo bye; exit 7' TERM; echo ready; while true; do sleep 0.1; done")


@pytest.fixture(
    params=[
        "fake",
        pytest.param("crun", marks=pytest.mark.real),
        pytest.param("runc", marks=pytest.mark.real),
    ]
)
def harness(request: pytest.FixtureRequest, home: Path) -> Harness:
    return FakeHarness(home) if request.param == "fake" else OciHarness(home, request.param)


@pytest.fixture
def node(harness: Harness) -> Callable[[Body], None]:
    """Runs the test's body on a node that is up, and takes the node down after it, whatever happened."""

    async def main(body: Body) -> None:
        await harness.up()
        try:
            async with asyncio.timeout(90):
                await body(harness)
        finally:
            await harness.down()

    return lambda body: harness.run(main(body))


def source(*chunks: bytes, open_for: float = 0.0) -> Any:
    """Standard input that gives `chunks` and ends `open_for` seconds later."""
    left = list(chunks)

    async def read() -> bytes:
        if left:
            return left.pop(0)
        await asyncio.sleep(open_for)
        return b""

    return read


def sink(into: bytearray) -> Any:
    async def write(data: bytes) -> None:
        into.extend(data)

    return write


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def test_sandbox_from_run_to_remove(node: Callable[[Body], None]) -> None:
    async def body(h: Harness) -> None:
        before = clock.now()
        config = h.sandbox_config(labels={"app": "web"}, annotations={"note": "x"}, attempt=2)
        sandbox_id = await h.runtime.run_sandbox(config)
        status = await h.runtime.sandbox_status(sandbox_id)
        assert (status.state, status.name, status.namespace, status.uid) == (
            SandboxState.READY,
            "pod",
            "default",
            "1234",
        )
        assert (status.attempt, status.labels, status.annotations) == (2, {"app": "web"}, {"note": "x"})
        assert status.ips and before <= status.created_at <= clock.now()
        assert [each.id for each in await h.runtime.list_sandboxes()] == [sandbox_id]
        await h.runtime.stop_sandbox(sandbox_id)
        await h.runtime.stop_sandbox(sandbox_id)
        assert (await h.runtime.sandbox_status(sandbox_id)).state is SandboxState.NOT_READY
        with pytest.raises(RuntimeFailure, match="not running"):
            await h.runtime.create_container(sandbox_id, h.container_config(*FOREVER))
        await h.runtime.remove_sandbox(sandbox_id)
        await h.runtime.remove_sandbox(sandbox_id)
        assert await h.runtime.list_sandboxes() == []
        with pytest.raises(NotFound):
            await h.runtime.sandbox_status(sandbox_id)

    node(body)


@pytest.mark.parametrize(
    ("script", "code", "reason"),
    [("exit 0", 0, "Completed"), ("exit 3", 3, "Error"), ("sleep 0.3; false", 1, "Error")],
)
def test_container_runs_to_its_end(node: Callable[[Body], None], script: str, code: int, reason: str) -> None:
    async def body(h: Harness) -> None:
        sandbox_id = await h.runtime.run_sandbox(h.sandbox_config())
        config = h.container_config("sh", "-c", script, labels={"a": "b"}, attempt=4)
        container_id = await h.runtime.create_container(sandbox_id, config)
        status = await h.runtime.container_status(container_id)
        assert (status.state, status.started_at, status.finished_at) == (ContainerState.CREATED, None, None)
        await h.runtime.start_container(container_id)
        status = await h.ended(container_id)
        assert (status.exit_code, status.reason, status.signal) == (code, reason, 0)
        assert status.started_at and status.finished_at
        assert status.created_at <= status.started_at <= status.finished_at <= clock.now()
        assert (status.name, status.attempt, status.labels) == ("main", 4, {"a": "b"})
        assert (status.sandbox_id, status.image, status.image_name) == (sandbox_id, h.image, "busybox")
        with pytest.raises(RuntimeFailure, match="started once"):
            await h.runtime.start_container(container_id)
        with pytest.raises(RuntimeFailure, match="is not running"):
            await h.runtime.exec_sync(container_id, ("true",), 5)

    node(body)


def test_command_that_is_not_there(node: Callable[[Body], None]) -> None:
    async def body(h: Harness) -> None:
        sandbox_id = await h.runtime.run_sandbox(h.sandbox_config())
        container_id = await h.runtime.create_container(sandbox_id, h.container_config("/nonexistent"))
        with pytest.raises(RuntimeFailure, match="nonexistent"):
            await h.runtime.start_container(container_id)
        status = await h.runtime.container_status(container_id)
        assert (status.state, status.exit_code, status.reason) == (ContainerState.EXITED, 128, "StartError")
        assert "nonexistent" in status.message
        assert status.started_at is None and status.finished_at is not None
        await h.runtime.remove_container(container_id)

    node(body)


def test_stop_signal_is_given_time(node: Callable[[Body], None]) -> None:
    async def body(h: Harness) -> None:
        _, container_id = await h.running(*POLITE)
        log = Path((await h.runtime.container_status(container_id)).log_path)
        await until(lambda: b"ready" in log.read_bytes())
        before = clock.elapsed()
        await h.runtime.stop_container(container_id, 30)
        assert clock.elapsed() - before < 10
        status = await h.runtime.container_status(container_id)
        assert (status.state, status.exit_code, status.reason) == (ContainerState.EXITED, 7, "Error")
        await h.runtime.stop_container(container_id, 30)

    node(body)


def test_stop_kills_what_does_not_listen(node: Callable[[Body], None]) -> None:
    async def body(h: Harness) -> None:
        _, container_id = await h.running(*FOREVER)
        before = clock.elapsed()
        await h.runtime.stop_container(container_id, 0.3)
        assert clock.elapsed() - before >= 0.3
        status = await h.runtime.container_status(container_id)
        assert (status.state, status.exit_code, status.signal) == (ContainerState.EXITED, 137, 9)

    node(body)


def test_remove_of_a_running_container_and_of_what_is_gone(node: Callable[[Body], None]) -> None:
    async def body(h: Harness) -> None:
        _, container_id = await h.running(*FOREVER)
        await h.runtime.remove_container(container_id)
        await h.runtime.remove_container(container_id)
        await h.runtime.stop_container(container_id, 1)
        assert await h.runtime.list_containers() == []
        for question in (h.runtime.container_status, h.runtime.start_container, h.runtime.container_stats):
            with pytest.raises(NotFound):
                await question(container_id)

    node(body)


def test_stopping_a_sandbox_ends_its_containers(node: Callable[[Body], None]) -> None:
    async def body(h: Harness) -> None:
        sandbox_id, one = await h.running(*FOREVER)
        two = await h.runtime.create_container(sandbox_id, h.container_config(*FOREVER, name="two"))
        await h.runtime.start_container(two)
        assert {each.id for each in await h.runtime.list_containers(sandbox_id)} == {one, two}
        assert await h.runtime.list_containers("other") == []
        await h.runtime.stop_sandbox(sandbox_id)
        assert {each.state for each in await h.runtime.list_containers()} == {ContainerState.EXITED}
        await h.runtime.remove_sandbox(sandbox_id)
        assert await h.runtime.list_containers() == []

    node(body)


def test_events_tell_the_story(node: Callable[[Body], None]) -> None:
    async def body(h: Harness) -> None:
        sandbox_id, container_id = await h.running("sh", "-c", "exit 0")
        await h.ended(container_id) if False else None
        events = h.runtime.events()
        seen = [await anext(events) for _ in range(3)]
        assert [(each.kind, each.container_id) for each in seen] == [
            ("started", ""),
            ("started", container_id),
            ("exited", container_id),
        ]
        await h.runtime.remove_sandbox(sandbox_id)
        rest = [await anext(events) for _ in range(3)]
        assert sorted(each.kind for each in rest) == ["exited", "removed", "removed"]
        assert {each.sandbox_id for each in seen + rest} == {sandbox_id}

    node(body)


def test_log_is_in_cri_format(node: Callable[[Body], None]) -> None:
    async def body(h: Harness) -> None:
        _, container_id = await h.running("sh", "-c", "echo one; echo two >&2; printf part")
        status = await h.ended(container_id)
        lines = Path(status.log_path).read_text().splitlines()
        pattern = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}(?:Z|[+-]\d\d:\d\d) (stdout|stderr) ([FP]) (.*)$")
        parsed = sorted(match.groups() for line in lines if (match := pattern.match(line)) and match[3])
        assert parsed == [("stderr", "F", "two"), ("stdout", "F", "one"), ("stdout", "P", "part")]

    node(body)


def test_reopened_log_goes_to_a_new_file(node: Callable[[Body], None]) -> None:
    async def body(h: Harness) -> None:
        _, container_id = await h.running("sh", "-c", "while true; do echo tick; sleep 0.05; done")
        path = Path((await h.runtime.container_status(container_id)).log_path)
        await until(lambda: path.stat().st_size > 0)
        path.rename(path.with_suffix(".old"))
        await h.runtime.reopen_log(container_id)
        await until(lambda: path.exists() and path.stat().st_size > 0)

    node(body)


def test_exec_sync(node: Callable[[Body], None]) -> None:
    async def body(h: Harness) -> None:
        _, container_id = await h.running(*FOREVER, env=(("COLOR", "red"),))
        result = await h.runtime.exec_sync(container_id, ("sh", "-c", 'echo "$COLOR"; echo no >&2; exit 3'), 20)
        assert (result.stdout, result.stderr, result.exit_code) == (b"red\n", b"no\n", 3)
        assert (await h.runtime.exec_sync(container_id, ("touch", "/tmp/x"), None)).exit_code == 0
        assert (await h.runtime.exec_sync(container_id, ("cat", "/tmp/x"), 20)).exit_code == 0
        assert (await h.runtime.exec_sync(container_id, ("cat", "/tmp/y"), 20)).exit_code == 1

    node(body)


def test_exec_sync_that_takes_too_long_is_killed(node: Callable[[Body], None]) -> None:
    async def body(h: Harness) -> None:
        _, container_id = await h.running(*FOREVER)
        with pytest.raises(ExecTimeout):
            await h.runtime.exec_sync(container_id, ("sh", "-c", "sleep 500 & sleep 501"), 0.3)
        if h.real:
            listed = (await h.runtime.exec_sync(container_id, ("ps", "-o", "args"), 20)).stdout
            assert b"sleep 1000" in listed and b"50" not in listed
        assert (await h.runtime.container_status(container_id)).state is ContainerState.RUNNING
        before = clock.elapsed()
        await h.runtime.stop_container(container_id, 0)
        assert clock.elapsed() - before < 5

    node(body)


def test_exec_with_streams(node: Callable[[Body], None]) -> None:
    async def body(h: Harness) -> None:
        _, container_id = await h.running(*FOREVER)
        out, err = bytearray(), bytearray()
        streams = Streams(stdout=sink(out), stderr=sink(err))
        argv = ("sh", "-c", "echo out; echo err >&2; exit 5")
        assert await h.runtime.exec(container_id, argv, tty=False, streams=streams) == 5
        assert (out, err) == (b"out\n", b"err\n")

    node(body)


def test_attach_gets_the_output_until_the_end(node: Callable[[Body], None]) -> None:
    async def body(h: Harness) -> None:
        _, container_id = await h.running("sh", "-c", "sleep 1; echo out; echo err >&2; sleep 0.2")
        out, err = bytearray(), bytearray()
        await h.runtime.attach(container_id, Streams(stdout=sink(out), stderr=sink(err)))
        assert (out, err) == (b"out\n", b"err\n")

    node(body)


def test_port_forward(node: Callable[[Body], None]) -> None:
    async def body(h: Harness) -> None:
        sandbox_id, container_id = await h.running("nc", "-l", "-p", "8080", "-e", "cat")
        if h.real:
            listening = ("sh", "-c", "while ! netstat -tln | grep -q 8080; do sleep 0.01; done")
            await h.runtime.exec_sync(container_id, listening, 20)
        out = bytearray()
        await h.runtime.port_forward(sandbox_id, 8080, source(b"hello ", b"you"), sink(out))
        assert out == b"hello you"
        if h.real:
            with pytest.raises(RuntimeFailure, match="connection refused"):
                await h.runtime.port_forward(sandbox_id, 9090, source(), sink(out))

    node(body)


def test_out_of_memory_is_recognised(node: Callable[[Body], None]) -> None:
    async def body(h: Harness) -> None:
        limits = Resources(memory_limit=16 << 20)
        _, container_id = await h.running("tail", "/dev/zero", resources=limits)
        status = await h.ended(container_id)
        assert (status.exit_code, status.signal, status.reason) == (137, 9, "OOMKilled")

    node(body)


def test_stats_and_updated_resources(node: Callable[[Body], None]) -> None:
    async def body(h: Harness) -> None:
        sandbox_id, container_id = await h.running(*FOREVER, resources=Resources(cpu_shares=512, memory_limit=64 << 20))
        await asyncio.sleep(0.1)
        stats = await h.runtime.container_stats(container_id)
        assert stats.cpu_usage_ns > 0 and stats.memory_working_set > 0 and stats.pids == 1
        changed = Resources(memory_limit=128 << 20, cpu_quota=50_000, cpu_period=100_000)
        await h.runtime.update_resources(container_id, changed)
        resources = (await h.runtime.container_status(container_id)).resources
        assert (resources.memory_limit, resources.cpu_quota) == (128 << 20, 50_000)
        await h.runtime.update_sandbox_resources(sandbox_id, Resources(cpu_shares=1024))
        assert (await h.runtime.container_status(container_id)).state is ContainerState.RUNNING

    node(body)


def test_restarted_agent_adopts_what_runs_and_learns_what_ended(node: Callable[[Body], None]) -> None:
    async def body(h: Harness) -> None:
        sandbox_id, lasting = await h.running(*FOREVER)
        short = await h.runtime.create_container(
            sandbox_id, h.container_config("sh", "-c", "sleep 1; exit 9", name="b")
        )
        await h.runtime.start_container(short)
        waiting = await h.runtime.create_container(sandbox_id, h.container_config(*FOREVER, name="c"))
        before = await h.runtime.sandbox_status(sandbox_id)
        await h.crash()
        await asyncio.sleep(2)
        runtime = await h.again()
        assert await runtime.sandbox_status(sandbox_id) == before
        status = await runtime.container_status(short)
        assert (status.state, status.exit_code, status.reason) == (ContainerState.EXITED, 9, "Error")
        assert status.started_at and status.finished_at
        assert 0.5 < (status.finished_at - status.started_at).total_seconds() < 1.9
        assert (await runtime.container_status(lasting)).state is ContainerState.RUNNING
        assert (await runtime.exec_sync(lasting, ("true",), 20)).exit_code == 0
        await runtime.start_container(waiting)
        await runtime.stop_container(lasting, 0)
        assert (await runtime.container_status(lasting)).exit_code == 137
        await runtime.remove_sandbox(sandbox_id)
        assert await runtime.list_sandboxes() == [] and await runtime.list_containers() == []

    node(body)


def test_many_at_once(node: Callable[[Body], None]) -> None:
    async def body(h: Harness) -> None:
        async def one(number: int) -> int:
            sandbox_id = await h.runtime.run_sandbox(h.sandbox_config(name=f"p{number}", cgroup_parent=""))
            config = h.container_config("sh", "-c", f"exit {number}", name=f"c{number}")
            container_id = await h.runtime.create_container(sandbox_id, config)
            await h.runtime.start_container(container_id)
            while (status := await h.runtime.container_status(container_id)).state is not ContainerState.EXITED:
                await asyncio.sleep(0.02)
            await h.runtime.remove_sandbox(sandbox_id)
            return status.exit_code

        assert await asyncio.gather(*(one(number) for number in range(10))) == list(range(10))

    node(body)
