"""The life of pods on a node, on virtual time."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import Any

import pytest

from podling import clock
from podling.api import core_v1
from podling.runtime.fake_behaviour import Behaviour
from podling.runtime.fake_images import FakeImages
from tests.unit.kubelet.node import Node, condition, pod


def run(main: Any) -> None:
    clock.run_virtual(main())


def test_a_pod_runs_and_is_reported(tmp_path: Path) -> None:
    async def main() -> None:
        async with Node(tmp_path) as node:
            await node.create(pod("web", {"name": "app", "image": "nginx:1.25"}))
            took = await node.until_ready("web")
            assert took < 1
            status = await node.status("web")
            assert status.phase == "Running"
            assert status.pod_ip == "10.244.0.2"
            assert status.host_ip == "10.213.0.1"
            assert status.qos_class == "BestEffort"
            assert status.start_time == "2026-01-01T00:00:00Z"
            assert status.observed_generation == 1
            assert [(c.type, c.status) for c in status.conditions or ()] == [
                ("PodReadyToStartContainers", "True"),
                ("Initialized", "True"),
                ("Ready", "True"),
                ("ContainersReady", "True"),
                ("PodScheduled", "True"),
            ]
            app = (status.container_statuses or [])[0]
            assert app.ready and app.started and app.restart_count == 0
            assert (app.container_id or "").startswith("fake://")
            assert app.image_id.startswith("docker.io/library/nginx@sha256:")
            assert app.state is not None and app.state.running is not None
            assert await node.events("web") == [
                ("Pulling", 'Pulling image "nginx:1.25"'),
                (
                    "Pulled",
                    'Successfully pulled image "nginx:1.25" in 0s (0s including waiting). Image size: 5000000 bytes.',
                ),
                ("Created", "Container created"),
                ("Started", "Container started"),
            ]

    run(main)


def test_what_is_there_is_not_pulled_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with Node(tmp_path, images=FakeImages(present=("nginx:1.25",))) as node:
            await node.create(pod("web", {"name": "app", "image": "nginx:1.25"}))
            await node.until_ready("web")
            assert (await node.events("web"))[0] == (
                "Pulled",
                'Container image "nginx:1.25" already present on machine and can be accessed by the pod',
            )

    run(main)


@pytest.mark.parametrize(
    ("policy", "exit_code", "phase", "restarts"),
    [
        ("Never", 0, "Succeeded", 0),
        ("Never", 3, "Failed", 0),
        ("OnFailure", 0, "Succeeded", 0),
    ],
)
def test_pods_that_end(tmp_path: Path, policy: str, exit_code: int, phase: str, restarts: int) -> None:
    async def main() -> None:
        async with Node(tmp_path, behaviours={"app": Behaviour(runs_for=5, exit_code=exit_code)}) as node:
            await node.create(pod("job", restartPolicy=policy))
            status = await node.until_phase("job", phase, 60)
            app = (status.container_statuses or [])[0]
            assert app.state is not None and app.state.terminated is not None
            assert app.state.terminated.exit_code == exit_code
            assert app.state.terminated.reason == ("Completed" if exit_code == 0 else "Error")
            assert app.restart_count == restarts
            reason = "PodCompleted" if phase == "Succeeded" else "PodFailed"
            assert condition(status, "Ready").reason == reason
            assert node.volumes.mounted == set()
            # It stays as it is, also when looked at again.
            await asyncio.sleep(300)
            assert (await node.status("job")).phase == phase
            assert len(node.containers("app")) == 1

    run(main)


def test_crash_loop_backs_off(tmp_path: Path) -> None:
    async def main() -> None:
        async with Node(tmp_path, behaviours={"app": Behaviour(runs_for=1, exit_code=1)}) as node:
            await node.create(pod("crash"))
            starts: list[float] = []
            began = clock.elapsed()
            while len(starts) < 9:
                await asyncio.sleep(0.1)
                known = [c for c in node.machine.containers.values() if c.config.name == "app"]
                newest = max((c.config.attempt for c in known), default=-1)
                if newest == len(starts):
                    starts.append(clock.elapsed() - began)
            gaps = [round(b - a - 1) for a, b in itertools.pairwise(starts)]
            assert gaps == [0, 10, 20, 40, 80, 160, 300, 300]
            await asyncio.sleep(5)
            status = await node.status("crash")
            app = (status.container_statuses or [])[0]
            assert status.phase == "Running"
            assert app.restart_count == 8
            assert app.state is not None and app.state.waiting is not None
            assert app.state.waiting.reason == "CrashLoopBackOff"
            created = await node.get("crash")
            assert app.state.waiting.message == (
                f"back-off 5m0s restarting failed container=app pod=crash_default({created.metadata.uid})"
            )
            assert app.last_state is not None and app.last_state.terminated is not None
            assert app.last_state.terminated.exit_code == 1
            text = f"Back-off restarting failed container app in pod crash_default({created.metadata.uid})"
            assert ("BackOff", text) in await node.events("crash")

    run(main)


def test_back_off_starts_over_after_ten_good_minutes(tmp_path: Path) -> None:
    async def main() -> None:
        async with Node(tmp_path, behaviours={"app": Behaviour(runs_for=1, exit_code=1)}) as node:
            await node.create(pod("crash"))
            await node.until(lambda: len(node.containers("app")) and node.containers("app")[-1].config.attempt == 3)
            node.behaviours["app"] = Behaviour()
            await node.until(lambda: node.containers("app")[-1].config.attempt == 4)
            await asyncio.sleep(700)
            node.containers("app")[-1].end(1)
            took = await node.until(lambda: node.containers("app")[-1].config.attempt == 5)
            assert took < 1

    run(main)


def test_image_pulls_back_off(tmp_path: Path) -> None:
    async def main() -> None:
        away = True
        images = FakeImages(refuses=lambda name: "manifest unknown" if away else None)
        async with Node(tmp_path, images=images) as node:
            await node.create(pod("web", {"name": "app", "image": "nope:1"}))
            await asyncio.sleep(0.5)
            app = ((await node.status("web")).container_statuses or [])[0]
            assert app.state is not None and app.state.waiting is not None
            assert (app.state.waiting.reason, app.state.waiting.message) == ("ErrImagePull", "manifest unknown")
            await asyncio.sleep(2)
            app = ((await node.status("web")).container_statuses or [])[0]
            assert app.state is not None and app.state.waiting is not None
            assert app.state.waiting.reason == "ImagePullBackOff"
            assert app.state.waiting.message == 'Back-off pulling image "nope:1": ErrImagePull: manifest unknown'
            await asyncio.sleep(70)
            assert len(images.pulls) == 4
            events = await node.events("web")
            assert ("Failed", 'Failed to pull image "nope:1": manifest unknown') in events
            assert ("Failed", "Error: ErrImagePull") in events
            assert ("BackOff", 'Back-off pulling image "nope:1"') in events
            assert ("Failed", "Error: ImagePullBackOff") in events
            away = False
            await node.until_ready("web", 200)

    run(main)


@pytest.mark.parametrize(
    ("container", "reason", "message"),
    [
        (
            {"image": "absent:1", "imagePullPolicy": "Never"},
            "ErrImageNeverPull",
            'Container image "absent:1" is not present with pull policy of Never',
        ),
        (
            {"image": "Bad:Name"},
            "InvalidImageName",
            'Failed to apply default image tag "Bad:Name": couldn\'t parse image name "Bad:Name": invalid reference '
            "format: repository name (library/Bad) must be lowercase",
        ),
        (
            {"envFrom": [{"configMapRef": {"name": "settings"}}]},
            "CreateContainerConfigError",
            'configmap "settings" not found',
        ),
        (
            {"securityContext": {"runAsNonRoot": True}},
            "CreateContainerConfigError",
            "container has runAsNonRoot and image will run as root",
        ),
    ],
)
def test_containers_that_cannot_start(tmp_path: Path, container: dict[str, Any], reason: str, message: str) -> None:
    async def main() -> None:
        async with Node(tmp_path) as node:
            await node.create(pod("web", {"name": "app", **container}))
            await asyncio.sleep(1)
            status = await node.status("web")
            app = (status.container_statuses or [])[0]
            assert status.phase == "Pending"
            assert app.state is not None and app.state.waiting is not None
            assert app.state.waiting.reason == reason
            assert (app.state.waiting.message or "").startswith(message)

    run(main)


def test_a_missing_config_map_may_come_later(tmp_path: Path) -> None:
    async def main() -> None:
        async with Node(tmp_path) as node:
            await node.create(pod("web", {"name": "app", "envFrom": [{"configMapRef": {"name": "settings"}}]}))
            await asyncio.sleep(1)
            made = core_v1.ConfigMap(data={"COLOUR": "blue"})
            made.metadata.name, made.metadata.namespace = "settings", "default"
            await node.client.create(made)
            await node.until_ready("web", 60)
            assert node.running("app").environment()["COLOUR"] == "blue"

    run(main)


def test_start_failures_are_told(tmp_path: Path) -> None:
    async def main() -> None:
        behaviours = {"app": Behaviour(start_error='exec: "nope": executable file not found in $PATH')}
        async with Node(tmp_path, behaviours=behaviours) as node:
            await node.create(pod("web"))
            await asyncio.sleep(0.2)
            app = ((await node.status("web")).container_statuses or [])[0]
            assert app.state is not None and app.state.waiting is not None
            assert app.state.waiting.reason in ("RunContainerError", "CrashLoopBackOff")
            assert ("Failed", 'Error: exec: "nope": executable file not found in $PATH') in await node.events("web")
            assert app.last_state is not None and app.last_state.terminated is not None
            assert app.last_state.terminated.reason == "StartError"

    run(main)


def test_deletion_stops_then_removes_all_traces(tmp_path: Path) -> None:
    async def main() -> None:
        async with Node(tmp_path, behaviours={"app": Behaviour(stop_takes=4)}) as node:
            made = await node.create(pod("web"))
            await node.until_ready("web")
            began = clock.elapsed()
            await node.client.delete(core_v1.Pod, "web", "default")
            await node.until(lambda: node.gone("web"))
            assert 4 <= clock.elapsed() - began < 5
            assert ("Killing", "Stopping container app") in await node.events("web")
            await asyncio.sleep(1)
            assert not node.machine.containers and not node.machine.sandboxes
            assert not node.kubelet.workers
            assert not list((tmp_path / "pods").iterdir())
            assert not list((tmp_path / "containers").iterdir())
            assert not (tmp_path / "kubelet" / "pods" / (made.metadata.uid or "")).exists()

    run(main)


def test_who_does_not_stop_is_killed_when_the_grace_period_is_over(tmp_path: Path) -> None:
    async def main() -> None:
        async with Node(tmp_path, behaviours={"app": Behaviour(ignores_stop_signal=True)}) as node:
            await node.create(pod("web", terminationGracePeriodSeconds=7))
            await node.until_ready("web")
            began = clock.elapsed()
            await node.client.delete(core_v1.Pod, "web", "default")
            await node.until(lambda: node.gone("web"))
            assert 7 <= clock.elapsed() - began < 8

    run(main)


def test_force_deletion_hurries_a_termination_under_way(tmp_path: Path) -> None:
    async def main() -> None:
        async with Node(tmp_path, behaviours={"app": Behaviour(ignores_stop_signal=True)}) as node:
            await node.create(pod("web", terminationGracePeriodSeconds=600))
            await node.until_ready("web")
            await node.client.delete(core_v1.Pod, "web", "default")
            await asyncio.sleep(5)
            await node.client.delete(core_v1.Pod, "web", "default", grace_period_seconds=0)
            took = await node.until(lambda: not node.machine.containers)
            assert took < 4

    run(main)


def test_deletion_while_the_image_is_being_pulled(tmp_path: Path) -> None:
    async def main() -> None:
        async with Node(tmp_path, images=FakeImages(pull_seconds=600)) as node:
            await node.create(pod("web"))
            await asyncio.sleep(5)
            await node.client.delete(core_v1.Pod, "web", "default")
            took = await node.until(lambda: node.gone("web"))
            assert took < 2
            await asyncio.sleep(1)
            assert not node.machine.sandboxes

    run(main)


def test_active_deadline(tmp_path: Path) -> None:
    async def main() -> None:
        async with Node(tmp_path) as node:
            await node.create(pod("web", activeDeadlineSeconds=30))
            await node.until_ready("web")
            took = await node.until(lambda: _phase_is(node, "web", "Failed"))
            assert 29 <= took <= 32
            status = await node.status("web")
            assert status.reason == "DeadlineExceeded"
            assert status.message == "Pod was active on the node longer than the specified deadline"
            assert all(c.state.value != "running" for c in node.machine.containers.values())

    run(main)


async def _phase_is(node: Node, name: str, phase: str) -> bool:
    return (await node.status(name)).phase == phase


@pytest.mark.parametrize(
    ("spec", "reason", "message"),
    [
        (
            {"containers": [{"name": "app", "image": "a", "resources": {"requests": {"cpu": "5"}}}]},
            "OutOfcpu",
            "Pod was rejected: Node didn't have enough resource: cpu, requested: 5000, used: 0, capacity: 4000",
        ),
        (
            {"nodeSelector": {"disk": "ssd"}},
            "NodeAffinity",
            "Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector",
        ),
        (
            {"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}},
            "SysctlForbidden",
            'Pod was rejected: forbidden sysctl: "kernel.msgmax" not allowlisted',
        ),
    ],
)
def test_pods_that_do_not_fit_are_rejected(tmp_path: Path, spec: dict[str, Any], reason: str, message: str) -> None:
    async def main() -> None:
        async with Node(tmp_path) as node:
            await node.create(pod("web", **spec))
            status = await node.until_phase("web", "Failed", 10)
            assert (status.reason, status.message) == (reason, message)
            assert not status.container_statuses and not node.machine.sandboxes

    run(main)


def test_a_pod_that_was_deleted_by_force_takes_no_room(tmp_path: Path) -> None:
    async def main() -> None:
        large = {"name": "app", "resources": {"requests": {"cpu": "3"}}}
        behaviours = {"app": Behaviour(ignores_stop_signal=True)}
        async with Node(tmp_path, behaviours=behaviours) as node:
            await node.create(pod("first", large))
            await node.until_ready("first")
            await node.client.delete(core_v1.Pod, "first", "default", grace_period_seconds=0)
            await node.create(pod("second", large))
            await node.until_ready("second", 10)

    run(main)


def test_mount_failures_are_told_and_tried_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with Node(tmp_path) as node:
            node.volumes.refuses = 'MountVolume.SetUp failed for volume "v" : configmap "x" not found'
            await node.create(pod("web"))
            await asyncio.sleep(20)
            assert (await node.status("web")).phase == "Pending"
            assert ("FailedMount", node.volumes.refuses) in await node.events("web")
            node.volumes.refuses = ""
            await node.until_ready("web", 30)
            assert len(node.machine.sandboxes) == 1

    run(main)


def test_each_volume_that_fails_has_an_event_of_its_own(tmp_path: Path) -> None:
    async def main() -> None:
        async with Node(tmp_path) as node:
            node.volumes.failures = ("volume a", "volume b")
            await node.create(pod("web"))
            await asyncio.sleep(0.5)
            told = [message for reason, message in await node.events("web") if reason == "FailedMount"]
            assert told == ["volume a", "volume b"]

    run(main)


def test_a_lost_sandbox_is_made_anew(tmp_path: Path) -> None:
    async def main() -> None:
        async with Node(tmp_path) as node:
            await node.create(pod("web", initContainers=[{"name": "setup"}]))
            await node.until(lambda: node.containers("setup"))
            node.containers("setup")[-1].end(0)
            await node.until_ready("web")
            await node.runtime.stop_sandbox(next(iter(node.machine.sandboxes)))
            await node.until(lambda: node.containers("setup") and node.containers("setup")[-1].state == "running")
            node.containers("setup")[-1].end(0)
            await node.until_ready("web")
            assert ("SandboxChanged", "Pod sandbox changed, it will be killed and re-created.") in await node.events(
                "web"
            )
            app = ((await node.status("web")).container_statuses or [])[0]
            assert app.restart_count == 1

    run(main)
