"""Init containers, sidecars, ephemeral containers, hooks and probes, on virtual time."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from podling import clock
from podling.api import core_v1
from podling.runtime.base import ContainerState
from podling.runtime.fake_behaviour import Behaviour, ExecOutcome
from tests.unit.kubelet.node import Node, condition, pod


def run(main: Any) -> None:
    clock.run_virtual(main())


def test_init_containers_run_in_order_before_the_others(tmp_path: Path) -> None:
    async def main() -> None:
        behaviours = {"one": Behaviour(runs_for=3), "two": Behaviour(runs_for=4)}
        async with Node(tmp_path, behaviours=behaviours) as node:
            await node.create(pod("web", initContainers=[{"name": "one"}, {"name": "two"}]))
            await asyncio.sleep(2)
            status = await node.status("web")
            assert status.phase == "Pending"
            initialized = condition(status, "Initialized")
            assert (initialized.reason, initialized.message) == (
                "ContainersNotInitialized",
                "containers with incomplete status: [one two]",
            )
            app = (status.container_statuses or [])[0]
            assert app.state is not None and app.state.waiting is not None
            assert app.state.waiting.reason == "PodInitializing"
            took = await node.until_ready("web")
            assert 4.9 < took < 5.5
            status = await node.status("web")
            assert [(s.name, s.ready) for s in status.init_container_statuses or ()] == [("one", True), ("two", True)]
            order = [c.config.name for c in node.machine.containers.values()]
            assert order == ["one", "two", "app"]

    run(main)


def test_a_failing_init_container_fails_a_pod_that_never_restarts(tmp_path: Path) -> None:
    async def main() -> None:
        async with Node(tmp_path, behaviours={"one": Behaviour(runs_for=1, exit_code=2)}) as node:
            await node.create(pod("web", initContainers=[{"name": "one"}], restartPolicy="Never"))
            await node.until_phase("web", "Failed", 10)
            assert not node.containers("app")

    run(main)


def test_a_failing_init_container_is_tried_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with Node(tmp_path, behaviours={"one": Behaviour(runs_for=1, exit_code=2)}) as node:
            await node.create(pod("web", initContainers=[{"name": "one"}]))
            await asyncio.sleep(20)
            status = await node.status("web")
            one = (status.init_container_statuses or [])[0]
            assert status.phase == "Pending"
            assert one.restart_count == 2
            assert one.state is not None and one.state.waiting is not None
            assert one.state.waiting.reason == "CrashLoopBackOff"
            node.behaviours["one"] = Behaviour(runs_for=1)
            await node.until_ready("web")

    run(main)


def test_sidecars_start_first_and_stop_last_in_reverse(tmp_path: Path) -> None:
    async def main() -> None:
        slow = Behaviour(stop_takes=2)
        async with Node(tmp_path, behaviours={"a": slow, "b": slow, "app": slow}) as node:
            sidecars = [{"name": n, "restartPolicy": "Always"} for n in ("a", "b")]
            await node.create(pod("web", initContainers=sidecars))
            await node.until_ready("web")
            assert [c.config.name for c in node.machine.containers.values()] == ["a", "b", "app"]
            status = await node.status("web")
            assert [s.ready for s in status.init_container_statuses or ()] == [True, True]
            await node.client.delete(core_v1.Pod, "web", "default")
            found = {c.config.name: c for c in node.machine.containers.values()}
            await node.until(lambda: node.gone("web"))
            assert found["app"].finished_at < found["b"].finished_at < found["a"].finished_at

    run(main)


def test_sidecars_do_not_keep_a_finished_pod_alive(tmp_path: Path) -> None:
    async def main() -> None:
        async with Node(tmp_path, behaviours={"app": Behaviour(runs_for=5)}) as node:
            sidecar = {"name": "logger", "restartPolicy": "Always"}
            await node.create(pod("job", initContainers=[sidecar], restartPolicy="Never"))
            await node.until_phase("job", "Succeeded", 30)
            assert node.containers("logger")[-1].state is ContainerState.EXITED

    run(main)


def test_a_sidecar_that_ends_is_started_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with Node(tmp_path) as node:
            sidecar = {"name": "logger", "restartPolicy": "Always"}
            await node.create(pod("job", initContainers=[sidecar], restartPolicy="Never"))
            await node.until_ready("job")
            node.running("logger").end(0)
            await asyncio.sleep(1)
            status = await node.status("job")
            assert (status.init_container_statuses or [])[0].restart_count == 1
            assert status.phase == "Running"

    run(main)


def test_ephemeral_containers_are_added_to_a_running_pod(tmp_path: Path) -> None:
    async def main() -> None:
        async with Node(tmp_path) as node:
            await node.create(pod("web"))
            await node.until_ready("web")
            changed = await node.get("web")
            patch = {
                "spec": {"ephemeralContainers": [{"name": "debug", "image": "busybox", "targetContainerName": "app"}]}
            }
            await node.client.patch(core_v1.Pod, "web", "default", patch, subresource="ephemeralcontainers")
            await node.until(lambda: node.containers("debug"))
            assert node.containers("debug")[0].config.target_pid_container == node.running("app").id
            await asyncio.sleep(1)
            status = await node.status("web")
            debug = (status.ephemeral_container_statuses or [])[0]
            assert debug.state is not None and debug.state.running is not None
            node.running("debug").end(0)
            await asyncio.sleep(60)
            assert len(node.containers("debug")) == 1
            assert changed.metadata.uid == (await node.get("web")).metadata.uid

    run(main)


def test_restart_policy_rules_of_a_container(tmp_path: Path) -> None:
    async def main() -> None:
        rules = [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]
        container = {"name": "app", "restartPolicy": "Never", "restartPolicyRules": rules}
        async with Node(tmp_path, behaviours={"app": Behaviour(runs_for=1, exit_code=42)}) as node:
            await node.create(pod("job", container, restartPolicy="Never"))
            await node.until(lambda: node.containers("app") and node.containers("app")[-1].config.attempt == 2)
            node.behaviours["app"] = Behaviour(runs_for=1, exit_code=1)
            status = await node.until_phase("job", "Failed", 100)
            assert (status.container_statuses or [])[0].restart_count == 3

    run(main)


def test_restart_of_all_containers(tmp_path: Path) -> None:
    async def main() -> None:
        rules = [{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [88]}}]
        watcher = {"name": "watcher", "restartPolicy": "Never", "restartPolicyRules": rules}
        async with Node(tmp_path, behaviours={"setup": Behaviour(runs_for=1)}) as node:
            await node.create(pod("web", {"name": "app"}, watcher, initContainers=[{"name": "setup"}]))
            await node.until_ready("web")
            sandboxes = list(node.machine.sandboxes)
            node.running("watcher").end(88)
            await asyncio.sleep(0.5)
            await node.until_ready("web", 60)
            status = await node.status("web")
            assert {s.name: s.restart_count for s in status.container_statuses or ()} == {"app": 1, "watcher": 1}
            assert list(node.machine.sandboxes) == sandboxes
            assert [s.restart_count for s in status.init_container_statuses or ()] == [1]

    run(main)


def _probe(**more: Any) -> dict[str, Any]:
    return {"exec": {"command": ["check"]}, "periodSeconds": 5, "failureThreshold": 2, **more}


def _well_after(seconds: float, until: float = 1e9) -> Behaviour:
    def answer(argv: tuple[str, ...], age: float) -> ExecOutcome:
        return ExecOutcome(exit_code=0 if seconds <= age < until else 1, stdout=b"not well")

    return Behaviour(exec=answer)


def test_a_ready_container_is_ready_soon(tmp_path: Path) -> None:
    async def main() -> None:
        async with Node(tmp_path, behaviours={"app": _well_after(0.1)}) as node:
            await node.create(pod("web", {"name": "app", "readinessProbe": _probe()}))
            took = await node.until_ready("web")
            assert took < 0.5
            assert not [e for e in await node.events("web") if e[0] == "Unhealthy"]

    run(main)


def test_readiness_follows_the_probe(tmp_path: Path) -> None:
    async def main() -> None:
        async with Node(tmp_path, behaviours={"app": _well_after(0, 30)}) as node:
            await node.create(pod("web", {"name": "app", "readinessProbe": _probe()}))
            await node.until_ready("web")
            took = await node.until(lambda: _not_ready(node, "web"))
            assert 34 <= took <= 36
            status = await node.status("web")
            ready = condition(status, "Ready")
            assert (ready.reason, ready.message) == ("ContainersNotReady", "containers with unready status: [app]")
            assert (status.container_statuses or [])[0].restart_count == 0
            assert ("Unhealthy", "Readiness probe failed: not well") in await node.events("web")

    run(main)


async def _not_ready(node: Node, name: str) -> bool:
    return condition(await node.status(name), "Ready").status == "False"


def test_initial_delay_is_kept(tmp_path: Path) -> None:
    async def main() -> None:
        async with Node(tmp_path, behaviours={"app": _well_after(0)}) as node:
            await node.create(pod("web", {"name": "app", "readinessProbe": _probe(initialDelaySeconds=20)}))
            took = await node.until_ready("web")
            assert 20 <= took <= 21

    run(main)


def test_a_failing_liveness_probe_restarts(tmp_path: Path) -> None:
    async def main() -> None:
        async with Node(tmp_path, behaviours={"app": _well_after(0, 12)}) as node:
            await node.create(pod("web", {"name": "app", "livenessProbe": _probe()}))
            await node.until_ready("web")
            took = await node.until(lambda: node.containers("app")[-1].config.attempt == 1)
            assert 19 <= took <= 22
            events = await node.events("web")
            assert ("Unhealthy", "Liveness probe failed: not well") in events
            assert ("Killing", "Container app failed liveness probe, will be restarted") in events

    run(main)


def test_a_probe_may_have_a_grace_period_of_its_own(tmp_path: Path) -> None:
    async def main() -> None:
        behaviour = Behaviour(exec=lambda argv, age: ExecOutcome(exit_code=1), ignores_stop_signal=True)
        async with Node(tmp_path, behaviours={"app": behaviour}) as node:
            probe = _probe(terminationGracePeriodSeconds=4, failureThreshold=1)
            await node.create(pod("web", {"name": "app", "livenessProbe": probe}))
            await node.until_ready("web")
            took = await node.until(lambda: node.containers("app")[-1].config.attempt == 1)
            assert 8.5 <= took <= 10

    run(main)


def test_startup_holds_back_the_other_probes(tmp_path: Path) -> None:
    async def main() -> None:
        async with Node(tmp_path, behaviours={"app": _well_after(42)}) as node:
            container = {
                "name": "app",
                "startupProbe": _probe(failureThreshold=20),
                "livenessProbe": _probe(),
                "readinessProbe": _probe(),
            }
            await node.create(pod("web", container))
            await asyncio.sleep(30)
            app = ((await node.status("web")).container_statuses or [])[0]
            assert app.started is False and app.restart_count == 0
            await node.until_ready("web")
            app = ((await node.status("web")).container_statuses or [])[0]
            assert app.started is True and app.restart_count == 0
            events = await node.events("web")
            assert ("Unhealthy", "Startup probe failed: not well") in events
            assert ("Unhealthy", "Liveness probe failed: not well") not in events

    run(main)


def test_a_failing_startup_probe_restarts(tmp_path: Path) -> None:
    async def main() -> None:
        async with Node(tmp_path, behaviours={"app": _well_after(1000)}) as node:
            await node.create(pod("web", {"name": "app", "startupProbe": _probe(failureThreshold=3)}))
            took = await node.until(lambda: node.containers("app") and node.containers("app")[-1].config.attempt == 1)
            assert 14 <= took <= 17
            assert ("Killing", "Container app failed startup probe, will be restarted") in await node.events("web")

    run(main)


def test_a_probe_that_takes_too_long_has_failed(tmp_path: Path) -> None:
    async def main() -> None:
        behaviour = Behaviour(exec=lambda argv, age: ExecOutcome(takes=None))
        async with Node(tmp_path, behaviours={"app": behaviour}) as node:
            await node.create(pod("web", {"name": "app", "readinessProbe": _probe(timeoutSeconds=2)}))
            await asyncio.sleep(20)
            text = 'Readiness probe failed: command timed out: "check" timed out after 2s'
            assert ("Unhealthy", text) in await node.events("web")

    run(main)


@pytest.mark.parametrize("handler", [{"httpGet": {"port": 80}}, {"tcpSocket": {"port": "web"}}, {"grpc": {"port": 80}}])
def test_network_probes(tmp_path: Path, handler: dict[str, Any]) -> None:
    async def main() -> None:
        async with Node(tmp_path, behaviours={"app": Behaviour(ready_after=3)}) as node:
            ports = [{"name": "web", "containerPort": 80}]
            await node.create(pod("web", {"name": "app", "ports": ports, "readinessProbe": handler}))
            took = await node.until_ready("web")
            assert 3 <= took < 4

    run(main)


def test_readiness_gates(tmp_path: Path) -> None:
    async def main() -> None:
        async with Node(tmp_path) as node:
            await node.create(pod("web", readinessGates=[{"conditionType": "example.com/lb"}]))
            await asyncio.sleep(1)
            ready = condition(await node.status("web"), "Ready")
            assert (ready.status, ready.reason, ready.message) == (
                "False",
                "ReadinessGatesNotReady",
                'corresponding condition of pod readiness gate "example.com/lb" does not exist.',
            )
            patch = {"status": {"conditions": [{"type": "example.com/lb", "status": "True"}]}}
            await node.client.patch(core_v1.Pod, "web", "default", patch, subresource="status")
            took = await node.until_ready("web")
            assert took < 1

    run(main)


def test_post_start_holds_back_the_running_state(tmp_path: Path) -> None:
    async def main() -> None:
        behaviour = Behaviour(exec=lambda argv, age: ExecOutcome(takes=6))
        async with Node(tmp_path, behaviours={"app": behaviour}) as node:
            hook = {"postStart": {"exec": {"command": ["prepare"]}}}
            await node.create(pod("web", {"name": "app", "lifecycle": hook}))
            await asyncio.sleep(3)
            app = ((await node.status("web")).container_statuses or [])[0]
            assert app.state is not None and app.state.waiting is not None
            took = await node.until_ready("web")
            assert 2.9 <= took <= 3.5

    run(main)


def test_a_failing_post_start_hook_kills_the_container(tmp_path: Path) -> None:
    async def main() -> None:
        behaviour = Behaviour(exec=lambda argv, age: ExecOutcome(exit_code=1))
        async with Node(tmp_path, behaviours={"app": behaviour}) as node:
            hook = {"postStart": {"exec": {"command": ["prepare"]}}}
            await node.create(pod("web", {"name": "app", "lifecycle": hook}))
            await asyncio.sleep(8)
            events = await node.events("web")
            assert ("FailedPostStartHook", "PostStartHook failed") in events
            assert ("Killing", "FailedPostStartHook") in events
            app = ((await node.status("web")).container_statuses or [])[0]
            assert app.restart_count == 1

    run(main)


def test_pre_stop_comes_before_the_stop_signal_and_counts_towards_the_grace_period(tmp_path: Path) -> None:
    async def main() -> None:
        async with Node(tmp_path, behaviours={"app": Behaviour(ignores_stop_signal=True)}) as node:
            hook = {"preStop": {"sleep": {"seconds": 6}}}
            await node.create(pod("web", {"name": "app", "lifecycle": hook}, terminationGracePeriodSeconds=10))
            await node.until_ready("web")
            began = clock.elapsed()
            await node.client.delete(core_v1.Pod, "web", "default")
            await node.until(lambda: node.gone("web"))
            assert 10 <= clock.elapsed() - began <= 11

    run(main)


def test_a_failing_pre_stop_hook_is_told(tmp_path: Path) -> None:
    async def main() -> None:
        behaviour = Behaviour(exec=lambda argv, age: ExecOutcome(exit_code=1))
        async with Node(tmp_path, behaviours={"app": behaviour}) as node:
            hook = {"preStop": {"exec": {"command": ["drain"]}}}
            await node.create(pod("web", {"name": "app", "lifecycle": hook}))
            await node.until_ready("web")
            await node.client.delete(core_v1.Pod, "web", "default")
            await node.until(lambda: node.gone("web"))
            assert ("FailedPreStopHook", "PreStopHook failed") in await node.events("web")

    run(main)
