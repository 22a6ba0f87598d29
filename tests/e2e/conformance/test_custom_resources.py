"""Custom resources and servers in pods: admission webhooks that deny and change them, and one that converts them."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conformance.client import Namespace, Object, Refused, eventually
from tests.e2e.conformance.served import Hooks, certify, denied, on_each_node, rule

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
CONVERTER = "e2e-test-crd-conversion-webhook"
STAGES = ("mutation-start", "mutation-stage-1", "mutation-stage-2", "webhook-e2e-test")
TEXT = {"type": "string"}


def schema(**properties: Any) -> Object:
    return {"openAPIV3Schema": {"type": "object", "properties": properties}}


def with_data(*keys: str) -> Object:
    return schema(data={"type": "object", "properties": dict.fromkeys(keys, TEXT)})


class Defined:
    """A definition of custom resources in two versions, and objects of it in one namespace."""

    def __init__(self, space: Namespace) -> None:
        self.space = space
        self.group = f"{secrets.token_hex(3)}.example.com"
        self.definition = f"{DEFINITIONS}/things.{self.group}"

    def define(self, v1: Object, v2: Object, **more: Any) -> None:
        versions = [
            {"name": name, "served": True, "storage": name == "v1", "schema": schema}
            for name, schema in (("v1", v1), ("v2", v2))
        ]
        names = {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"}
        spec = {"group": self.group, "scope": "Namespaced", "names": names, "versions": versions, **more}
        self.space.api.request("POST", DEFINITIONS, {"metadata": {"name": f"things.{self.group}"}, "spec": spec})
        eventually(lambda: self.ask("GET", "v1") and self.ask("GET", "v2"))

    def ask(self, method: str, version: str, name: str = "", body: Any = None, kind: str = "json", **query: Any) -> Any:
        path = f"/apis/{self.group}/{version}/namespaces/{self.space.name}/things"
        return self.space.api.request(method, f"{path}/{name}" if name else path, body, kind, **query)

    def create(self, version: str, name: str, **content: Any) -> Object:
        head = {"apiVersion": f"{self.group}/{version}", "kind": "Thing", "metadata": {"name": name}}
        made: Object = self.ask("POST", version, "", {**head, **content})
        return made

    def merge(self, version: str, name: str, **content: Any) -> Object:
        made: Object = self.ask("PATCH", version, name, content, "merge-patch+json")
        return made

    def store(self, version: str) -> None:
        """From now on objects are stored in this version."""
        found = self.space.api.request("GET", self.definition)
        for each in found["spec"]["versions"]:
            each["storage"] = each["name"] == version
        self.space.api.request("PUT", self.definition, found)

        def stored() -> bool:
            return version in self.space.api.request("GET", self.definition)["status"]["storedVersions"]

        eventually(stored)


@pytest.fixture
def things(shared: Namespace) -> Iterator[Defined]:
    made = Defined(shared)
    yield made
    try:
        shared.api.request("DELETE", made.definition)
    except Refused as error:
        assert error.code == 404


@pytest.fixture(scope="module")
def servers(shared: Namespace, tmp_path_factory: pytest.TempPathFactory) -> Hooks:
    return Hooks.start(shared, tmp_path_factory.mktemp("webhook"))


@pytest.fixture
def hooks(servers: Hooks) -> Iterator[Hooks]:
    yield servers
    servers.forget()


def test_operations_are_denied(things: Defined, hooks: Hooks) -> None:
    things.define(with_data(*STAGES), with_data(*STAGES))
    every = rule("CREATE", "UPDATE", "DELETE", resources="things", group=things.group)
    hooks.configure("Validating", hooks.webhook("/custom-resource", every))
    bad, kept = ({"webhook-e2e-test": f"webhook-{what}"} for what in ("disallow", "nondeletable"))
    assert denied(lambda: things.create("v1", "bad", data=bad)) == (
        'admission webhook "n0.custom-resource.k8s.io" denied the request: the custom resource contains unwanted data'
    )
    things.create("v1", "kept", data=kept)
    assert "unwanted data" in denied(lambda: things.merge("v1", "kept", data=bad))
    # The rule is for v1; a request for v2 is one for it by another name, and is reviewed as v1.
    assert "unwanted data" in denied(lambda: things.merge("v2", "kept", data=bad))
    request = hooks.reviews()[-1]["request"]
    assert (request["kind"]["version"], request["requestKind"]["version"]) == ("v1", "v2")
    assert "cannot be deleted" in denied(lambda: things.ask("DELETE", "v1", "kept"))
    assert "cannot be deleted" in denied(lambda: things.ask("DELETE", "v1"))
    things.merge("v1", "kept", data={"webhook-e2e-test": "webhook-allow"})
    things.ask("DELETE", "v1", "kept")


def test_they_are_changed_and_what_the_schema_lacks_is_pruned(things: Defined, hooks: Hooks) -> None:
    v1 = with_data("mutation-start", "mutation-stage-1")
    v1["openAPIV3Schema"]["properties"]["data"]["properties"]["colour"] = {**TEXT, "default": "blue"}
    things.define(v1, with_data(*STAGES))
    creation = rule("CREATE", resources="things", group=things.group)
    hooks.configure("Mutating", *[hooks.webhook("/mutating-custom-resource", creation) for _ in range(2)])
    made = things.create("v1", "a", data={"mutation-start": "yes"})
    assert made["data"] == {"mutation-start": "yes", "mutation-stage-1": "yes", "colour": "blue"}
    # The second webhook saw what the first had added, and what is pruned in the end it added itself.
    reviewed = [r["request"]["object"]["data"] for r in hooks.reviews() if r["request"]["name"] == "a"]
    assert reviewed == [{"mutation-start": "yes", "colour": "blue"}, made["data"]]


def test_they_are_changed_when_another_version_is_stored(things: Defined, hooks: Hooks) -> None:
    anything: Object = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    things.define(anything, anything)
    things.create("v1", "a", data={"mutation-start": "yes"})
    change = rule("CREATE", "UPDATE", resources="things", group=things.group)
    hooks.configure("Mutating", hooks.webhook("/mutating-custom-resource", change))
    things.store("v2")
    changed = things.merge("v1", "a", dummy="test")
    assert changed["data"] == {"mutation-start": "yes", "mutation-stage-1": "yes"} and changed["dummy"] == "test"
    assert things.ask("GET", "v2", "a")["apiVersion"] == f"{things.group}/v2"


@pytest.fixture(scope="module")
def converter(shared: Namespace, tmp_path_factory: pytest.TempPathFactory) -> tuple[Object, list[str]]:
    """The conversion of a definition, by a webhook in pods, and these."""
    authority = certify(shared, CONVERTER, tmp_path_factory.mktemp("conversion"))
    pods = on_each_node(shared, CONVERTER, "crd-conversion-webhook")
    reference = {"name": CONVERTER, "namespace": shared.name, "path": "/crdconvert"}
    config = {"clientConfig": {"service": reference, "caBundle": authority}, "conversionReviewVersions": ["v1"]}
    return {"strategy": "Webhook", "webhook": config}, pods


def test_versions_are_converted(things: Defined, converter: tuple[Object, list[str]]) -> None:
    conversion, pods = converter
    space = things.space
    things.define(schema(hostPort=TEXT), schema(host=TEXT, port=TEXT), conversion=conversion)
    watching = space.kubectl.start("get", f"things.v2.{things.group}", "--watch", "--output=json")
    things.create("v1", "a", hostPort="localhost:8080")
    found = things.ask("GET", "v2", "a")
    assert (found["apiVersion"], found["host"], found["port"]) == (f"{things.group}/v2", "localhost", "8080")
    things.store("v2")
    things.create("v2", "b", host="example.com", port="80")
    for version, fields in (("v1", ("hostPort",)), ("v2", ("host", "port"))):
        items = things.ask("GET", version)["items"]
        assert [[i["apiVersion"], *(f for f in i if f in ("hostPort", "host", "port"))] for i in items] == [
            [f"{things.group}/{version}", *fields] for _ in items
        ]
    assert things.merge("v1", "b", hostPort="example.org:81")["hostPort"] == "example.org:81"
    assert (found := things.ask("GET", "v2", "b"))["host"] == "example.org" and found["port"] == "81"
    said = denied(lambda: things.create("v1", "c", hostPort="none"))
    assert said == (f"conversion webhook for {things.group}/v1, Kind=Thing failed: invalid hostPort value `none`")
    assert watching.stdout is not None
    decoder, seen, text = json.JSONDecoder(), [], ""
    while len(seen) < 2:
        text += watching.stdout.readline()
        try:
            seen.append(decoder.decode(text))
            text = ""
        except ValueError:
            continue
    watching.terminate()
    watching.communicate()
    assert [(o["metadata"]["name"], o["host"], o["port"]) for o in seen] == [
        ("a", "localhost", "8080"), ("b", "example.com", "80"),
    ]  # fmt: skip
    # Without its converter, the version that is stored is read, the other one is not.
    for name in pods:
        space.delete("pods", name, gracePeriodSeconds=0)
    assert things.create("v2", "d", host="example.net", port="82")["host"] == "example.net"
    eventually(lambda: denied(lambda: things.ask("GET", "v1", "d")).endswith(f'available for service "{CONVERTER}"'))
    assert things.ask("GET", "v2", "d")["port"] == "82"
