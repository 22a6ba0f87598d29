"""create and update: metadata, versions, validation, dry run."""

import asyncio
from typing import Any

import msgspec
import pytest

from apiserver.harness import Server, config_map, pod, virtual
from podling.api import apps_v1, autoscaling_v2, core_v1, events_v1, meta_v1
from podling.api.errors import StatusError

PATH = "/api/v1/namespaces/default/configmaps"


def body(name: str = "a", **more: Any) -> dict[str, Any]:
    return {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": name, **more.pop("metadata", {})}, **more}


def deployment(name: str = "d", replicas: int = 1) -> apps_v1.Deployment:
    labels = {"app": name}
    template = core_v1.PodTemplateSpec(
        metadata=meta_v1.ObjectMeta(labels=labels),
        spec=core_v1.PodSpec(containers=[core_v1.Container(name="c", image="busybox")]),
    )
    return apps_v1.Deployment(
        metadata=meta_v1.ObjectMeta(name=name, namespace="default"),
        spec=apps_v1.DeploymentSpec(
            replicas=replicas, selector=meta_v1.LabelSelector(match_labels=labels), template=template
        ),
    )


@virtual
async def test_the_server_fills_in_what_only_it_may_say(server: Server) -> None:
    lies = {
        "uid": "mine",
        "creationTimestamp": "1999-01-01T00:00:00Z",
        "generation": 7,
        "deletionTimestamp": "1999-01-01T00:00:00Z",
        "selfLink": "/x",
    }
    response = await server.ask("POST", PATH, body(metadata=lies))
    meta = response.obj.metadata
    assert response.status == 201
    assert (meta.creation_timestamp, meta.generation, meta.deletion_timestamp, meta.self_link, meta.namespace) == (
        "2026-01-01T00:00:00Z",
        None,
        None,
        None,
        "default",
    )
    assert meta.uid != "mine" and len(meta.uid) == 36 and meta.uid[14] == "4"
    assert meta.resource_version == str(server.store.revision)


@virtual
async def test_stored_bytes_have_no_version(server: Server) -> None:
    await server.client.create(config_map("a"))
    await server.app.hub.current()
    stored = await server.store.get("/registry/core/configmaps/default/a")
    assert stored is not None and b"resourceVersion" not in stored.value
    entry = server.app.served["", "v1", "configmaps"].cache.get("default/a")
    assert entry is not None and entry.stored == stored.value
    assert msgspec.json.decode(entry.wire)["metadata"]["resourceVersion"] == str(stored.mod_revision)


@virtual
async def test_generated_names(server: Server) -> None:
    made = [
        await server.client.create(
            core_v1.ConfigMap(metadata=meta_v1.ObjectMeta(generate_name="web-", namespace="default"))
        )
        for _ in range(3)
    ]
    names = {o.metadata.name or "" for o in made}
    assert len(names) == 3 and all(n.startswith("web-") and len(n) == 9 for n in names)


@virtual
async def test_a_generated_name_that_is_taken_is_generated_again(server: Server) -> None:
    from unittest.mock import patch

    await server.client.create(config_map("x-1"))
    fresh = core_v1.ConfigMap(metadata=meta_v1.ObjectMeta(generate_name="x-", namespace="default"))
    with patch("podling.api.names.generate", side_effect=["x-1", "x-1", "x-2"]):
        assert (await server.client.create(fresh)).metadata.name == "x-2"
    with patch("podling.api.names.generate", return_value="x-1") as generate, pytest.raises(StatusError) as caught:
        await server.client.create(fresh)
    assert caught.value.reason == "AlreadyExists" and generate.call_count == 8


@virtual
async def test_twice_is_a_conflict(server: Server) -> None:
    await server.client.create(config_map("a"))
    error = await server.fails("POST", PATH, body())
    assert (error.code, error.reason, str(error)) == (409, "AlreadyExists", 'configmaps "a" already exists')
    held = await server.client.create(config_map("b", finalizers=["example.com/x"]))
    await server.client.delete(core_v1.ConfigMap, "b", "default")
    error = await server.fails("POST", PATH, body("b"))
    assert str(error) == 'object is being deleted: configmaps "b" already exists'
    assert held.metadata.finalizers


@pytest.mark.parametrize(
    ("sent", "code", "text"),
    [
        (b"", 400, "the object provided is unrecognized (must be of type ConfigMap)"),
        (b"{", 400, "the object provided is unrecognized (must be of type ConfigMap)"),
        (b"[]", 400, "the object provided is unrecognized (must be of type ConfigMap)"),
        (body(data={"a": 1}), 400, "json: cannot unmarshal number into Go struct field ConfigMap.data of type string"),
        ({**body(), "apiVersion": "v2"}, 400, "the API version in the data (v2) does not match the expected"),
        ({**body(), "kind": "Secret"}, 400, 'no kind "Secret" is registered for version "v1"'),
        (body("A_B"), 422, 'ConfigMap "A_B" is invalid: metadata.name: Invalid value: "A_B": a lowercase RFC 1123'),
        (body(""), 422, "metadata.name: Required value: name or generateName is required"),
        (body(metadata={"namespace": "other"}), 400, "the namespace of the provided object does not match the"),
        (body(metadata={"labels": {"a b": "c"}}), 422, 'metadata.labels: Invalid value: "a b"'),
        (body(metadata={"resourceVersion": "1"}), 500, "resourceVersion should not be set on objects to be created"),
    ],
)
@virtual
async def test_what_can_not_be_created(server: Server, sent: Any, code: int, text: str) -> None:
    error = await server.fails("POST", PATH, sent)
    assert error.code == code
    assert text in str(error)


@virtual
async def test_nulls_are_absent_fields(server: Server) -> None:
    sent = {**body(metadata={"creationTimestamp": None, "labels": None}), "data": {"a": "b"}, "immutable": None}
    response = await server.ask("POST", PATH, sent)
    assert response.obj.data == {"a": "b"} and response.obj.immutable is None


@pytest.mark.parametrize("media", ["application/yaml", "application/yaml; charset=utf-8"])
@virtual
async def test_yaml_bodies(server: Server, media: str) -> None:
    text = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  when: 2020-01-01\n  k: v\n"
    response = await server.ask("POST", PATH, text, headers={"content-type": media})
    assert response.obj.data == {"when": "2020-01-01", "k": "v"}


@virtual
async def test_an_unknown_media_type(server: Server) -> None:
    error = await server.fails("POST", PATH, b"x", headers={"content-type": "text/plain"})
    assert error.code == 415
    assert str(error).startswith("the body of the request was in an unknown format - accepted media types include:")


@pytest.mark.parametrize("media", ["application/json", "application/yaml"])
@virtual
async def test_field_validation(server: Server, media: str) -> None:
    sent = b'{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a","foo":1},"data":{"a":"1","a":"2"},"x":0}'
    wanted = ['unknown field "metadata.foo"', 'duplicate field "data.a"', 'unknown field "x"']
    more: dict[str, Any] = {"headers": {"content-type": media}}
    error = await server.fails("POST", PATH, sent, query={"fieldValidation": "Strict"}, **more)
    assert error.code == 400
    assert str(error) == (
        f'ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: {", ".join(wanted)}'
    )
    warned = await server.ask("POST", PATH, sent, query={"dryRun": "All"}, **more)
    assert warned.warnings == wanted
    silent = await server.ask("POST", PATH, sent, query={"fieldValidation": "Ignore"}, **more)
    assert silent.warnings == [] and silent.obj.data == {"a": "2"}
    error = await server.fails("POST", PATH, sent, query={"fieldValidation": "X"}, **more)
    assert error.code == 422


@virtual
async def test_duplicate_owners_are_dropped_with_a_warning(server: Server) -> None:
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}
    response = await server.ask("POST", PATH, body(metadata={"ownerReferences": [owner, owner]}))
    assert len(response.obj.metadata.owner_references) == 1
    assert "contains duplicate entries" in response.warnings[0]


# Updates


@virtual
async def test_an_update_needs_the_newest_version(server: Server) -> None:
    first = await server.client.create(config_map("a"))
    second = await server.client.update(msgspec.structs.replace(first, data={"k": "2"}))
    assert second.metadata.uid == first.metadata.uid
    with pytest.raises(StatusError) as caught:
        await server.client.update(msgspec.structs.replace(first, data={"k": "3"}))
    assert (caught.value.code, caught.value.reason) == (409, "Conflict")
    assert str(caught.value) == (
        'Operation cannot be fulfilled on configmaps "a": the object has been modified; please apply your changes to '
        "the latest version and try again"
    )
    forced = await server.ask("PUT", f"{PATH}/a", body(data={"k": "4"}))
    assert forced.obj.data == {"k": "4"} and forced.obj.metadata.uid == first.metadata.uid


@virtual
async def test_racing_unconditional_updates_all_succeed(server: Server) -> None:
    await server.client.create(config_map("a"))
    requests = [server.ask("PUT", f"{PATH}/a", body(data={"k": str(i)})) for i in range(8)]
    answers = await asyncio.gather(*requests)
    assert len({a.obj.metadata.resource_version for a in answers}) == 8


@virtual
async def test_nothing_changed_is_not_written(server: Server) -> None:
    first = await server.client.create(config_map("a"))
    before = server.store.revision
    again = await server.client.update(msgspec.structs.replace(first, data={"k": "v"}))
    assert server.store.revision == before
    assert again.metadata.resource_version == first.metadata.resource_version


@pytest.mark.parametrize(
    ("sent", "code", "text"),
    [
        (body("b"), 400, "the name of the object (b) does not match the name on the URL (a)"),
        (body(metadata={"namespace": "x"}), 400, "the namespace of the object (x) does not match the namespace on the"),
        (body(metadata={"uid": "other"}), 409, "Precondition failed: UID in precondition: other, UID in object meta: "),
        (body(metadata={"finalizers": ["nope nope"]}), 422, "metadata.finalizers: Invalid value"),
        (body(metadata={"resourceVersion": "x"}), 422, "metadata.resourceVersion: Invalid value"),
    ],
)
@virtual
async def test_updates_that_are_refused(server: Server, sent: Any, code: int, text: str) -> None:
    await server.client.create(config_map("a"))
    error = await server.fails("PUT", f"{PATH}/a", sent)
    assert error.code == code and text in str(error)


@virtual
async def test_update_of_nothing(server: Server) -> None:
    assert (await server.fails("PUT", f"{PATH}/a", body())).code == 404


@virtual
async def test_generation_counts_changes_of_the_spec(server: Server) -> None:
    made = await server.client.create(deployment())
    assert made.metadata.generation == 1
    labelled = await server.client.patch(apps_v1.Deployment, "d", "default", {"metadata": {"labels": {"a": "b"}}})
    assert labelled.metadata.generation == 1
    scaled = await server.client.patch(apps_v1.Deployment, "d", "default", {"spec": {"replicas": 3}})
    assert scaled.metadata.generation == 2
    reported = msgspec.structs.replace(scaled, status=apps_v1.DeploymentStatus(replicas=3))
    assert (await server.client.update_status(reported)).metadata.generation == 2


@virtual
async def test_status_and_spec_are_written_apart(server: Server) -> None:
    made = await server.client.create(deployment())
    both = msgspec.structs.replace(
        made,
        spec=msgspec.structs.replace(made.spec, replicas=5),
        status=apps_v1.DeploymentStatus(replicas=9),
    )
    told = await server.client.update_status(both)
    assert told.spec and told.status and (told.spec.replicas, told.status.replicas) == (1, 9)
    again = msgspec.structs.replace(
        told,
        spec=msgspec.structs.replace(told.spec, replicas=5),
        status=apps_v1.DeploymentStatus(replicas=77),
    )
    wanted = await server.client.update(again)
    assert wanted.spec and wanted.status and (wanted.spec.replicas, wanted.status.replicas) == (5, 9)


@virtual
async def test_empty_maps_of_metadata_are_not_kept(server: Server) -> None:
    response = await server.ask("POST", PATH, body(metadata={"labels": {}, "annotations": {}, "finalizers": []}))
    meta = response.obj.metadata
    assert (meta.labels, meta.annotations, meta.finalizers) == (None, None, None)
    before = server.store.revision
    await server.ask("PUT", f"{PATH}/a", body(metadata={"labels": {}}))
    assert server.store.revision == before


@virtual
async def test_dry_run_writes_nothing(server: Server) -> None:
    before = server.store.revision
    made = await server.client.create(config_map("a"), dry_run=True)
    assert made.metadata.uid and not made.metadata.resource_version
    assert server.store.revision == before
    real = await server.client.create(config_map("a"))
    with pytest.raises(StatusError, match="already exists"):
        await server.client.create(config_map("a"), dry_run=True)
    changed = await server.client.update(msgspec.structs.replace(real, data={"k": "2"}), dry_run=True)
    assert changed.data == {"k": "2"}
    assert (await server.client.get(core_v1.ConfigMap, "a", "default")).data == {"k": "v"}
    error = await server.fails("POST", PATH, body("b"), query={"dryRun": "Some"})
    assert error.code == 422 and 'supported values: "All"' in str(error)


@virtual
async def test_what_a_client_gives_is_not_changed_by_the_server(server: Server) -> None:
    mine = pod("p")
    before = msgspec.json.encode(mine)
    await server.client.create(mine)
    assert msgspec.json.encode(mine) == before


# Paths and methods


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/api/v1/nothings", 404),
        ("GET", "/apis/nope/v1/pods", 404),
        ("GET", "/nope", 404),
        ("POST", f"{PATH}/a", 405),
        ("GET", f"{PATH}/a/status", 404),
        ("PUT", PATH, 405),
        ("GET", "/api/v1/namespaces/default/nodes/a", 404),
        ("GET", "/apis/authorization.k8s.io/v1/subjectaccessreviews", 405),
        ("DELETE", "/api/v1/namespaces/default/pods/a/binding", 405),
    ],
)
@virtual
async def test_wrong_paths_and_methods(server: Server, method: str, path: str, code: int) -> None:
    assert (await server.fails(method, path, body())).code == code


# Aliases


@virtual
async def test_an_event_is_one_object_in_two_groups(server: Server) -> None:
    reference = core_v1.ObjectReference(kind="Pod", name="p", namespace="default")
    event = core_v1.Event(
        metadata=meta_v1.ObjectMeta(name="e", namespace="default"),
        involved_object=reference,
        reason="Why",
        message="text",
        count=2,
        type="Normal",
        source=core_v1.EventSource(component="me"),
    )
    made = await server.client.create(event)
    shown = await server.client.get(events_v1.Event, "e", "default")
    assert (shown.kind, shown.api_version) == ("Event", "events.k8s.io/v1")
    assert (shown.note, shown.reason, shown.regarding, shown.deprecated_count) == ("text", "Why", reference, 2)
    assert shown.metadata.resource_version == made.metadata.resource_version
    watched = await server.ask("GET", "/apis/events.k8s.io/v1/events", query={"watch": "1"})
    assert watched.events is not None
    assert isinstance((await anext(watched.events)).obj, events_v1.Event)
    await server.client.patch(events_v1.Event, "e", "default", {"note": "new"})
    assert (await server.client.get(core_v1.Event, "e", "default")).message == "new"


@virtual
async def test_an_autoscaler_in_both_versions(server: Server) -> None:
    from podling.api import autoscaling_v1

    scaler = autoscaling_v1.HorizontalPodAutoscaler(
        metadata=meta_v1.ObjectMeta(name="h", namespace="default"),
        spec=autoscaling_v1.HorizontalPodAutoscalerSpec(
            max_replicas=5,
            scale_target_ref=autoscaling_v1.CrossVersionObjectReference(
                kind="Deployment", name="d", api_version="apps/v1"
            ),
            target_cpu_utilization_percentage=60,
        ),
    )
    await server.client.create(scaler)
    found = await server.client.get(autoscaling_v2.HorizontalPodAutoscaler, "h", "default")
    assert found.spec and found.spec.metrics
    metric = found.spec.metrics[0].resource
    assert metric is not None and (metric.name, metric.target.average_utilization) == ("cpu", 60)
    shown = await server.client.get(autoscaling_v1.HorizontalPodAutoscaler, "h", "default")
    assert shown.spec and shown.spec.target_cpu_utilization_percentage == 60
