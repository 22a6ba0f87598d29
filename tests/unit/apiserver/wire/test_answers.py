"""Bodies and answers in every form, over HTTP."""

from __future__ import annotations

from typing import Any

import aiohttp
import cbor2
import pytest
import yaml

from podling.api import autoscaling_v1, core_v1, meta_v1
from podling.api.struct import encode
from podling.apiserver import present
from podling.apiserver.crd.loading import CustomResources
from podling.apiserver.negotiate import CBOR, PROTOBUF, YAML
from podling.apiserver.wire import cbor, proto_reader, proto_writer, protobuf
from podling.machinery import schema
from tests.unit.apiserver.crd.support import definition
from tests.unit.apiserver.harness import config_map, pod
from tests.unit.apiserver.test_server import PATH, Web, serving

META = "g=meta.k8s.io;v=v1"
WIDGETS = "/apis/example.com/v1/namespaces/default/widgets"


def document(body: bytes) -> tuple[str, str, bytes]:
    """Kind, version and message."""
    return protobuf._envelope(body.removeprefix(protobuf.MAGIC))


def parts(message: bytes) -> list[tuple[int, Any]]:
    return [(number, value) for number, _, value in proto_reader.scan(message)]


async def got(web: Web, path: str, accept: str = PROTOBUF) -> tuple[aiohttp.ClientResponse, Any]:
    return await web.ask("GET", path, headers={"accept": accept})


# Protobuf


async def test_an_object_is_what_its_json_is() -> None:
    async with serving() as web:
        await web.server.client.create(pod("p"))
        path = "/api/v1/namespaces/default/pods/p"
        response, body = await got(web, path)
        _, wanted = await got(web, path, "application/json")
        assert (response.status, response.headers["content-type"]) == (200, PROTOBUF)
        assert schema.convert(protobuf.decode(body), core_v1.Pod) == schema.convert(wanted, core_v1.Pod)


async def test_a_list() -> None:
    async with serving() as web:
        for name in ("a", "b"):
            await web.server.client.create(config_map(name))
        _, body = await got(web, PATH)
        kind, version, message = document(body)
        assert (kind, version) == ("ConfigMapList", "v1")
        (_, meta), *items = parts(message)
        assert dict(parts(meta))[2] == str(web.server.store.revision).encode()
        found = [proto_reader.read(item, core_v1.ConfigMap)["metadata"]["name"] for _, item in items]
        assert found == ["a", "b"]


async def test_a_long_list_is_made_in_pieces_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = 0
    whole = proto_writer.body

    def counted(obj: Any) -> bytes:
        nonlocal made
        made += isinstance(obj, core_v1.ConfigMap)
        return whole(obj)

    monkeypatch.setattr("podling.apiserver.wire.proto_answers.body", counted)
    async with serving() as web:
        for number in range(250):
            await web.server.client.create(config_map(f"c{number:03}"))
        for _ in range(2):
            _, body = await got(web, PATH)
            assert len(parts(document(body)[2])) == 251
        assert made == 250


async def test_watchers_get_frames_and_each_event_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving() as web:
        await web.server.client.create(config_map("a"))
        made: list[str] = []
        make = present._maker

        def counted(*arguments: Any) -> Any:
            inner = make(*arguments)

            def event(type_: str, entry: Any) -> bytes:
                made.append(entry.name)
                return inner(type_, entry)

            return event

        monkeypatch.setattr(present, "_maker", counted)
        url = f"http://127.0.0.1:{web.http.port}{PATH}?watch=true&allowWatchBookmarks=true&timeoutSeconds=4"
        headers = {"accept": f"{PROTOBUF},application/json"}
        async with web.session.get(url, headers=headers) as one, web.session.get(url, headers=headers) as two:
            assert one.headers["content-type"] == f"{PROTOBUF};stream=watch"
            await web.server.client.create(config_map("b"))
            await web.server.client.delete(core_v1.ConfigMap, "a", "default")
            seen = [await events(one), await events(two)]
        assert seen[0] == seen[1]
        assert [(type_, name) for type_, name, _ in seen[0]] == [
            ("ADDED", "a"), ("ADDED", "b"), ("DELETED", "a"), ("BOOKMARK", ""),
        ]  # fmt: skip
        assert made.count("b") == 1


async def events(response: aiohttp.ClientResponse) -> list[tuple[str, str, str]]:
    """Type, name and version of what comes until the watch ends."""
    found = []
    data = await response.read()
    while data:
        size = int.from_bytes(data[:4], "big")
        event, data = dict(parts(data[4 : 4 + size])), data[4 + size :]
        obj = protobuf.decode(dict(parts(event[2]))[1])
        found.append((event[1].decode(), obj["metadata"].get("name", ""), obj["metadata"]["resourceVersion"]))
    return found


async def test_metadata_alone() -> None:
    async with serving() as web:
        await web.server.client.create(config_map("a"))
        _, body = await got(web, f"{PATH}/a", f"{PROTOBUF};as=PartialObjectMetadata;{META}")
        kind, version, message = document(body)
        assert (kind, version) == ("PartialObjectMetadata", "meta.k8s.io/v1")
        assert proto_reader.read(parts(message)[0][1], meta_v1.ObjectMeta)["name"] == "a"
        _, body = await got(web, PATH, f"{PROTOBUF};as=PartialObjectMetadataList;{META}")
        kind, _, message = document(body)
        (_, _), (_, item) = parts(message)
        assert kind == "PartialObjectMetadataList"
        assert proto_reader.read(parts(item)[0][1], meta_v1.ObjectMeta)["name"] == "a"
        response, found = await got(web, PATH, f"{PROTOBUF};as=PartialObjectMetadata;{META}")
        assert response.status == 406 and found["message"].startswith("you requested PartialObjectMetadata, but")


async def test_failures_and_small_kinds() -> None:
    async with serving() as web:
        response, body = await got(web, f"{PATH}/none")
        assert (response.status, response.headers["content-type"]) == (404, PROTOBUF)
        kind, version, message = document(body)
        status = schema.convert(proto_reader.read(message, meta_v1.Status), meta_v1.Status)
        assert (kind, version, status.code, status.reason) == ("Status", "v1", 404, "NotFound")
        controller = core_v1.ReplicationController(metadata=meta_v1.ObjectMeta(name="rc", namespace="default"))
        template = core_v1.PodTemplateSpec(metadata=meta_v1.ObjectMeta(labels={"a": "b"}), spec=pod("p").spec)
        controller.spec = core_v1.ReplicationControllerSpec(replicas=3, selector={"a": "b"}, template=template)
        await web.server.client.create(controller)
        _, body = await got(web, "/api/v1/namespaces/default/replicationcontrollers/rc/scale")
        scale = schema.convert(protobuf.decode(body), autoscaling_v1.Scale)
        assert scale.spec is not None and scale.spec.replicas == 3
        assert document(body)[:2] == ("Scale", "autoscaling/v1")


async def test_options_of_a_deletion() -> None:
    async with serving() as web:
        await web.server.client.create(config_map("a"))
        options = protobuf.encode(meta_v1.DeleteOptions(preconditions=meta_v1.Preconditions(uid="other")))
        headers = {"content-type": PROTOBUF, "accept": PROTOBUF}
        response, _ = await web.ask("DELETE", f"{PATH}/a", data=options, headers=headers)
        assert response.status == 409
        nameless = protobuf.wrap("", "", proto_writer.body(meta_v1.DeleteOptions(dry_run=["All"])))
        response, _ = await web.ask("DELETE", f"{PATH}/a", data=nameless, headers=headers)
        assert response.status == 200 and (await got(web, f"{PATH}/a"))[0].status == 200


async def test_discovery_in_protobuf_and_for_people() -> None:
    async with serving() as web:
        response, body = await got(web, "/api/v1")
        kind, version, message = document(body)
        found = proto_reader.read(message, meta_v1.APIResourceList)
        assert (kind, version, found["groupVersion"]) == ("APIResourceList", "", "v1")
        assert "watch" in next(r for r in found["resources"] if r["name"] == "pods")["verbs"]
        assert document((await got(web, "/apis"))[1])[:2] == ("APIGroupList", "v1")
        response, body = await got(web, "/api", YAML)
        assert response.headers["content-type"] == YAML and yaml.safe_load(body)["versions"] == ["v1"]
        response, _ = await got(web, "/apis", "text/html")
        assert response.status == 406
        _, _ = await web.ask("GET", "/apis", headers={"user-agent": "curl/8"})


async def test_a_body_of_another_kind_is_refused_in_upstreams_words() -> None:
    async with serving() as web:
        for data, text in (
            (protobuf.encode(pod("p")), 'Pod in version "v1" cannot be handled as a ConfigMap'),
            (b"nothing", "the object provided is unrecognized (must be of type ConfigMap): provided data does not"
                         " appear to be a protobuf message, expected prefix [107 56 115 0] (6e6f7468696e67)"),
            (b"", "the object provided is unrecognized (must be of type ConfigMap): empty data (<empty>)"),
            (protobuf.wrap("v1", "ConfigMap", b"\x0a\x7f"),
             'ConfigMap in version "v1" cannot be handled as a ConfigMap: unexpected EOF'),
        ):  # fmt: skip
            response, found = await web.ask("POST", PATH, data=data, headers={"content-type": PROTOBUF})
            assert response.status == 400 and found["message"].startswith(text)


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("application/json; charset=utf-8", 201),
        ('Application/JSON; a="b;c"', 201),
        ("application/json;", 201),
        ("application/json; charset", 415),
        ("application/x-yaml", 415),
        ("text/plain", 415),
        (CBOR, 415),
    ],
)
async def test_what_a_body_may_be_called(header: str, status: int) -> None:
    async with serving() as web:
        response, found = await web.ask("POST", PATH, data=encode(config_map("a")), headers={"content-type": header})
        assert response.status == status
        if status == 415:
            assert found["reason"] == "UnsupportedMediaType" and found["message"] == (
                "the body of the request was in an unknown format - accepted media types include: application/json, "
                "application/yaml, application/vnd.kubernetes.protobuf"
            )


async def test_patches_that_are_not_known() -> None:
    async with serving() as web:
        await web.server.client.create(config_map("a"))
        for header in ("application/apply-patch+cbor", "application/json", "application/Merge-Patch+json"):
            response, found = await web.ask("PATCH", f"{PATH}/a", data=b"{}", headers={"content-type": header})
            assert response.status == 415 and found["message"] == (
                "the body of the request was in an unknown format - accepted media types include: "
                "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, "
                "application/apply-patch+yaml"
            )


HOSTILE = {
    "deep JSON": ("application/json", b'{"kind":"ConfigMap","x":' + b"[" * 500_000 + b"]" * 500_000 + b"}"),
    "open JSON": ("application/json", b'{"a":' * 300_000),
    "a number": ("application/json", b'{"metadata":{"name":"a","generation":' + b"9" * 5000 + b"}}"),
    "bytes": ("application/json", b'{"kind":"\xff\xfe"}'),
    "many keys": ("application/json", b"{" + b",".join([b'"a":1'] * 100_000) + b"}"),
    "aliases": (YAML, b"\n".join([b"a: &a [1]"] + [b"%c: &%c [*%c, *%c, *%c]" % (c + 1, c + 1, c, c, c)
                                                   for c in range(97, 121)])),
    "deep YAML": (YAML, b"- " * 100_000),
    "digits": (YAML, b"kind: " + b"9" * 100_000),
    "itself": (YAML, b"metadata: &m\n  annotations: *m\n"),
    "cut": (PROTOBUF, b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\xff\xff\xff\x7f"),
    "entries": (PROTOBUF, b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x80\x80\x08" + b"\x12\0" * 65536),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
async def test_no_body_breaks_the_server(name: str, caplog: pytest.LogCaptureFixture) -> None:
    media, data = HOSTILE[name]
    async with serving() as web:
        await web.server.client.create(config_map("a"))
        for method, path, kind in (
            ("POST", PATH, media),
            ("PUT", f"{PATH}/a", media),
            ("DELETE", f"{PATH}/b", media),
            ("PATCH", f"{PATH}/a", "application/merge-patch+json"),
            ("PATCH", f"{PATH}/a", "application/json-patch+json"),
        ):
            response, _ = await web.ask(method, path, data=data, headers={"content-type": kind})
            assert response.status < 500, (method, kind)
        kind = "application/apply-patch+yaml"
        response, _ = await web.ask("PATCH", f"{PATH}/a?fieldManager=m", data=data, headers={"content-type": kind})
        assert response.status < 500
    assert not caplog.records


async def test_half_a_character_is_replaced() -> None:
    async with serving() as web:
        data = b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"k":"x\\ud800"}}'
        response, found = await web.ask("POST", PATH, data=data, headers={"content-type": "application/json"})
        assert response.status == 201 and found["data"] == {"k": "x\ufffd"}


# Custom resources


async def widgets(web: Web) -> CustomResources:
    custom = CustomResources(web.server.app)
    await web.ask("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", json=definition())
    for _ in range(200):
        if web.server.app.lookup("example.com", "widgets") is not None:
            break
        await web.ask("GET", "/healthz")
    return custom


async def test_custom_resources_have_no_protobuf_but_their_metadata_has() -> None:
    async with serving() as web:
        custom = await widgets(web)
        sent = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": {"a": 1}}
        assert (await web.ask("POST", WIDGETS, json=sent))[0].status == 201
        response, found = await got(web, f"{WIDGETS}/w")
        # The failure itself has a protobuf form.
        assert response.status == 406 and protobuf.decode(found)["reason"] == "NotAcceptable"
        response, found = await got(web, f"{WIDGETS}/w", f"{PROTOBUF},application/json")
        assert found["spec"] == {"a": 1}
        response, body = await got(web, WIDGETS, f"{PROTOBUF};as=PartialObjectMetadataList;{META}")
        assert document(body)[0] == "PartialObjectMetadataList"
        headers = {"content-type": PROTOBUF}
        response, found = await web.ask("POST", WIDGETS, data=b"k8s\0", headers=headers)
        assert response.status == 415 and found["message"].endswith("include: application/json, application/yaml")
        await custom.close()


# CBOR


async def test_cbor_when_it_is_switched_on() -> None:
    async with serving() as web:
        web.server.app.cbor = True
        custom = await widgets(web)
        sent = {b"apiVersion": b"example.com/v1", b"kind": b"Widget", b"metadata": {b"name": b"w"},
                b"spec": {b"a": 1, "f": 1.5, b"raw": cbor2.CBORTag(22, b"\0\xff")}}  # fmt: skip
        data = cbor.SELF_DESCRIBED + cbor2.dumps(sent)
        headers = {"content-type": CBOR, "accept": CBOR}
        response, body = await web.ask("POST", WIDGETS, data=data, headers=headers)
        assert (response.status, response.headers["content-type"]) == (201, CBOR)
        assert body.startswith(cbor.SELF_DESCRIBED)
        assert cbor.decode(body)["spec"] == {"a": 1, "f": 1.5, "raw": "AP8="}
        response, body = await got(web, WIDGETS, CBOR)
        assert cbor.decode(body)["kind"] == "WidgetList"
        intent = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}}
        headers["content-type"] = "application/apply-patch+cbor"
        response, body = await web.ask("PATCH", f"{PATH}/a?fieldManager=me", data=cbor2.dumps(intent), headers=headers)
        assert response.status == 201 and cbor.decode(body)["data"] == {"k": "v"}
        response, body = await web.ask("PATCH", f"{PATH}/a?fieldManager=me", data=b"\xa1", headers=headers)
        assert response.status == 400 and cbor.decode(body)["reason"] == "BadRequest"
        await custom.close()


async def test_a_watch_in_cbor() -> None:
    async with serving() as web:
        web.server.app.cbor = True
        await web.server.client.create(config_map("a"))
        url = f"http://127.0.0.1:{web.http.port}{PATH}?watch=true&timeoutSeconds=1&allowWatchBookmarks=true"
        async with web.session.get(url, headers={"accept": CBOR}) as response:
            assert response.headers["content-type"] == "application/cbor-seq"
            data = await response.read()
        found = [cbor.decode(cbor.SELF_DESCRIBED + item) for item in data.split(cbor.SELF_DESCRIBED) if item]
        assert [(e["type"], e["object"]["metadata"].get("name")) for e in found] == [("ADDED", "a"), ("BOOKMARK", None)]


# For people


async def test_curl_gets_indented_json_and_failures_too() -> None:
    async with serving() as web:
        await web.server.client.create(config_map("a"))
        for path in (f"{PATH}/a", f"{PATH}/none", "/api", "/apis/apps/v1"):
            async with web.session.get(
                f"http://127.0.0.1:{web.http.port}{path}", headers={"user-agent": "curl/8.0", "accept": "*/*"}
            ) as response:
                text = await response.text()
            assert text.startswith('{\n  "kind"') and not text.endswith("\n")
