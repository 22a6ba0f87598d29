"""Server-side apply, and who owns what after writes of all kinds."""

import asyncio
import json
from typing import Any

import pytest

from apiserver.harness import Server, config_map, virtual
from podling.api import apps_v1, core_v1, meta_v1
from podling.api.struct import clone, to_dict
from podling.apiserver.admission.base import Attributes, Plugin
from podling.client.base import PatchType

DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
MAPS = "/api/v1/namespaces/default/configmaps"
APPLY = {"content-type": "application/apply-patch+yaml"}
MERGE = {"content-type": "application/merge-patch+json"}

#: (manager, operation, apiVersion, subresource) -> fields.
Owners = dict[tuple[str, str, str, str], dict[str, Any]]


def deployment(**spec: Any) -> dict[str, Any]:
    template = {
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}]}]},
    }
    spec = {"selector": {"matchLabels": {"app": "web"}}, "template": template, **spec}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec}


def configuration(**data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data}


def owners(obj: Any) -> Owners:
    return {
        (e.manager or "", e.operation or "", e.api_version or "", e.subresource or ""): json.loads(bytes(e.fields_v1))
        for e in obj.metadata.managed_fields or ()
    }


async def apply(server: Server, path: str, intent: Any, manager: str = "me", **query: str) -> Any:
    return await server.ask("PATCH", path, intent, headers=APPLY, query={"fieldManager": manager, **query})


async def refused(server: Server, path: str, intent: Any, manager: str = "me", **query: str) -> meta_v1.Status:
    query = {"fieldManager": manager, **query} if manager else query
    return (await server.fails("PATCH", path, intent, headers=APPLY, query=query)).status


# -- plain writes


@virtual
async def test_a_creator_owns_what_it_sent_and_what_was_defaulted(server: Server) -> None:
    created = await server.ask("POST", DEPLOYMENTS, deployment(replicas=3), query={"fieldManager": "ci"})
    container: dict[str, Any] = {
        ".": {}, "f:image": {}, "f:imagePullPolicy": {}, "f:name": {}, "f:resources": {},
        "f:ports": {".": {}, 'k:{"containerPort":80,"protocol":"TCP"}': {
            ".": {}, "f:containerPort": {}, "f:protocol": {}}},
        "f:terminationMessagePath": {}, "f:terminationMessagePolicy": {},
    }  # fmt: skip
    assert owners(created.obj) == {
        ("ci", "Update", "apps/v1", ""): {
            "f:spec": {
                "f:progressDeadlineSeconds": {}, "f:replicas": {}, "f:revisionHistoryLimit": {}, "f:selector": {},
                "f:strategy": {"f:rollingUpdate": {".": {}, "f:maxSurge": {}, "f:maxUnavailable": {}}, "f:type": {}},
                "f:template": {
                    "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
                    "f:spec": {
                        "f:containers": {'k:{"name":"c"}': container}, "f:dnsPolicy": {}, "f:restartPolicy": {},
                        "f:schedulerName": {}, "f:securityContext": {}, "f:terminationGracePeriodSeconds": {},
                    },
                },
            }
        }
    }  # fmt: skip
    (entry,) = created.obj.metadata.managed_fields
    assert (entry.fields_type, entry.time) == ("FieldsV1", created.obj.metadata.creation_timestamp)


@pytest.mark.parametrize(
    ("query", "agent", "manager"),
    [
        ({"fieldManager": "x"}, "kubectl/v1.37.0 (linux/amd64)", "x"),
        ({}, "kubectl/v1.37.0 (linux/amd64)", "kubectl"),
        ({}, "a\tb\u00e9", "ab\u00e9"),
        ({}, "m" * 200, "m" * 128),
        ({}, "\u00e9" * 100, "\u00e9" * 64),
        ({}, "", "unknown"),
    ],
)
@virtual
async def test_the_manager_is_named_by_the_request_or_by_its_agent(
    server: Server, query: dict[str, str], agent: str, manager: str
) -> None:
    made = await server.ask("POST", MAPS, configuration(k="v"), query=query, headers={"user-agent": agent})
    assert [m for m, *_ in owners(made.obj)] == [manager]


@pytest.mark.parametrize(
    ("manager", "text"),
    [
        ("m" * 129, "fieldManager: Too long: may not be more than 128 bytes"),
        ("a\n", 'fieldManager: Invalid value: "a\\n": invalid character U+000A (at position 1)'),
    ],
)
@virtual
async def test_managers_have_short_printable_names(server: Server, manager: str, text: str) -> None:
    for method, path, kind in (("POST", MAPS, "CreateOptions"), ("PATCH", f"{MAPS}/a", "PatchOptions")):
        headers = {} if method == "POST" else APPLY
        error = await server.fails(method, path, configuration(k="v"), query={"fieldManager": manager}, headers=headers)
        assert error.code == 422
        assert error.status.message == f'{kind}.meta.k8s.io "" is invalid: {text}'


@virtual
async def test_a_write_takes_what_it_changes_and_nothing_else(server: Server) -> None:
    await server.ask("POST", MAPS, configuration(a="1", b="1", c="1"), query={"fieldManager": "one"})
    await asyncio.sleep(5)
    patched = await server.ask(
        "PATCH", f"{MAPS}/a", {"data": {"a": "2", "b": None}}, headers=MERGE, query={"fieldManager": "two"}
    )
    assert owners(patched.obj) == {
        ("one", "Update", "v1", ""): {"f:data": {".": {}, "f:c": {}}},
        ("two", "Update", "v1", ""): {"f:data": {"f:a": {}}},
    }
    first, second = patched.obj.metadata.managed_fields
    assert first.time < second.time


@virtual
async def test_writing_the_same_again_changes_nothing(server: Server) -> None:
    made = await server.ask("POST", MAPS, configuration(a="1"), query={"fieldManager": "one"})
    await asyncio.sleep(5)
    for query in ({"fieldManager": "one"}, {"fieldManager": "two"}):
        again = await server.ask("PUT", f"{MAPS}/a", configuration(a="1"), query=query)
        assert again.obj.metadata == made.obj.metadata
    # Sent back as it was read, whatever the spaces in it.
    again = await server.ask("PUT", f"{MAPS}/a", to_dict(made.obj))
    assert again.obj.metadata == made.obj.metadata


@virtual
async def test_writes_in_process_are_tracked(server: Server) -> None:
    client = server.client.with_agent("replicaset-controller/1")
    made = await client.create(config_map("a"))
    changed = clone(made)
    changed.metadata.labels = {"x": "y"}
    kubelet = server.client.with_agent("kubelet/1")
    updated = await kubelet.update(changed)
    patched = await kubelet.patch(core_v1.ConfigMap, "a", "default", {"data": {"k": "w"}}, type=PatchType.MERGE)
    labels: dict[str, Any] = {"f:metadata": {"f:labels": {".": {}, "f:x": {}}}}
    assert owners(updated) == {
        ("replicaset-controller", "Update", "v1", ""): {"f:data": {".": {}, "f:k": {}}},
        ("kubelet", "Update", "v1", ""): labels,
    }
    assert owners(patched)["kubelet", "Update", "v1", ""] == {"f:data": {"f:k": {}}, **labels}


@virtual
async def test_each_endpoint_counts_only_what_it_writes(server: Server) -> None:
    await server.ask("POST", DEPLOYMENTS, deployment(replicas=1), query={"fieldManager": "ci"})
    live = to_dict((await server.ask("GET", f"{DEPLOYMENTS}/web")).obj)
    live["spec"]["replicas"], live["status"] = 2, {"replicas": 2}
    ruled = await server.ask("PUT", f"{DEPLOYMENTS}/web/status", live, query={"fieldManager": "controller"})
    assert owners(ruled.obj)["controller", "Update", "apps/v1", "status"] == {"f:status": {"f:replicas": {}}}
    del live["metadata"]["resourceVersion"], live["metadata"]["managedFields"]
    live["status"]["replicas"] = 9
    updated = await server.ask("PUT", f"{DEPLOYMENTS}/web", live, query={"fieldManager": "editor"})
    assert owners(updated.obj)["editor", "Update", "apps/v1", ""] == {"f:spec": {"f:replicas": {}}}
    assert owners(updated.obj)["controller", "Update", "apps/v1", "status"] == {"f:status": {"f:replicas": {}}}


@pytest.mark.parametrize("entries", [[], [{}]])
@virtual
async def test_ownership_can_be_given_up(server: Server, entries: list[Any]) -> None:
    await server.ask("POST", MAPS, configuration(a="1"))
    reset = await server.ask("PATCH", f"{MAPS}/a", {"metadata": {"managedFields": entries}}, headers=MERGE)
    assert reset.obj.metadata.managed_fields is None
    # From then on only an apply brings it back.
    updated = await server.ask("PUT", f"{MAPS}/a", configuration(a="2"))
    assert updated.obj.metadata.managed_fields is None
    applied = await apply(server, f"{MAPS}/a", configuration(b="1"))
    assert owners(applied.obj) == {
        ("me", "Apply", "v1", ""): {"f:data": {"f:b": {}}},
        ("before-first-apply", "Update", "v1", ""): {"f:data": {".": {}, "f:a": {}}},
    }


@virtual
async def test_ownership_can_be_written_but_not_wrongly(server: Server) -> None:
    made = await server.ask("POST", MAPS, configuration(a="1"), query={"fieldManager": "one"})
    entry = to_dict(made.obj)["metadata"]["managedFields"][0]
    other = {**entry, "manager": "other"}
    patch = [{"op": "replace", "path": "/metadata/managedFields", "value": [other]}]
    headers = {"content-type": "application/json-patch+json"}
    changed = await server.ask("PATCH", f"{MAPS}/a", patch, headers=headers)
    assert list(owners(changed.obj)) == [("other", "Update", "v1", "")]
    bad = [{"op": "replace", "path": "/metadata/managedFields", "value": [{**entry, "manager": "x" * 129}]}]
    error = await server.fails("PATCH", f"{MAPS}/a", bad, headers=headers)
    assert "metadata.managedFields[0].manager: Too long" in str(error)
    # What can't be read is as good as not sent.
    unread = [{"op": "replace", "path": "/metadata/managedFields", "value": [{**entry, "operation": "Other"}]}]
    kept = await server.ask("PATCH", f"{MAPS}/a", unread, headers=headers)
    assert list(owners(kept.obj)) == [("other", "Update", "v1", "")]


@virtual
async def test_many_updaters_become_ancient_changes(server: Server) -> None:
    await server.ask("POST", MAPS, configuration(k="v"), query={"fieldManager": "m00"})
    for n in range(1, 14):
        await asyncio.sleep(1)
        patch = {"data": {f"k{n}": "v"}}
        last = await server.ask("PATCH", f"{MAPS}/a", patch, headers=MERGE, query={"fieldManager": f"m{n:02}"})
    found = owners(last.obj)
    assert [m for m, *_ in found] == ["ancient-changes", *(f"m{n:02}" for n in range(5, 14))]
    assert set(found["ancient-changes", "Update", "v1", ""]["f:data"]) == {".", "f:k", "f:k1", "f:k2", "f:k3", "f:k4"}


class Meddler(Plugin):
    """Admission that breaks managedFields of some objects, and writes into all."""

    name, mutates = "Meddler", True

    async def mutate(self, attributes: Attributes) -> None:
        meta = attributes.obj.metadata
        meta.labels = {"meddled": "yes"}
        if meta.name == "a":
            meta.managed_fields = [meta_v1.ManagedFieldsEntry(manager="x", operation="Update", api_version="v1")]


@virtual
async def test_admission_owns_nothing_and_can_not_break_ownership(server: Server) -> None:
    server.app.admission.add(Meddler(server.app))
    made = await apply(server, f"{MAPS}/a", configuration(a="1"))
    assert made.obj.metadata.labels == {"meddled": "yes"}
    assert owners(made.obj) == {("me", "Apply", "v1", ""): {"f:data": {"f:a": {}}}}
    assert made.warnings == [
        ".metadata.managedFields was in an invalid state after admission; this could be caused by an outdated mutating "
        "admission controller; please fix your requests: missing fieldsType in managed fields entry 0"
    ]


# -- apply


@virtual
async def test_apply_creates_and_updates(server: Server) -> None:
    created = await apply(server, f"{MAPS}/a", configuration(a="1", b="1"))
    assert (created.status, created.obj.data) == (201, {"a": "1", "b": "1"})
    await asyncio.sleep(5)
    again = await apply(server, f"{MAPS}/a", configuration(a="1", b="1"))
    assert (again.status, again.obj.metadata) == (200, created.obj.metadata)
    fewer = await apply(server, f"{MAPS}/a", configuration(a="1"))
    assert fewer.obj.data == {"a": "1"}
    assert owners(fewer.obj) == {("me", "Apply", "v1", ""): {"f:data": {"f:a": {}}}}
    assert fewer.obj.metadata.managed_fields[0].time > created.obj.metadata.managed_fields[0].time


@virtual
async def test_yaml_is_read_too(server: Server) -> None:
    text = b"# comment\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  k: 'v'\n"
    assert (await apply(server, f"{MAPS}/a", text)).obj.data == {"k": "v"}


@virtual
async def test_nothing_is_stored_in_a_dry_run(server: Server) -> None:
    assert (await apply(server, f"{MAPS}/a", configuration(a="1"), dryRun="All")).status == 201
    assert (await server.fails("GET", f"{MAPS}/a")).code == 404
    await apply(server, f"{MAPS}/a", configuration(a="1"))
    assert (await apply(server, f"{MAPS}/a", configuration(a="2"), dryRun="All")).obj.data == {"a": "2"}
    assert (await server.ask("GET", f"{MAPS}/a")).obj.data == {"a": "1"}


@virtual
async def test_a_conflict_names_manager_and_field(server: Server) -> None:
    await server.ask("POST", DEPLOYMENTS, deployment(replicas=3), query={"fieldManager": "kubectl-client-side-apply"})
    status = await refused(server, f"{DEPLOYMENTS}/web", deployment(replicas=5))
    text = 'conflict with "kubectl-client-side-apply" using apps/v1'
    assert (status.code, status.reason) == (409, "Conflict")
    assert status.message == f"Apply failed with 1 conflict: {text}: .spec.replicas"
    assert status.details is not None
    assert [to_dict(c) for c in status.details.causes or ()] == [
        {"field": ".spec.replicas", "message": text, "reason": "FieldManagerConflict"}
    ]
    forced = await apply(server, f"{DEPLOYMENTS}/web", deployment(replicas=5), force="true")
    assert forced.obj.spec.replicas == 5
    held = owners(forced.obj)["kubectl-client-side-apply", "Update", "apps/v1", ""]
    assert "f:replicas" not in held["f:spec"]
    assert "f:revisionHistoryLimit" in held["f:spec"]


@virtual
async def test_conflicts_are_listed_by_manager(server: Server) -> None:
    await apply(server, f"{MAPS}/a", configuration(a="1", b="1"), "zoe")
    await server.ask("PATCH", f"{MAPS}/a", {"data": {"c": "1"}}, headers=MERGE, query={"fieldManager": "bob"})
    status = await refused(server, f"{MAPS}/a", configuration(a="2", b="2", c="2"))
    assert status.message == (
        'Apply failed with 3 conflicts: conflicts with "bob" using v1:\n- .data.c\nconflicts with "zoe":\n'
        "- .data.a\n- .data.b"
    )


@virtual
async def test_the_same_value_is_shared(server: Server) -> None:
    await apply(server, f"{MAPS}/a", configuration(a="1"), "one")
    shared = await apply(server, f"{MAPS}/a", configuration(a="1"), "two")
    # An apply that changes nothing has no time.
    assert [e.time is None for e in shared.obj.metadata.managed_fields] == [True, False]
    left = await apply(server, f"{MAPS}/a", {**configuration(), "data": None}, "one")
    assert left.obj.data == {"a": "1"}


@pytest.mark.parametrize(
    ("intent", "query", "code", "message"),
    [
        (
            {"metadata": {"name": "a", "managedFields": [{}]}}, {}, 400, "metadata.managedFields must be nil",
        ),
        ({"kind": "Pod"}, {}, 400, "invalid object type: /v1, Kind=Pod"),
        ({"apiVersion": "apps/v1"}, {}, 400, "invalid object type: apps/v1, Kind=ConfigMap"),
        (
            {"foo": 1}, {}, 500,
            "failed to create typed patch object (/a; /v1, Kind=ConfigMap): .foo: field not declared in schema",
        ),
        (
            {"data": {"k": 1}}, {}, 500,
            "failed to create typed patch object (/a; /v1, Kind=ConfigMap): .data.k: expected string, got "
            "&value.valueUnstructured{Value:1}",
        ),
        (
            {"immutable": "x", "data": []}, {}, 500,
            "failed to create typed patch object (/a; /v1, Kind=ConfigMap): errors:\n"
            "  .data: expected map, got &{[]}\n  .immutable: expected boolean, got &{x}",
        ),
        (
            {"metadata": {"name": "b"}}, {}, 400,
            "the name of the object (b) does not match the name on the URL (a)",
        ),
        (
            {"metadata": {"name": "a", "uid": "x"}}, {}, 409,
            'Operation cannot be fulfilled on configmaps "a": uid mismatch: the provided object specified uid x, and '
            "no existing object was found",
        ),
    ],
)  # fmt: skip
@virtual
async def test_what_can_not_be_applied(
    server: Server, intent: dict[str, Any], query: dict[str, str], code: int, message: str
) -> None:
    status = await refused(server, f"{MAPS}/a", {**configuration(), **intent}, **query)
    assert (status.code, status.message) == (code, message)


@virtual
async def test_an_applier_must_say_its_name_and_others_may_not_force(server: Server) -> None:
    status = await refused(server, f"{MAPS}/a", configuration(a="1"), "")
    assert (status.code, status.message) == (
        422, 'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch',
    )  # fmt: skip
    await apply(server, f"{MAPS}/a", configuration(a="1"))
    error = await server.fails("PATCH", f"{MAPS}/a", {}, headers=MERGE, query={"force": "true"})
    assert "force: Forbidden: may not be specified for non-apply patch" in str(error)


@virtual
async def test_keys_that_come_twice_are_reported(server: Server) -> None:
    text = b"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  k: a\n  k: b\n"
    why = 'error converting YAML to JSON: yaml: unmarshal errors:\n  line 7: key "k" already set in map'
    status = await refused(server, f"{MAPS}/a", text, fieldValidation="Strict")
    assert (status.code, status.message) == (400, f"error strict decoding patch: {why}")
    warned = await apply(server, f"{MAPS}/a", text)
    assert (warned.obj.data, warned.warnings) == ({"k": "b"}, [why])
    assert (await apply(server, f"{MAPS}/a", text, fieldValidation="Ignore")).warnings == []


@virtual
async def test_a_version_or_uid_in_the_intent_is_a_condition(server: Server) -> None:
    made = await apply(server, f"{MAPS}/a", configuration(a="1"))
    old = made.obj.metadata
    await apply(server, f"{MAPS}/a", configuration(a="2"))
    intent = configuration(a="3")
    intent["metadata"]["resourceVersion"] = old.resource_version
    assert (await refused(server, f"{MAPS}/a", intent)).code == 409
    intent["metadata"] = {"name": "a", "uid": "other"}
    assert (await refused(server, f"{MAPS}/a", intent)).code == 409
    intent["metadata"]["uid"] = old.uid
    assert (await apply(server, f"{MAPS}/a", intent)).status == 200


# -- subresources


@virtual
async def test_status_is_applied_apart(server: Server) -> None:
    status: dict[str, Any] = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}}
    status["status"] = {"conditions": [{"type": "X", "status": "True"}]}
    assert (await refused(server, f"{DEPLOYMENTS}/web/status", status)).code == 404
    await apply(server, f"{DEPLOYMENTS}/web", deployment(replicas=1))
    status["spec"] = {"replicas": 7}
    applied = await apply(server, f"{DEPLOYMENTS}/web/status", status, "operator")
    assert applied.obj.spec.replicas == 1
    assert owners(applied.obj)["operator", "Apply", "apps/v1", "status"] == {
        "f:status": {"f:conditions": {'k:{"type":"X"}': {".": {}, "f:status": {}, "f:type": {}}}}
    }


@virtual
async def test_the_number_of_replicas_is_owned_through_scale(server: Server) -> None:
    await apply(server, f"{DEPLOYMENTS}/web", deployment(replicas=1))
    scale = {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "web"}, "spec": {"replicas": 4}}
    await server.ask("PUT", f"{DEPLOYMENTS}/web/scale", scale, query={"fieldManager": "kubectl"})
    obj = (await server.ask("GET", f"{DEPLOYMENTS}/web")).obj
    assert owners(obj)["kubectl", "Update", "apps/v1", "scale"] == {"f:spec": {"f:replicas": {}}}
    assert "f:replicas" not in owners(obj)["me", "Apply", "apps/v1", ""]["f:spec"]
    status = await refused(server, f"{DEPLOYMENTS}/web", deployment(replicas=1))
    assert status.message == (
        'Apply failed with 1 conflict: conflict with "kubectl" with subresource "scale" using apps/v1: .spec.replicas'
    )
    scale["spec"] = {"replicas": 5}
    assert (await refused(server, f"{DEPLOYMENTS}/web/scale", scale, "hpa")).code == 409
    applied = await apply(server, f"{DEPLOYMENTS}/web/scale", scale, "hpa", force="true")
    assert (applied.obj.kind, applied.obj.spec.replicas) == ("Scale", 5)
    obj = await server.client.get(apps_v1.Deployment, "web", "default")
    assert owners(obj)["hpa", "Apply", "apps/v1", "scale"] == {"f:spec": {"f:replicas": {}}}
    assert ("kubectl", "Update", "apps/v1", "scale") not in owners(obj)


# -- client-side apply's annotation


@virtual
async def test_kubectl_takes_over_what_it_applied_itself(server: Server) -> None:
    annotation = "kubectl.kubernetes.io/last-applied-configuration"
    applied = configuration(a="1")
    first = configuration(a="1")
    first["metadata"]["annotations"] = {annotation: json.dumps(applied)}
    await server.ask("POST", MAPS, first, query={"fieldManager": "kubectl-client-side-apply"})
    assert (await refused(server, f"{MAPS}/a", configuration(a="2"), "other")).code == 409
    taken = await apply(server, f"{MAPS}/a", configuration(a="2"), "kubectl")
    assert taken.obj.data == {"a": "2"}
    kept = json.loads(taken.obj.metadata.annotations[annotation])
    assert kept == {**configuration(a="2"), "metadata": {"name": "a"}}
    # What somebody else has changed since is a conflict still.
    await server.ask("PATCH", f"{MAPS}/a", {"data": {"a": "9"}}, headers=MERGE, query={"fieldManager": "bob"})
    assert 'conflict with "bob" using v1: .data.a' in str(
        (await refused(server, f"{MAPS}/a", configuration(a="3"), "kubectl")).message
    )
