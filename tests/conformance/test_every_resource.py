"""What holds for every built-in resource: it stands in discovery, and create, get, list, watch, update, every form of
patch, status, dry run, delete, deletecollection, Table and PartialObjectMetadata work, whatever wrote the body.

Over HTTP, as clients see it. A kind that is new in the registry needs an object in `minimal.yaml`.
"""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from podling import clock
from podling.api import registry
from podling.api.registry import Resource
from podling.api.struct import from_dict
from podling.apiserver.wire import protobuf
from podling.apiserver.wire import yaml as wire_yaml
from tests.conformance import web as wire
from tests.conformance.web import Web, over_http
from tests.unit.apiserver.resources.certificates.material import certificate, request

STORED = [r for r in registry.BUILTIN if not r.virtual]
NAMESPACE = "default"
LABEL = {"conformance": "yes"}
SELECTED = {"labelSelector": "conformance=yes"}
MINIMAL = {
    (m["apiVersion"], m["kind"]): m
    for m in yaml.safe_load_all((Path(__file__).parent / "minimal.yaml").read_text())
    if m
}

CONDITION = {
    "type": "StatusUpdate",
    "status": "True",
    "reason": "E2E",
    "message": "Set by a test",
    "lastTransitionTime": "2026-01-01T00:00:00Z",
}
#: What may be written to /status, where it is something else than a condition.
STATUS: dict[str, dict[str, Any]] = {
    "APIService": {
        "conditions": [
            # The server would set it right if it were another.
            {
                **CONDITION,
                "type": "Available",
                "reason": "Local",
                "message": "Local APIServices are always available",
            },
            CONDITION,
        ]
    },
    "CronJob": {"lastScheduleTime": "2026-01-01T00:00:00Z"},
    "CustomResourceDefinition": {"conditions": [{**CONDITION, "type": "StatusUpdate"}]},
    "FlowSchema": {
        "conditions": [
            {
                **CONDITION,
                "type": "Dangling",
                "status": "False",
                "reason": "Found",
                "message": "This FlowSchema references the PriorityLevelConfiguration object named "
                '"global-default" and it exists',
            },
            CONDITION,
        ]
    },
    "Ingress": {"loadBalancer": {"ingress": [{"ip": "169.1.1.1"}]}},
    "PersistentVolume": {"phase": "Available", "message": "Set by a test"},
    "PodDisruptionBudget": {
        "conditions": [CONDITION],
        "currentHealthy": 0,
        "desiredHealthy": 1,
        "disruptionsAllowed": 0,
        "expectedPods": 1,
    },
    "ResourceQuota": {"hard": {"pods": "7"}},
    "HorizontalPodAutoscaler": {"currentReplicas": 1, "desiredReplicas": 2},
    "PodCertificateRequest": {"conditions": [{**CONDITION, "type": "Denied", "reason": "E2E"}]},
    "ResourceClaim": {"devices": []},
    "VolumeAttachment": {"attached": True},
}

#: Kinds whose metadata does not change with their status.
STATUS_ALONE = (
    "APIService",
    "FlowSchema",
    "PodCertificateRequest",
    "PriorityLevelConfiguration",
    "ResourceClaim",
    "ValidatingAdmissionPolicy",
    "VolumeAttachment",
)


def name_of(resource: Resource, number: int) -> str:
    match resource.kind:
        case "IPAddress":
            return f"10.96.7.{number}"
        case "CustomResourceDefinition":
            return f"widgets{number}.example.com"
        case "APIService":
            return f"v{number}.example.com"
    return f"conformance-{number}"


def manifest(resource: Resource, number: int) -> dict[str, Any]:
    """A valid object, one of several."""
    found = copy.deepcopy(MINIMAL[resource.group_version, resource.kind])
    found["metadata"] = {"name": name_of(resource, number), "labels": dict(LABEL)}
    match resource.kind:
        case "CustomResourceDefinition":
            names = {"plural": f"widgets{number}", "kind": f"Widget{number}"}
            found["spec"]["names"] = {**names, "singular": f"widget{number}", "listKind": f"Widget{number}List"}
        case "APIService":
            found["spec"]["version"] = f"v{number}"
        case "CertificateSigningRequest":
            found["spec"]["request"] = request()
        case "ClusterTrustBundle":
            found["spec"]["trustBundle"] = certificate(clock.now(), ca=True)
        case "PodCertificateRequest":
            from tests.unit.apiserver.resources.certificates.test_podcertificaterequest import WEB

            found["spec"] = dict(WEB["spec"])
        case "ServiceCIDR":
            found["spec"]["cidrs"] = [f"10.20{number}.0.0/24"]
    return found


def row_id(resource: Resource) -> str:
    return f"{resource.name}.{resource.version}.{resource.group}".rstrip(".")


def written(kind: str, status: dict[str, Any]) -> bool:
    """Whether the server has written all that it writes into the status of a new object."""
    match kind:
        case "CustomResourceDefinition":
            return "conditions" in status
        case "ValidatingAdmissionPolicy":
            return "observedGeneration" in status
        case "FlowSchema":
            return any(c["status"] == "False" for c in status.get("conditions", ()))
    return True


each_resource = pytest.mark.parametrize("resource", STORED, ids=row_id)


class Client:
    """Requests for one resource."""

    def __init__(self, web_: Web, resource: Resource) -> None:
        self.web = web_
        self.resource = resource
        self.collection = resource.collection_path(NAMESPACE)
        self.everywhere = resource.collection_path()

    def at(self, number: int, subresource: str = "") -> str:
        return self.resource.path(name_of(self.resource, number), NAMESPACE, subresource)

    async def make(self, number: int, **more: Any) -> Any:
        """A new object, as it is when the server itself has written its part of the status."""
        made = await self.web.ask("POST", self.collection, manifest(self.resource, number), status=201, **more)
        while not more and not written(self.resource.kind, made.get("status", {})):
            made = await self.web.ask("GET", self.at(number))
        return made

    async def selected(self) -> list[Any]:
        """What the selector finds and nothing but finalizers keeps."""
        found = await self.web.ask("GET", self.collection, params=SELECTED)
        return [o for o in found["items"] if not (o["metadata"].get("deletionTimestamp") and kept(self.resource, o))]


def kept(resource: Resource, obj: dict[str, Any]) -> bool:
    """Whether something has to be done before the object may go."""
    return bool(obj["metadata"].get("finalizers") or obj.get("spec", {}).get("finalizers"))


def test_there_is_an_object_of_every_kind() -> None:
    assert {(r.group_version, r.kind) for r in STORED} == set(MINIMAL)


@each_resource
@over_http
async def test_discovery(web: Web, resource: Resource) -> None:
    if resource.group:
        groups = (await web.ask("GET", "/apis"))["groups"]
        (group,) = [g for g in groups if g["name"] == resource.group]
        assert resource.version in {v["version"] for v in group["versions"]}
        assert group["versions"] == (await web.ask("GET", f"/apis/{resource.group}"))["versions"]
    root = f"/apis/{resource.group_version}" if resource.group else f"/api/{resource.version}"
    listed = {r["name"]: r for r in (await web.ask("GET", root))["resources"]}
    verbs = {"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}
    # Upstream's namespaces can't be deleted as a collection.
    assert set(listed[resource.name]["verbs"]) == verbs - (
        {"deletecollection"} if resource.kind == "Namespace" else set()
    )
    assert listed[resource.name]["kind"] == resource.kind
    assert listed[resource.name]["namespaced"] == resource.namespaced
    if "status" in resource.subresources:
        assert set(listed[f"{resource.name}/status"]["verbs"]) == {"get", "patch", "update"}


@each_resource
@over_http
async def test_create_get_list_watch_update_patch(web: Web, resource: Resource) -> None:
    client = Client(web, resource)
    made = await client.make(1)
    assert (made["kind"], made["apiVersion"]) == (resource.kind, resource.group_version)
    assert {"uid", "resourceVersion", "creationTimestamp"} <= set(made["metadata"])
    assert (await client.web.ask("POST", client.collection, manifest(resource, 1), status=409))[
        "reason"
    ] == "AlreadyExists"
    assert await web.ask("GET", client.at(1)) == made
    await client.make(2)
    listed = await web.ask("GET", client.collection, params=SELECTED)
    assert listed["kind"] == f"{resource.kind}List" and len(listed["items"]) == 2
    # What the items are the list says.
    assert {key for item in listed["items"] for key in item if key in ("kind", "apiVersion")} == set()
    assert {**listed["items"][0], "kind": resource.kind, "apiVersion": resource.group_version} == made
    assert len((await web.ask("GET", client.everywhere, params=SELECTED))["items"]) == 2
    by_name = {"fieldSelector": f"metadata.name={name_of(resource, 1)}"}
    assert [o["metadata"]["name"] for o in (await web.ask("GET", client.everywhere, params=by_name))["items"]] == [
        name_of(resource, 1)
    ]
    since = {"resourceVersion": listed["metadata"]["resourceVersion"], **SELECTED}
    async with web.watch(client.everywhere, **since) as following:
        await patches(client)
        await updates(client)
        types = [(await following())["type"] for _ in range(5)]
        assert types == ["MODIFIED"] * 5
        await web.ask("DELETE", client.at(1))
        last = await following()
        if not kept(resource, last["object"]):
            assert last["type"] == "DELETED"
            await web.ask("GET", client.at(1), status=404)
        else:
            assert last["object"]["metadata"]["deletionTimestamp"]
    assert [o["metadata"]["name"] for o in await client.selected()] == [name_of(resource, 2)]


async def patches(client: Client) -> None:
    """Every form of patch, one change each."""
    path = client.at(1)

    def annotated(name: str) -> dict[str, Any]:
        return {"metadata": {"annotations": {name: "true"}}}

    for name, headers in (("merge", wire.MERGE), ("strategic", wire.STRATEGIC)):
        patched = await client.web.ask("PATCH", path, annotated(name), headers=headers)
        assert patched["metadata"]["annotations"][name] == "true"
    operation = {"op": "add", "path": "/metadata/annotations/json", "value": "true"}
    patched = await client.web.ask("PATCH", path, [operation], headers=wire.JSON_PATCH)
    assert patched["metadata"]["annotations"]["json"] == "true"
    resource = client.resource
    intent = {"apiVersion": resource.group_version, "kind": resource.kind, **annotated("apply")}
    intent["metadata"]["name"] = name_of(resource, 1)
    patched = await client.web.ask("PATCH", path, intent, headers=wire.APPLY, params={"fieldManager": "conformance"})
    assert set(patched["metadata"]["annotations"]) >= {"merge", "strategic", "json", "apply"}
    assert any((m["manager"], m["operation"]) == ("conformance", "Apply") for m in patched["metadata"]["managedFields"])


async def updates(client: Client) -> None:
    """A PUT of what is there now, and one of what was there before."""
    live = await client.web.ask("GET", client.at(1))
    live["metadata"]["annotations"]["updated"] = "true"
    updated = await client.web.ask("PUT", client.at(1), live)
    assert updated["metadata"]["annotations"]["updated"] == "true"
    assert updated["metadata"]["uid"] == live["metadata"]["uid"]
    refused = await client.web.ask("PUT", client.at(1), live, status=409)
    assert refused["reason"] == "Conflict"
    same = await client.web.ask("PUT", client.at(1), updated)
    assert same["metadata"]["resourceVersion"] == updated["metadata"]["resourceVersion"]


@each_resource
@over_http
async def test_a_watch_begins_with_what_is_there(web: Web, resource: Resource) -> None:
    client = Client(web, resource)
    made = await client.make(1)
    async with web.watch(client.collection, **SELECTED) as following:
        assert await following() == {"type": "ADDED", "object": made}
        await client.make(2)
        added = await following()
        assert (added["type"], added["object"]["metadata"]["name"]) == ("ADDED", name_of(resource, 2))
    streaming = {
        "sendInitialEvents": "true",
        "resourceVersionMatch": "NotOlderThan",
        "allowWatchBookmarks": "true",
        **SELECTED,
    }
    async with web.watch(client.collection, **streaming) as following:
        events = [await following() for _ in range(3)]
        assert [e["type"] for e in events] == ["ADDED", "ADDED", "BOOKMARK"]
        assert {(e["object"]["kind"], e["object"]["apiVersion"]) for e in events} == {
            (resource.kind, resource.group_version)
        }
        assert events[2]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


@pytest.mark.parametrize("resource", [r for r in STORED if "status" in r.subresources], ids=row_id)
@over_http
async def test_status(web: Web, resource: Resource) -> None:
    client = Client(web, resource)
    made = await client.make(1)
    path = client.at(1, "status")
    assert await web.ask("GET", path) == made
    wanted = STATUS.get(resource.kind, {"conditions": [CONDITION]})
    beside = {"spec": {"ignored": True}, "metadata": {"annotations": {"patched-status": "true"}}}
    patched = await web.ask("PATCH", path, {"status": wanted, **beside}, headers=wire.MERGE)
    assert includes(patched["status"], wanted)
    changes = patched["metadata"].get("annotations") == {"patched-status": "true"}
    assert changes == (resource.kind not in STATUS_ALONE)
    assert patched.get("spec") == made.get("spec")
    if resource.kind == "PodCertificateRequest":
        # What has been decided stays.
        await web.ask("PUT", path, {**patched, "status": {}}, status=422)
        return
    patched["status"] = made.get("status", {})
    updated = await web.ask("PUT", path, patched)
    assert not includes(updated.get("status", {}), wanted)
    updated["status"] = wanted
    assert includes((await web.ask("PUT", path, updated))["status"], wanted)
    assert includes((await web.ask("GET", client.at(1)))["status"], wanted)


def includes(found: Any, wanted: Any) -> bool:
    """Whether `found` has all that `wanted` has; defaults, and conditions of controllers, may be added."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(k in found and includes(found[k], v) for k, v in wanted.items())
    if isinstance(wanted, list):
        return isinstance(found, list) and all(any(includes(f, w) for f in found) for w in wanted)
    return bool(found == wanted)


@each_resource
@over_http
async def test_dry_run_changes_nothing(web: Web, resource: Resource) -> None:
    client = Client(web, resource)
    dry = {"dryRun": "All"}
    assert (await client.make(1, params=dry))["metadata"]["name"] == name_of(resource, 1)
    await web.ask("GET", client.at(1), status=404)
    made = await client.make(1)
    patch = {"metadata": {"annotations": {"a": "b"}}}
    for headers in (wire.MERGE, wire.STRATEGIC):
        shown = await web.ask("PATCH", client.at(1), patch, headers=headers, params=dry)
        assert shown["metadata"]["annotations"]["a"] == "b"
    changed = {**made, "metadata": {**made["metadata"], "annotations": {"a": "b"}}}
    assert (await web.ask("PUT", client.at(1), changed, params=dry))["metadata"]["annotations"]["a"] == "b"
    await web.ask("DELETE", client.at(1), params=dry)
    assert await web.ask("GET", client.at(1)) == made


@each_resource
@over_http
async def test_unknown_fields_are_refused_if_asked_for(web: Web, resource: Resource) -> None:
    client = Client(web, resource)
    wrong = {**manifest(resource, 1), "unknownField": "x"}
    refused = await web.ask("POST", client.collection, wrong, params={"fieldValidation": "Strict"}, status=400)
    assert refused["message"].endswith('strict decoding error: unknown field "unknownField"')
    await web.ask("POST", client.collection, wrong, params={"fieldValidation": "Ignore"})
    patch = {"metadata": {"annotations": {"a": "b"}}, "unknownField": "x"}
    refused = await web.ask(
        "PATCH", client.at(1), patch, params={"fieldValidation": "Strict"}, headers=wire.MERGE, status=422
    )
    assert 'unknown field "unknownField"' in refused["message"]


@each_resource
@over_http
async def test_a_body_may_be_json_yaml_or_protobuf(web: Web, resource: Resource) -> None:
    client = Client(web, resource)
    document = manifest(resource, 1)
    obj = from_dict(document, resource.type)
    bodies = {
        "application/yaml": wire_yaml.encode(json.dumps(document).encode()),
        "application/vnd.kubernetes.protobuf": protobuf.encode(obj),
    }
    dry = {"dryRun": "All"}
    expected = await web.ask("POST", client.collection, document, params=dry)
    for media, body in bodies.items():
        headers = {"content-type": media, "accept": "application/json"}
        found = await web.ask("POST", client.collection, body, params=dry, headers=headers)
        assert solid(without_chance(found)) == solid(without_chance(expected)), media


def solid(value: Any) -> Any:
    """Without what is empty: in protobuf what is no pointer in Go is always there, an empty list never."""
    if isinstance(value, dict):
        found = {key: solid(item) for key, item in value.items()}
        return {key: item for key, item in found.items() if item}
    return [solid(item) for item in value] if isinstance(value, list) else value


@each_resource
@over_http
async def test_protobuf_says_what_json_says(web: Web, resource: Resource) -> None:
    """An object, a list and metadata alone."""
    client = Client(web, resource)
    await web.ask("POST", client.collection, manifest(resource, 1))
    form = "application/vnd.kubernetes.protobuf"
    for _ in range(10):
        expected = await web.ask("GET", client.at(1), headers={"accept": "application/json"})
        found = protobuf.decode(await web.ask("GET", client.at(1), headers={"accept": form}))
        if found["metadata"]["resourceVersion"] == expected["metadata"]["resourceVersion"]:
            # What the server itself adds to an object does not come in between.
            break
    assert from_dict(found, resource.type).metadata == from_dict(expected, resource.type).metadata
    assert solid(found) == solid(expected)
    accept = f"{form};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
    for headers in ({"accept": form}, {"accept": accept}):
        listed = await web.ask("GET", client.collection, headers=headers)
        assert expected["metadata"]["uid"].encode() in listed and listed.startswith(b"k8s\0")


def without_chance(obj: dict[str, Any]) -> dict[str, Any]:
    """An object without what is different each time: times, identities and what is named after them, addresses."""
    text = json.dumps({**obj, "metadata": {**obj["metadata"], "managedFields": []}})
    for pattern in (obj["metadata"]["uid"], r"10\.96\.\d+\.\d+", r"kube-api-access-\w+", r"\d+-\d+-\d+T[\d:]+Z"):
        text = re.sub(pattern, "...", text)
    return dict(json.loads(text))


@each_resource
@over_http
async def test_generated_names(web: Web, resource: Resource) -> None:
    if resource.kind in ("IPAddress", "CustomResourceDefinition", "APIService"):
        pytest.skip("names of these kinds say what they hold")
    client = Client(web, resource)
    document = manifest(resource, 1)
    document["metadata"] = {"generateName": "conformance-", "labels": LABEL}
    names = set()
    for _ in range(3):
        made = await web.ask("POST", client.collection, document, status=201)
        names.add(made["metadata"]["name"])
        assert made["metadata"]["generateName"] == "conformance-"
    assert len(names) == 3 and all(n.startswith("conformance-") and len(n) == 17 for n in names)


@each_resource
@over_http
async def test_deletion_of_a_collection(web: Web, resource: Resource) -> None:
    client = Client(web, resource)
    for number in (1, 2, 3):
        await client.make(number)
    await web.ask("PATCH", client.at(3), {"metadata": {"labels": {"conformance": "no"}}}, headers=wire.MERGE)
    if resource.kind == "Namespace":
        await web.ask("DELETE", client.collection, params=SELECTED, status=405)
        return
    options = {"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0}
    await web.ask("DELETE", client.collection, options, params=SELECTED)
    assert await client.selected() == []
    assert "deletionTimestamp" not in (await web.ask("GET", client.at(3)))["metadata"]


@each_resource
@over_http
async def test_other_forms(web: Web, resource: Resource) -> None:
    """Tables, and metadata alone, of one object and of a list."""
    client = Client(web, resource)
    made = await client.make(1)
    for path in (client.at(1), client.collection):
        table = await web.ask("GET", path, headers=wire.TABLE, params=SELECTED if path == client.collection else {})
        assert (table["kind"], table["apiVersion"]) == ("Table", "meta.k8s.io/v1")
        (row,) = table["rows"]
        assert len(row["cells"]) == len(table["columnDefinitions"])
        assert row["object"]["metadata"]["name"] == name_of(resource, 1)
    one = await web.ask("GET", client.at(1), headers=wire.METADATA)
    meta = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": made["metadata"]}
    assert one == meta
    many = await web.ask("GET", client.collection, headers=wire.METADATA_LIST, params=SELECTED)
    assert (many["kind"], many["items"]) == ("PartialObjectMetadataList", [meta])
