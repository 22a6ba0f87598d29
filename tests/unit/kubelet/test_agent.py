"""The agent as a whole: restarts, static pods, orphans, the node object and its lease."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from podling import clock
from podling.api import coordination_v1, core_v1
from podling.runtime.base import ContainerState
from podling.runtime.fake_behaviour import Behaviour
from tests.unit.kubelet.node import Node, condition, pod


def run(main: Any) -> None:
    clock.run_virtual(main())


def test_a_new_agent_adopts_what_runs(tmp_path: Path) -> None:
    async def main() -> None:
        async with Node(tmp_path, behaviours={"ends": Behaviour(runs_for=30, exit_code=7)}) as node:
            await node.create(pod("web", {"name": "app", "readinessProbe": {"httpGet": {"port": 80}}}))
            await node.create(pod("job", {"name": "ends"}, restartPolicy="Never"))
            await node.until_ready("web")
            await node.until_ready("job")
            before = await node.get("web")
            await node.kubelet.close()
            await asyncio.sleep(60)
            began = len(node.seen)
            await node.boot()
            await node.until_phase("job", "Failed", 10)
            await asyncio.sleep(120)
            after = await node.get("web")
            assert after.status == before.status
            assert [c.config.attempt for c in node.containers("app")] == [0]
            ended = ((await node.status("job")).container_statuses or [])[0]
            assert ended.state is not None and ended.state.terminated is not None
            assert ended.state.terminated.exit_code == 7
            # It was never shown as not ready, and its end was told once.
            shown = [p for p in node.seen[began:] if p.metadata.name == "web"]
            assert all(condition(p.status or core_v1.PodStatus(), "Ready").status == "True" for p in shown)
            assert len([p for p in node.seen[began:] if p.metadata.name == "job"]) <= 2

    run(main)


def test_restart_counts_go_on_after_a_restart_of_the_agent(tmp_path: Path) -> None:
    async def main() -> None:
        async with Node(tmp_path) as node:
            await node.create(pod("web"))
            await node.until_ready("web")
            node.running("app").end(1)
            await asyncio.sleep(1)
            await node.kubelet.close()
            node.running("app").end(1)
            await node.boot()
            await node.until(lambda: node.containers("app")[-1].config.attempt == 2, 60)
            await asyncio.sleep(1)
            app = ((await node.status("web")).container_statuses or [])[0]
            assert app.restart_count == 2 and app.ready

    run(main)


def test_what_was_deleted_while_nobody_looked_is_ended(tmp_path: Path) -> None:
    async def main() -> None:
        async with Node(tmp_path) as node:
            await node.create(pod("web"))
            await node.until_ready("web")
            await node.kubelet.close()
            await node.client.delete(core_v1.Pod, "web", "default", grace_period_seconds=0)
            await node.boot()
            await node.until(lambda: not node.machine.sandboxes, 60)
            assert not node.machine.containers and not node.kubelet.workers
            assert not list((tmp_path / "pods").iterdir())

    run(main)


def test_a_machine_that_was_off_starts_its_pods_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with Node(tmp_path) as node:
            await node.create(pod("web"))
            await node.until_ready("web")
            await node.kubelet.close()
            node.machine.reboot()
            await node.boot()
            await node.until(lambda: any(c.config.attempt == 1 for c in node.containers("app")), 30)
            await node.until_ready("web", 30)
            app = ((await node.status("web")).container_statuses or [])[0]
            assert app.restart_count == 1
            assert app.last_state is not None and app.last_state.terminated is not None
            assert app.last_state.terminated.exit_code == 255

    run(main)


MANIFEST = """\
apiVersion: v1
kind: Pod
metadata:
  name: static
  namespace: kube-system
spec:
  containers:
  - name: app
    image: {image}
"""


def test_static_pods_need_no_api_server(tmp_path: Path) -> None:
    async def main() -> None:
        manifests = tmp_path / "manifests"
        manifests.mkdir()
        (manifests / "static.yaml").write_text(MANIFEST.format(image="nginx:1"))
        async with Node(tmp_path, api=False, manifests_dir=str(manifests)) as node:
            await node.until(lambda: node.containers("app"), 5)
            node.running("app").end(1)
            await node.until(lambda: node.containers("app")[-1].config.attempt == 1, 60)
            node.transport.away = False
            await node.until(lambda: _mirror_runs(node), 120)
            mirror = await node.get("static-node-1", "kube-system")
            annotations = mirror.metadata.annotations or {}
            assert annotations["kubernetes.io/config.source"] == "file"
            assert annotations["kubernetes.io/config.mirror"] == annotations["kubernetes.io/config.hash"]
            assert (mirror.metadata.owner_references or [])[0].kind == "Node"
            assert ((mirror.status or core_v1.PodStatus()).container_statuses or [])[0].restart_count == 1

    run(main)


async def _mirror_runs(node: Node) -> bool:
    try:
        mirror = await node.get("static-node-1", "kube-system")
    except Exception:
        return False
    return mirror.status is not None and mirror.status.phase == "Running"


def test_mirrors_follow_the_manifest(tmp_path: Path) -> None:
    async def main() -> None:
        manifests = tmp_path / "manifests"
        manifests.mkdir()
        path = manifests / "static.yaml"
        path.write_text(MANIFEST.format(image="nginx:1"))
        async with Node(tmp_path, manifests_dir=str(manifests)) as node:
            await node.until(lambda: _mirror_runs(node), 60)
            first = await node.get("static-node-1", "kube-system")
            # Deleting the mirror does not stop the pod: the mirror comes back.
            await node.client.delete(core_v1.Pod, "static-node-1", "kube-system")
            await asyncio.sleep(5)
            again = await node.get("static-node-1", "kube-system")
            assert again.metadata.uid != first.metadata.uid
            assert len(node.containers("app")) == 1
            # Another manifest is another pod.
            path.write_text(MANIFEST.format(image="nginx:2"))
            await node.until(lambda: _image_is(node, "nginx:2"), 120)
            assert node.running("app").config.image_name == "nginx:2"
            path.unlink()
            await node.until(lambda: not node.machine.sandboxes, 120)
            await asyncio.sleep(30)
            assert not (await node.client.list(core_v1.Pod, "kube-system")).items

    run(main)


async def _image_is(node: Node, image: str) -> bool:
    found = (await node.client.list(core_v1.Pod, "kube-system")).items
    return any(
        p.spec.containers[0].image == image and (p.status or core_v1.PodStatus()).phase == "Running" for p in found
    )


def test_the_node_is_registered_ready_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with Node(tmp_path, labels={"zone": "a"}) as node:
            await asyncio.sleep(0.5)
            found = await node.client.get(core_v1.Node, "node-1")
            status = found.status
            assert status is not None
            assert (found.metadata.labels or {})["kubernetes.io/hostname"] == "node-1"
            assert (found.metadata.labels or {})["zone"] == "a"
            assert (status.capacity or {})["cpu"] == "4"
            assert (status.allocatable or {})["memory"] == "8Gi"
            assert (status.capacity or {})["pods"] == "110"
            assert [(c.type, c.status, c.reason) for c in status.conditions or ()] == [
                ("MemoryPressure", "False", "KubeletHasSufficientMemory"),
                ("DiskPressure", "False", "KubeletHasNoDiskPressure"),
                ("PIDPressure", "False", "KubeletHasSufficientPID"),
                ("Ready", "True", "KubeletReady"),
            ]
            assert [(a.type, a.address) for a in status.addresses or ()] == [
                ("InternalIP", "10.213.0.1"),
                ("Hostname", "node-1"),
            ]

    run(main)


def test_resources_that_others_advertise_become_usable_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with Node(tmp_path) as node:
            await asyncio.sleep(1)

            async def advertise(**fields: Any) -> core_v1.NodeStatus:
                await node.client.patch(core_v1.Node, "node-1", None, {"status": fields}, subresource="status")
                await asyncio.sleep(1)
                status = (await node.client.get(core_v1.Node, "node-1")).status
                assert status is not None
                return status

            for amount in ("5", "3"):
                status = await advertise(capacity={"example.com/gadget": amount})
                assert (status.allocatable or {})["example.com/gadget"] == amount
            status = await advertise(capacity={"example.com/gadget": None})
            assert "example.com/gadget" not in {**(status.capacity or {}), **(status.allocatable or {})}
            assert (status.allocatable or {})["memory"] == "8Gi"

    run(main)


def test_the_lease_is_renewed_and_the_status_written_rarely(tmp_path: Path) -> None:
    async def main() -> None:
        async with Node(tmp_path) as node:
            await asyncio.sleep(31)
            lease = await node.client.get(coordination_v1.Lease, "node-1", "kube-node-lease")
            assert lease.spec.holder_identity == "node-1"
            assert lease.spec.lease_duration_seconds == 40
            assert (lease.spec.renew_time or "") >= "2026-01-01T00:00:30"
            assert (lease.metadata.owner_references or [])[0].kind == "Node"
            before = await node.client.get(core_v1.Node, "node-1")
            await asyncio.sleep(240)
            assert (await node.client.get(core_v1.Node, "node-1")).metadata.resource_version == (
                before.metadata.resource_version
            )
            await asyncio.sleep(60)
            after = await node.client.get(core_v1.Node, "node-1")
            assert after.metadata.resource_version != before.metadata.resource_version

    run(main)


def test_the_api_server_may_be_away_for_a_while(tmp_path: Path) -> None:
    async def main() -> None:
        async with Node(tmp_path) as node:
            await node.create(pod("web"))
            await node.until_ready("web")
            node.transport.away = True
            node.running("app").end(1)
            await asyncio.sleep(60)
            assert node.containers("app")[-1].config.attempt == 1
            node.transport.away = False
            await asyncio.sleep(30)
            app = ((await node.status("web")).container_statuses or [])[0]
            assert app.restart_count == 1

    run(main)


def test_dead_containers_but_the_last_are_removed(tmp_path: Path) -> None:
    async def main() -> None:
        async with Node(tmp_path) as node:
            await node.create(pod("web"))
            await node.until_ready("web")
            for _ in range(3):
                node.running("app").end(1)
                await node.until(lambda: node.containers("app")[-1].state is ContainerState.RUNNING, 100)
            await asyncio.sleep(70)
            assert [c.config.attempt for c in node.containers("app")] == [2, 3]
            app = ((await node.status("web")).container_statuses or [])[0]
            assert app.restart_count == 3

    run(main)


def test_the_node_is_not_ready_while_its_runtime_is_down(tmp_path: Path) -> None:
    async def main() -> None:
        async with Node(tmp_path) as node:

            async def ready() -> tuple[str, str]:
                found = await node.client.get(core_v1.Node, "node-1")
                conditions = (found.status.conditions if found.status else None) or []
                condition = next(
                    (c for c in conditions if c.type == "Ready"), core_v1.NodeCondition(type="", status="")
                )
                return condition.status, condition.message or ""

            await asyncio.sleep(1)
            assert (await ready())[0] == "True"
            node.runtime.down = "/usr/bin/conmon: no such program"
            await asyncio.sleep(11)
            assert await ready() == (
                "False",
                "[container runtime is down, container runtime not ready: RuntimeReady=false "
                "reason:ContainerRuntimeNotReady message:/usr/bin/conmon: no such program]",
            )
            assert ("NodeNotReady", "Node node-1 status is now: NodeNotReady") in await node.events("node-1")
            node.runtime.down = ""
            await asyncio.sleep(11)
            assert (await ready())[0] == "True"

    run(main)
