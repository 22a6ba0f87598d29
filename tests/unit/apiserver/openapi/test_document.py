"""How the documents are asked for: forms, tags, addresses that never change."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from podling.api import registry
from podling.apiserver.openapi import gnostic3
from podling.apiserver.wire import proto_reader
from tests.unit.apiserver.harness import Server, virtual

APPS = "/openapi/v3/apis/apps/v1"
V3 = "application/com.github.proto-openapi.spec.v3@v1.0+protobuf"


def scan(data: bytes) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    for number, _, value in proto_reader.scan(data):
        found.setdefault(number, []).append(value)
    return found


@virtual
async def test_index_names_what_is_served(server: Server) -> None:
    index = json.loads((await server.ask("GET", "/openapi/v3")).body or b"")["paths"]
    assert {"api", "apis", "apis/apps", "api/v1", "apis/apps/v1", "version"} <= set(index)
    for path, entry in index.items():
        url = urlsplit(entry["serverRelativeURL"])
        answer = await server.ask("GET", url.path, query=dict(parse_qsl(url.query)))
        assert answer.headers["ETag"] == f'"{dict(parse_qsl(url.query))["hash"]}"', path
        assert answer.headers["Cache-Control"] == "public, immutable"
        assert answer.headers["Expires"].endswith("GMT")


@virtual
async def test_an_old_address_leads_to_the_new_one(server: Server) -> None:
    answer = await server.ask("GET", APPS, query={"hash": "OLD"})
    assert answer.status == 301 and answer.headers["Location"].startswith(f"{APPS}?hash=")


@pytest.mark.parametrize("path", ["/openapi/v2", APPS])
@virtual
async def test_what_a_client_has_is_not_sent_again(server: Server, path: str) -> None:
    etag = (await server.ask("GET", path)).headers["ETag"]
    for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        assert (await server.ask("GET", path, headers={"if-none-match": known})).status == 304
    assert (await server.ask("GET", path, headers={"if-none-match": '"other"'})).status == 200


@pytest.mark.parametrize("path", ["/openapi/v2", APPS])
@virtual
async def test_forms(server: Server, path: str) -> None:
    version = "v2" if path.endswith("v2") else "v3"
    etags = set()
    for accept, kind in (
        ("", "application/json"),
        ("application/json, */*", "application/json"),
        (f"application/com.github.proto-openapi.spec.{version}@v1.0+protobuf", "protobuf"),
        (f"application/com.github.proto-openapi.spec.{version}.v1.0+protobuf", "protobuf"),
    ):
        answer = await server.ask("GET", path, headers={"accept": accept})
        expected = f"application/com.github.proto-openapi.spec.{version}.v1.0+protobuf" if "proto" in kind else kind
        assert answer.headers["content-type"] == expected and answer.headers["Vary"] == "Accept"
        etags.add(answer.headers["ETag"])
    assert len(etags) == 1
    refused = await server.ask("GET", path, headers={"accept": "text/html"})
    assert (refused.status, refused.body) == (406, b"")


@virtual
async def test_v3_in_protobuf(server: Server) -> None:
    document = json.loads((await server.ask("GET", APPS)).body or b"")
    found = scan((await server.ask("GET", APPS, headers={"accept": V3})).body or b"")
    assert found[1] == [b"3.0.0"]
    assert [scan(p)[1][0].decode() for p in scan(found[4][0])[1]] == list(document["paths"])
    named = {scan(n)[1][0].decode(): scan(n)[2][0] for n in scan(scan(found[5][0])[1][0])[1]}
    assert list(named) == list(document["components"]["schemas"])
    spec = scan(scan(named["io.k8s.api.apps.v1.DeploymentSpec"])[1][0])
    assert spec[23] == [b"selector", b"template"] and spec[25] == [b"object"]
    fields = {scan(n)[1][0].decode(): scan(scan(n)[2][0])[1][0] for n in scan(spec[31][0])[1]}
    template = scan(fields["template"])
    reference = b"#/components/schemas/io.k8s.api.core.v1.PodTemplateSpec"
    assert scan(scan(template[26][0])[2][0])[1] == [reference] and template[33] == [b""]
    assert scan(fields["replicas"])[35] == [b"int32"]


@pytest.mark.parametrize(("value", "field"), [(1, 1), (False, 2), ("", 3)])
def test_defaults_in_protobuf(value: Any, field: int) -> None:
    found = scan(gnostic3.document({"components": {"schemas": {"a": {"default": value}}}}))
    schema = scan(scan(scan(scan(scan(found[5][0])[1][0])[1][0])[2][0])[1][0])
    assert list(scan(schema[33][0])) == [field]


@virtual
async def test_another_resource_gives_another_address(server: Server) -> None:
    async def address() -> str:
        index = json.loads((await server.ask("GET", "/openapi/v3")).body or b"")["paths"]
        return str(index["apis/apps/v1"]["serverRelativeURL"])

    before = await address()
    server.app.install(registry.Resource(group="apps", version="v1", name="things", kind="ConfigMap"))
    assert await address() != before
