"""ReplicationControllers do what ReplicaSets do."""

from __future__ import annotations

from controllers.cluster import Cluster, template
from podling import clock
from podling.api import core_v1
from podling.api.meta_v1 import ObjectMeta
from podling.controllers.references import controller_of
from podling.controllers.replication_controller import ReplicationControllerController


def test_pods_are_kept_at_the_wanted_number_and_the_status_settles() -> None:
    async def main() -> None:
        async with Cluster(ReplicationControllerController) as cluster:
            rc = core_v1.ReplicationController(
                metadata=ObjectMeta(name="web", namespace="default"),
                spec=core_v1.ReplicationControllerSpec(replicas=3, selector={"app": "web"}, template=template()),
            )
            made = await cluster.client.create(rc)
            await cluster.settle()
            pods = await cluster.list(core_v1.Pod)
            owners = [controller_of(p) for p in pods]
            assert len(pods) == 3 and all(o and o.kind == "ReplicationController" for o in owners)
            assert {o.uid for o in owners if o} == {made.metadata.uid}
            now = await cluster.client.get(core_v1.ReplicationController, "web", "default")
            assert (now.status.replicas, now.status.ready_replicas, now.status.available_replicas) == (3, 3, 3)
            await cluster.settle(100)
            again = await cluster.client.get(core_v1.ReplicationController, "web", "default")
            assert again.metadata.resource_version == now.metadata.resource_version
            await cluster.change(core_v1.ReplicationController, "web", lambda r: setattr(r.spec, "replicas", 1))
            await cluster.settle()
            assert len(await cluster.list(core_v1.Pod)) == 1

    clock.run_virtual(main())
