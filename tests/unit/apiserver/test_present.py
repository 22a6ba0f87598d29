"""Answers as bytes: what lists say of their items, and in which forms."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import yaml

from apiserver.harness import config_map
from apiserver.test_server import PATH, serving
from podling.api import core_v1, meta_v1, registry
from podling.api.errors import StatusError
from podling.api.struct import encode
from podling.apiserver import present
from podling.apiserver.answer import Answer
from podling.apiserver.codec import StructCodec
from podling.apiserver.entry import Entry
from podling.apiserver.negotiate import CBOR, PLAIN, YAML, Media
from podling.apiserver.served import Served
from podling.apiserver.strategy import Strategy
from podling.apiserver.wire import cbor

CODEC = StructCodec(core_v1.ConfigMap, "v1")
TABLE = Media("application/json", as_="Table", version="v1")


def listed(count: int, *, custom: bool = False) -> Answer:
    resource = registry.of(core_v1.ConfigMap)
    publish = (lambda _: []) if custom else None
    served = Served(resource, lambda: Strategy(resource), None, codec=CODEC, publish=publish)
    objects = [config_map(f"c{n}") for n in range(count)]
    entries = [Entry(f"default/c{n}", n, encode(o), CODEC, o) for n, o in enumerate(objects)]
    return Answer(entries=entries, list_meta=meta_v1.ListMeta(resource_version="7"), served=served)


def read(data: bytes, media: Media) -> Any:
    if media.type == CBOR:
        return cbor.decode(data)
    return yaml.safe_load(data) if media.type == YAML else msgspec.json.decode(data)


@pytest.mark.parametrize("type_", [PLAIN.type, YAML, CBOR])
@pytest.mark.parametrize("custom", [False, True])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_items_are_told_by_their_list(type_: str, custom: bool, count: int) -> None:
    media = Media(type_)
    found = read(present.render(listed(count, custom=custom), media, {}), media)
    said = {"kind": "ConfigMap", "apiVersion": "v1"} if custom else {}
    assert found == {
        "kind": "ConfigMapList",
        "apiVersion": "v1",
        "metadata": {"resourceVersion": "7"},
        "items": [
            {**said, "metadata": {"name": f"c{n}", "namespace": "default"}, "data": {"k": "v"}} for n in range(count)
        ],
    }


def test_an_item_that_does_not_say_what_it_is() -> None:
    answer = listed(2)
    assert answer.entries is not None
    answer.entries[1].wire = b'{"metadata":{"name":"x"}}'
    found = msgspec.json.decode(present.render(answer, PLAIN, {}))
    assert found["items"][1] == {"metadata": {"name": "x"}}


async def test_a_table_has_whole_objects() -> None:
    async with serving() as web:
        await web.server.client.create(config_map("a"))
        accept = {"accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
        _, found = await web.ask("GET", f"{PATH}?includeObject=Object", headers=accept)
        (row,) = found["rows"]
        assert (row["object"]["kind"], row["object"]["apiVersion"]) == ("ConfigMap", "v1")


async def test_what_can_stand_beside_cells() -> None:
    with pytest.raises(StatusError) as caught:
        present.render(listed(1), TABLE, {"includeObject": "All"})
    text = "includeObject: Invalid value: \"All\": must be 'Metadata', 'Object', 'None', or empty"
    assert caught.value.code == 400 and str(caught.value) == f"Unable to convert to Table as requested: {text}"
    async with serving() as web:
        accept = {"accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
        response, found = await web.ask("GET", f"{PATH}?includeObject=All&watch=1", headers=accept)
        assert response.status == 400 and found["message"].endswith(text)
        assert not web.server.app.served["", "v1", "configmaps"].cache.watches()
