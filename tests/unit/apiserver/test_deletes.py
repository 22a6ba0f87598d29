"""delete: finalizers, grace, propagation, preconditions, collections."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apiserver.harness import Server, config_map, pod, virtual
from podling import clock
from podling.api import apps_v1, core_v1, meta_v1, times
from podling.api.errors import StatusError
from podling.apiserver.codec import StructCodec
from podling.apiserver.handlers.delete import decide
from podling.apiserver.strategy import PlainStrategy

PATH = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"


async def gone(server: Server, kind: Any, name: str) -> bool:
    try:
        await server.client.get(kind, name, "default")
    except StatusError as error:
        return error.code == 404
    return False


@virtual
async def test_a_plain_object_goes_at_once(server: Server) -> None:
    made = await server.client.create(config_map("a"))
    response = await server.ask("DELETE", f"{PATH}/a")
    assert response.status == 200 and isinstance(response.obj, meta_v1.Status)
    assert response.obj.status == "Success"
    assert response.obj.details == meta_v1.StatusDetails(name="a", kind="configmaps", uid=made.metadata.uid)
    assert (await server.fails("DELETE", f"{PATH}/a")).code == 404


@virtual
async def test_some_kinds_answer_with_the_object(server: Server) -> None:
    response = await server.ask("DELETE", "/api/v1/namespaces/default/serviceaccounts/default")
    assert isinstance(response.obj, core_v1.ServiceAccount)


@virtual
async def test_finalizers_hold_an_object(server: Server) -> None:
    await server.client.create(config_map("a", finalizers=["example.com/x"]))
    response = await server.ask("DELETE", f"{PATH}/a")
    meta = response.obj.metadata
    assert (meta.deletion_timestamp, meta.deletion_grace_period_seconds) == ("2026-01-01T00:00:00Z", 0)
    patch = {"metadata": {"finalizers": ["example.com/x", "example.com/y"]}}
    error = await server.fails("PATCH", f"{PATH}/a", patch, headers={"content-type": "application/merge-patch+json"})
    assert "no new finalizers can be added if the object is being deleted" in str(error)
    # The last finalizer takes the object along.
    stripped = msgspec.structs.replace(response.obj, metadata=msgspec.structs.replace(meta, finalizers=None))
    await server.client.update(stripped)
    assert await gone(server, core_v1.ConfigMap, "a")


@pytest.mark.parametrize(
    ("policy", "finalizers"), [("Foreground", ["foregroundDeletion"]), ("Orphan", ["orphan"]), ("Background", None)]
)
@virtual
async def test_propagation(server: Server, policy: str, finalizers: list[str] | None) -> None:
    await server.client.create(config_map("a"))
    await server.client.delete(core_v1.ConfigMap, "a", "default", propagation_policy=policy)
    if finalizers is None:
        assert await gone(server, core_v1.ConfigMap, "a")
    else:
        held = await server.client.get(core_v1.ConfigMap, "a", "default")
        assert held.metadata.finalizers == finalizers and held.metadata.deletion_timestamp


@virtual
async def test_the_policy_may_stand_in_the_finalizers(server: Server) -> None:
    await server.client.create(config_map("a", finalizers=["orphan"]))
    await server.client.delete(core_v1.ConfigMap, "a", "default")
    held = await server.client.get(core_v1.ConfigMap, "a", "default")
    assert held.metadata.finalizers == ["orphan"] and held.metadata.deletion_timestamp
    await server.client.create(config_map("b", finalizers=["orphan"]))
    await server.client.delete(core_v1.ConfigMap, "b", "default", propagation_policy="Background")
    assert await gone(server, core_v1.ConfigMap, "b")


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        ({"preconditions": {"uid": "x"}}, 409, "the UID in the precondition (x) does not match the UID in record ("),
        (
            {"preconditions": {"resourceVersion": "1"}},
            409,
            "the ResourceVersion in the precondition (1) does not match",
        ),
        ({"propagationPolicy": "No"}, 422, 'Unsupported value: "No"'),
        ({"propagationPolicy": "Orphan", "orphanDependents": True}, 422, "cannot be both set"),
        ({"dryRun": ["Some"]}, 422, "Unsupported value"),
        ({"kind": "Pod", "apiVersion": "v1"}, 400, 'no kind "Pod" is registered'),
        ([], 400, "decoded object cannot be converted to DeleteOptions"),
    ],
)
@virtual
async def test_options_that_are_refused(server: Server, options: Any, code: int, text: str) -> None:
    await server.client.create(config_map("a"))
    error = await server.fails("DELETE", f"{PATH}/a", options if options else b"[]")
    assert error.code == code and text in str(error)
    assert not await gone(server, core_v1.ConfigMap, "a")


@virtual
async def test_dry_run_deletes_nothing(server: Server) -> None:
    await server.client.create(config_map("a"))
    await server.ask("DELETE", f"{PATH}/a", query={"dryRun": "All"})
    assert not await gone(server, core_v1.ConfigMap, "a")


@virtual
async def test_a_collection(server: Server) -> None:
    for i in range(4):
        await server.client.create(config_map(f"c{i}", labels={"odd": str(i % 2)}))
    response = await server.ask("DELETE", PATH, query={"labelSelector": "odd=1"})
    assert [o.metadata.name for o in response.objects or []] == ["c1", "c3"]
    left = await server.client.list(core_v1.ConfigMap, "default")
    assert [o.metadata.name for o in left.items] == ["c0", "c2"]


# Pods


async def scheduled(server: Server, name: str, **spec: Any) -> core_v1.Pod:
    return await server.client.create(pod(name, node_name="n1", **spec))


@virtual
async def test_a_pod_on_a_node_is_given_time(server: Server) -> None:
    await scheduled(server, "p", termination_grace_period_seconds=40)
    response = await server.ask("DELETE", f"{PODS}/p")
    meta = response.obj.metadata
    assert (meta.deletion_timestamp, meta.deletion_grace_period_seconds) == ("2026-01-01T00:00:40Z", 40)
    assert meta.generation == 2
    # Longer is not possible, shorter is.
    longer = await server.ask("DELETE", f"{PODS}/p", {"gracePeriodSeconds": 60})
    assert longer.obj.metadata == meta
    shorter = (await server.ask("DELETE", f"{PODS}/p", {"gracePeriodSeconds": 10})).obj.metadata
    assert (shorter.deletion_timestamp, shorter.deletion_grace_period_seconds) == ("2026-01-01T00:00:10Z", 10)
    assert shorter.generation == 2
    # The kubelet has the last word.
    await server.client.delete(core_v1.Pod, "p", "default", grace_period_seconds=0)
    assert await gone(server, core_v1.Pod, "p")


@virtual
async def test_pods_that_go_at_once(server: Server) -> None:
    await server.client.create(pod("nowhere"))
    await server.client.delete(core_v1.Pod, "nowhere", "default")
    assert await gone(server, core_v1.Pod, "nowhere")
    over = await scheduled(server, "over")
    await server.client.update_status(msgspec.structs.replace(over, status=core_v1.PodStatus(phase="Succeeded")))
    await server.client.delete(core_v1.Pod, "over", "default")
    assert await gone(server, core_v1.Pod, "over")
    await scheduled(server, "forced")
    await server.client.delete(core_v1.Pod, "forced", "default", grace_period_seconds=0)
    assert await gone(server, core_v1.Pod, "forced")


@virtual
async def test_a_pod_with_a_finalizer_outlives_its_grace(server: Server) -> None:
    await scheduled(server, "p", meta={"finalizers": ["example.com/x"]})
    await server.client.delete(core_v1.Pod, "p", "default")
    await server.client.delete(core_v1.Pod, "p", "default", grace_period_seconds=0)
    held = await server.client.get(core_v1.Pod, "p", "default")
    assert held.metadata.deletion_grace_period_seconds == 0
    await server.client.patch(core_v1.Pod, "p", "default", {"metadata": {"finalizers": None}})
    assert await gone(server, core_v1.Pod, "p")


@virtual
async def test_jobs_orphan_and_deployments_do_not(server: Server) -> None:
    assert server.app.served["batch", "v1", "jobs"].strategy.default_propagation == "Orphan"
    assert server.app.served["apps", "v1", "deployments"].strategy.default_propagation == "Background"


# The decision by itself


class _Served:
    def __init__(self) -> None:
        from podling.api import registry

        self.codec = StructCodec(apps_v1.ReplicaSet, "apps/v1")
        resource = registry.by_name("apps", "v1", "replicasets")
        assert resource is not None
        self.strategy = PlainStrategy(resource)


@given(
    finalizers=st.lists(st.sampled_from(["orphan", "foregroundDeletion", "example.com/x"]), unique=True),
    policy=st.sampled_from([None, "Orphan", "Foreground", "Background"]),
    deleting=st.booleans(),
)
def test_an_object_is_removed_exactly_when_nothing_holds_it(
    finalizers: list[str], policy: str | None, deleting: bool
) -> None:
    stamp = times.format(clock.EPOCH) if deleting else None
    old = apps_v1.ReplicaSet(
        metadata=meta_v1.ObjectMeta(
            name="r",
            finalizers=finalizers or None,
            deletion_timestamp=stamp,
            deletion_grace_period_seconds=0 if deleting else None,
            generation=3,
        )
    )
    verdict = decide(_Served(), old, meta_v1.DeleteOptions(propagation_policy=policy), clock.EPOCH)
    foreign = "example.com/x" in finalizers
    implied = policy or next(
        ({"orphan": "Orphan", "foregroundDeletion": "Foreground"}[f] for f in finalizers if not f.startswith("ex")),
        "Background",
    )
    assert verdict.remove == (not foreign and implied == "Background")
    if not verdict.remove and verdict.marked is not None:
        meta = verdict.marked.metadata
        assert meta.deletion_timestamp and meta.deletion_grace_period_seconds == 0
        assert ("orphan" in meta.finalizers) == (implied == "Orphan")
        assert ("foregroundDeletion" in meta.finalizers) == (implied == "Foreground")
        assert meta.generation == (3 if deleting else 4)


@virtual
async def test_a_grace_beyond_all_time_can_be_asked_for_and_shortened(server: Server) -> None:
    await scheduled(server, "p", termination_grace_period_seconds=2**63 - 1)
    meta = (await server.ask("DELETE", f"{PODS}/p")).obj.metadata
    assert (meta.deletion_timestamp, meta.deletion_grace_period_seconds) == ("9999-12-31T23:59:59Z", 2**63 - 1)
    meta = (await server.ask("DELETE", f"{PODS}/p", {"gracePeriodSeconds": 10})).obj.metadata
    assert (meta.deletion_timestamp, meta.deletion_grace_period_seconds) == ("2026-01-01T00:00:10Z", 10)
