"""From one version to another: what a webhook may answer, and what clients of each version see."""

from __future__ import annotations

import json
from typing import Any

import pytest

from podling import clock
from podling.api import meta_v1
from podling.api.errors import StatusError
from podling.apiserver.admission.webhooks_client import CallFailure
from podling.apiserver.crd.conversion import checked, read_answer
from podling.apiserver.crd.objects import CustomObject, make
from tests.unit.apiserver.crd.support import (
    DEFINITIONS,
    CustomServer,
    definition,
    of_spec,
    running,
    version,
    virtual,
    widget,
)

#: v1 has `hostPort`, v2 has `host` and `port`.
V1 = {"type": "object", "properties": {"hostPort": {"type": "string"}}}
V2 = {"type": "object", "properties": {
    "host": {"type": "string"}, "port": {"type": "string"}, "extra": {"type": "string", "default": "d"},
}}  # fmt: skip


def converted(obj: dict[str, Any], desired: str) -> dict[str, Any]:
    made = {k: v for k, v in obj.items() if k not in ("hostPort", "host", "port", "extra")} | {"apiVersion": desired}
    if desired.endswith("v2"):
        made["host"], _, made["port"] = obj.get("hostPort", "").partition(":")
    else:
        made["hostPort"] = f"{obj.get('host', '')}:{obj.get('port', '')}"
    return made


class FakeWebhook:
    """Stands for the caller of webhooks: converts at once, or as told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[str]]] = []
        self.failure: Exception | None = None
        self.change: Any = None

    async def call(self, config: Any, body: bytes, timeout: float) -> bytes:
        request = json.loads(body)["request"]
        desired = request["desiredAPIVersion"]
        self.calls.append((desired, [o["metadata"]["name"] for o in request["objects"]]))
        if self.failure is not None:
            raise self.failure
        objects = [converted(o, desired) for o in request["objects"]]
        if self.change is not None:
            objects = [self.change(o) for o in objects]
        review = {"uid": request["uid"], "result": {"status": "Success"}, "convertedObjects": objects}
        return json.dumps(
            {"kind": "ConversionReview", "apiVersion": json.loads(body)["apiVersion"], "response": review}
        ).encode()

    async def close(self) -> None:
        pass


WEBHOOK = {
    "strategy": "Webhook",
    "webhook": {"clientConfig": {"url": "https://127.0.0.1:1/convert"}, "conversionReviewVersions": ["v1"]},
}


def two_versions(storage: str = "v1", **more: Any) -> dict[str, Any]:
    selectable = {"selectableFields": [{"jsonPath": ".host"}]}
    return definition(
        versions=[version("v1", V1, storage=storage == "v1", selectableFields=[{"jsonPath": ".hostPort"}]),
                  version("v2", V2, storage=storage == "v2", **selectable)],
        conversion=WEBHOOK, **more,
    )  # fmt: skip


def converting(test: Any) -> Any:
    """A test with a server whose definition is converted by a webhook."""

    def run() -> None:
        async def main() -> None:
            webhook = FakeWebhook()
            async with running(caller=webhook) as server:
                await server.define(two_versions())
                await test(server, webhook)

        clock.run_virtual(main())

    run.__name__ = test.__name__
    return run


@virtual
async def test_without_a_webhook_only_the_version_changes(server: CustomServer) -> None:
    schema = of_spec(a={"type": "string"})
    later = of_spec(a={"type": "string"}, b={"type": "string", "default": "new"})
    await server.define(definition(versions=[version("v1", schema, storage=True), version("v2", later)]))
    await server.create(widget("one", spec={"a": "x"}))
    await server.create(widget("two", version="v2", spec={"a": "x", "b": "y"}), "v2")
    assert (await server.get("one", "v2"))["spec"] == {"a": "x", "b": "new"}
    assert (await server.get("two", "v1"))["spec"] == {"a": "x"}
    assert (await server.get("two", "v2"))["spec"] == {"a": "x", "b": "new"}, "v1, which is stored, has no b"
    items = (await server.ask("GET", server.path("v2"))).objects
    assert [o["apiVersion"] for o in items or ()] == ["example.com/v2"] * 2


@converting
async def test_objects_are_shown_in_the_version_that_is_asked_for(server: CustomServer, webhook: FakeWebhook) -> None:
    await server.create(widget(hostPort="a:1"))
    found = await server.get(version="v2")
    assert (found["host"], found["port"], found["extra"]) == ("a", "1", "d") and "hostPort" not in found
    assert found["apiVersion"] == "example.com/v2"
    await server.get(version="v2")
    assert webhook.calls == [("example.com/v2", ["w"])], "once is enough"


@converting
async def test_objects_are_stored_in_the_storage_version(server: CustomServer, webhook: FakeWebhook) -> None:
    made = await server.create(widget(version="v2", host="a", port="1"), "v2")
    assert (made["apiVersion"], made["host"]) == ("example.com/v2", "a")
    (stored,) = (await server.store.list("/registry/example.com/widgets/")).items
    assert json.loads(stored.value)["hostPort"] == "a:1"
    changed = await server.patch({"port": "2"}, version="v2")
    assert changed["port"] == "2" and changed.metadata.generation == 2
    assert (await server.get())["hostPort"] == "a:2"


@converting
async def test_lists_are_converted_in_one_call(server: CustomServer, webhook: FakeWebhook) -> None:
    for name in ("a", "b", "c"):
        await server.create(widget(name, hostPort=f"{name}:1"))
    items = (await server.ask("GET", server.path("v2"))).objects
    assert [o["host"] for o in items or ()] == ["a", "b", "c"]
    assert webhook.calls == [("example.com/v2", ["a", "b", "c"])]


@converting
async def test_what_is_stored_in_several_versions(server: CustomServer, webhook: FakeWebhook) -> None:
    await server.create(widget("one", hostPort="a:1"))
    change = {"spec": {"versions": two_versions("v2")["spec"]["versions"]}}
    headers = {"content-type": "application/merge-patch+json"}
    await server.ask("PATCH", f"{DEFINITIONS}/widgets.example.com", change, headers=headers)
    crd = await server.established("widgets.example.com")
    assert crd.status.stored_versions == ["v1", "v2"]
    await server.create(widget("two", version="v2", host="b", port="2"), "v2")
    webhook.calls.clear()
    items = (await server.ask("GET", server.path("v2"))).objects
    assert [(o["host"], o["apiVersion"]) for o in items or ()] == [("a", "example.com/v2"), ("b", "example.com/v2")]
    assert webhook.calls == [("example.com/v2", ["one"])], "only what is in another version"
    items = (await server.ask("GET", server.path("v1"))).objects
    assert [o["hostPort"] for o in items or ()] == ["a:1", "b:2"]


@converting
async def test_watches_see_converted_objects_in_order(server: CustomServer, webhook: FakeWebhook) -> None:
    await server.create(widget("a", hostPort="a:1"))
    watch = await server.sent("GET", server.path("v2"), query={"watch": "true", "allowWatchBookmarks": "true"})
    await server.create(widget("b", hostPort="b:1"))
    await server.patch({"hostPort": "c:1"}, "a")
    await server.ask("DELETE", f"{server.path()}/b")
    told = []
    assert watch.events is not None
    async for event in watch.events:
        told.append((event.type, event.obj.metadata.name, event.obj["host"], event.obj["apiVersion"]))
        if len(told) == 4:
            break
    v2 = "example.com/v2"
    assert told == [("ADDED", "a", "a", v2), ("ADDED", "b", "b", v2), ("MODIFIED", "a", "c", v2),
                    ("DELETED", "b", "b", v2)]  # fmt: skip
    await watch.events.aclose()  # type: ignore[attr-defined]


@converting
async def test_fields_are_selected_in_the_version_that_is_asked_for(server: CustomServer, webhook: FakeWebhook) -> None:
    watch = await server.sent("GET", server.path("v2"), query={"watch": "true", "fieldSelector": "host=a"})
    for name in ("a", "b"):
        await server.create(widget(name, hostPort=f"{name}:1"))
    for api, selector in (("v2", "host=a"), ("v1", "hostPort=a:1")):
        items = (await server.ask("GET", server.path(api), query={"fieldSelector": selector})).objects
        assert [o.metadata.name for o in items or ()] == ["a"]
    await server.patch({"hostPort": "x:1"}, "a")
    told = []
    assert watch.events is not None
    async for event in watch.events:
        told.append((event.type, event.obj.metadata.name))
        if len(told) == 2:
            break
    assert told == [("ADDED", "a"), ("DELETED", "a")]
    await watch.events.aclose()  # type: ignore[attr-defined]
    await server.ask("DELETE", server.path("v2"), query={"fieldSelector": "host=b"})
    assert [o.metadata.name for o in (await server.ask("GET", server.path())).objects or ()] == ["a"]


@converting
async def test_a_webhook_that_fails(server: CustomServer, webhook: FakeWebhook) -> None:
    await server.create(widget(hostPort="a:1"))
    webhook.failure = CallFailure('Post "https://127.0.0.1:1/convert?timeout=30s": refused')
    error = await server.fails("GET", f"{server.path('v2')}/w")
    assert (error.code, str(error)) == (
        500,
        "conversion webhook for example.com/v1, Kind=Widget failed: "
        'Post "https://127.0.0.1:1/convert?timeout=30s": refused',
    )
    assert (await server.get())["hostPort"] == "a:1", "the stored version needs no webhook"
    assert "failed" in await server.refused("POST", server.path("v2"), widget("x", version="v2", host="a"))
    watch = await server.sent("GET", server.path("v2"), query={"watch": "true", "resourceVersion": "1"})
    assert watch.events is not None
    (last,) = [e async for e in watch.events]
    assert (last.type, last.obj.code) == ("ERROR", 500), "a watch that can't go on says so, and ends"


@converting
async def test_labels_may_be_converted_other_metadata_not(server: CustomServer, webhook: FakeWebhook) -> None:
    await server.create(widget(hostPort="a:1"))

    def change(obj: dict[str, Any]) -> dict[str, Any]:
        return obj | {"metadata": obj["metadata"] | {"labels": {"from": "v1"}, "generation": 99}}

    webhook.change = change
    found = await server.get(version="v2")
    assert found.metadata.labels == {"from": "v1"} and found.metadata.generation == 1


OLD = make("Widget", "example.com/v1", meta_v1.ObjectMeta(name="w", namespace="n", uid="u"), {})
META = {"name": "w", "namespace": "n", "uid": "u"}
GOOD = {"kind": "Widget", "apiVersion": "example.com/v2", "metadata": META, "spec": {}}


def test_a_right_answer() -> None:
    assert isinstance(checked(OLD, GOOD, "example.com/v2"), CustomObject)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"apiVersion": "example.com/v1"}, "invalid groupVersion (expected example.com/v2, received example.com/v1)"),
        ({"kind": "Gadget"}, "invalid kind (expected Widget, received Gadget)"),
        ({"metadata": META | {"name": "x"}}, "must have the same name: w != x"),
        ({"metadata": META | {"namespace": "x"}}, "must have the same namespace: n != x"),
        ({"metadata": META | {"uid": "x"}}, "must have the same UID: u != x"),
        ({"metadata": META | {"labels": {"a": 5}}}, "metadata.labels[a] must be a string"),
        ({"metadata": META | {"labels": {"": "x"}}}, "metadata.labels: Invalid value"),
        ({"metadata": None}, "missing metadata in converted object"),
    ],
)
def test_wrong_objects(change: Any, message: str) -> None:
    with pytest.raises(ValueError) as error:
        checked(OLD, GOOD | change, "example.com/v2")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"response": None}, "no response provided"),
        ({"response": {"uid": "other"}}, 'expected response.uid="u", got "other"'),
        ({"response": {"uid": "u", "result": {"status": "Failure", "message": "sorry"}}}, "sorry"),
        ({"response": {"uid": "u", "result": {}}}, "response.result.status was '', not 'Success'"),
        ({"kind": "X"}, "expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got "
                        "apiextensions.k8s.io/v1, Kind=X"),
    ],
)  # fmt: skip
def test_wrong_answers(change: Any, message: str) -> None:
    answer = {"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1", "response": {}} | change
    with pytest.raises(ValueError) as error:
        read_answer(json.dumps(answer).encode(), "u", "v1")
    assert str(error.value) == message


@converting
async def test_an_answer_with_too_few_objects(server: CustomServer, webhook: FakeWebhook) -> None:
    await server.create(widget(hostPort="a:1"))

    async def call(config: Any, body: bytes, timeout: float) -> bytes:
        request = json.loads(body)["request"]
        response = {"uid": request["uid"], "result": {"status": "Success"}, "convertedObjects": []}
        return json.dumps(
            {"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1", "response": response}
        ).encode()

    webhook.call = call  # type: ignore[method-assign]
    with pytest.raises(StatusError, match="returned 0 objects, expected 1"):
        await server.get(version="v2")
