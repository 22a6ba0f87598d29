"""ValidatingAdmissionPolicy and MutatingAdmissionPolicy: what the conformance programme observes, on a whole cluster in
this process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from podling import clock
from podling.api import admissionregistration_v1 as v1
from podling.api import meta_v1
from podling.api.errors import StatusError
from podling.api.struct import clone
from podling.cluster.inprocess import Cluster

API = "admissionregistration.k8s.io/v1"
RULES = {
    "resourceRules": [
        {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["deployments"]}
    ],
    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}},
}


def virtual(test: Callable[[Cluster], Awaitable[None]]) -> Callable[[], None]:
    def run() -> None:
        async def main() -> None:
            async with Cluster() as cluster:
                await test(cluster)

        clock.run_virtual(main())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


def deployment(name: str, replicas: int) -> dict[str, Any]:
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "c", "image": "busybox"}]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def policy(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": API,
        "kind": f"{kind}AdmissionPolicy",
        "metadata": {"name": name},
        "spec": {"matchConstraints": RULES, **spec},
    }


def binding(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": API,
        "kind": f"{kind}AdmissionPolicyBinding",
        "metadata": {"name": f"{name}-binding"},
        "spec": {"policyName": name, **spec},
    }


async def denied(cluster: Cluster, manifest: dict[str, Any]) -> str:
    with pytest.raises(StatusError) as caught:
        await cluster.apply(manifest)
    return str(caught.value)


@virtual
async def test_validate_a_deployment(cluster: Cluster) -> None:
    rules = [
        {"expression": "object.spec.replicas > 1", "messageExpression": "'wants ' + string(object.spec.replicas)"},
        {"expression": "namespaceObject.metadata.name == 'default'", "message": "wrong namespace"},
    ]
    await cluster.apply(policy("Validating", "replicas", validations=rules))
    await cluster.apply(binding("Validating", "replicas", validationActions=["Deny"]))
    await cluster.until(v1.ValidatingAdmissionPolicy, "replicas", lambda p: p.status.observed_generation == 1)
    await cluster.apply(deployment("replicated", 2))
    said = await denied(cluster, deployment("lonely", 1))
    assert said.startswith(
        "deployments.apps \"lonely\" is forbidden: ValidatingAdmissionPolicy 'replicas' with binding "
    )
    assert said.endswith("denied request: wants 1")


@virtual
async def test_variables(cluster: Cluster) -> None:
    await cluster.apply(
        policy(
            "Validating",
            "variables",
            variables=[
                {"name": "replicas", "expression": "object.spec.replicas"},
                {"name": "oddReplicas", "expression": "variables.replicas % 2 == 1"},
            ],
            validations=[
                {"expression": "variables.replicas > 1"},
                {"expression": "variables.oddReplicas", "message": "must be odd"},
            ],
        )
    )
    await cluster.apply(binding("Validating", "variables", validationActions=["Deny"]))
    await cluster.apply(deployment("three", 3))
    assert "variables.replicas > 1" in await denied(cluster, deployment("one", 1))
    assert "must be odd" in await denied(cluster, deployment("two", 2))


@virtual
async def test_mutate_a_deployment(cluster: Cluster) -> None:
    expression = "Object{spec: Object.spec{replicas: object.spec.replicas + 100}}"
    mutations = [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}]
    create = {**RULES, "resourceRules": [{**RULES["resourceRules"][0], "operations": ["CREATE"]}]}  # type: ignore[dict-item]
    await cluster.apply(
        policy("Mutating", "more", matchConstraints=create, mutations=mutations, reinvocationPolicy="Never")
    )
    await cluster.apply(binding("Mutating", "more"))
    (made,) = await cluster.apply(deployment("d", 2))
    assert made.spec.replicas == 102


@virtual
async def test_mutate_annotations(cluster: Cluster) -> None:
    expression = """
        [
          JSONPatch{op: "test", path: "/spec/replicas", value: 1},
          JSONPatch{op: "add", path: "/metadata/annotations", value: {"seen": "yes"}},
          JSONPatch{op: "add", path: "/metadata/annotations/" + jsonpatch.escapeKey("a/b"), value: "c"}
        ]"""
    mutations = [{"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}]
    await cluster.apply(policy("Mutating", "annotate", mutations=mutations, reinvocationPolicy="Never"))
    await cluster.apply(binding("Mutating", "annotate"))
    (one,) = await cluster.apply(deployment("one", 1))
    assert one.metadata.annotations == {"seen": "yes", "a/b": "c"}
    (two,) = await cluster.apply(deployment("two", 2))
    assert not two.metadata.annotations


KINDS: list[tuple[type[Any], dict[str, Any]]] = [
    (v1.ValidatingAdmissionPolicy, policy("Validating", "x", validations=[{"expression": "true"}])),
    (v1.ValidatingAdmissionPolicyBinding, binding("Validating", "x", validationActions=["Deny"])),
    (
        v1.MutatingAdmissionPolicy,
        policy(
            "Mutating",
            "x",
            reinvocationPolicy="Never",
            mutations=[{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{}"}}],
        ),
    ),
    (v1.MutatingAdmissionPolicyBinding, binding("Mutating", "x")),
]


@pytest.mark.parametrize(("kind", "manifest"), KINDS, ids=[k.__name__ for k, _ in KINDS])
def test_the_api_of_each_kind(kind: type[Any], manifest: dict[str, Any]) -> None:
    async def main() -> None:
        async with Cluster() as cluster:
            await _crud(cluster, kind, manifest)

    clock.run_virtual(main())


async def _crud(cluster: Cluster, kind: type[Any], manifest: dict[str, Any]) -> None:
    client, labels = cluster.client, {"e2e": "x"}
    name = manifest["metadata"]["name"]
    await cluster.apply({**manifest, "metadata": {"name": name, "labels": labels}})
    await cluster.apply({**manifest, "metadata": {"name": f"{name}-2", "labels": labels}})
    listed = await client.list(kind, label_selector="e2e=x")
    assert sorted(i.metadata.name for i in listed.items) == [name, f"{name}-2"]
    patched = await client.patch(kind, name, None, {"metadata": {"annotations": {"patched": "true"}}})
    assert patched.metadata.annotations == {"patched": "true"}
    changed = clone(await client.get(kind, name))
    changed.metadata.annotations["updated"] = "true"
    assert (await client.update(changed)).metadata.annotations["updated"] == "true"
    if kind is v1.ValidatingAdmissionPolicy:
        await _status(cluster, name)
    await client.delete(kind, name)
    await client.delete_collection(kind, label_selector="e2e=x")
    assert not (await client.list(kind, label_selector="e2e=x")).items


async def _status(cluster: Cluster, name: str) -> None:
    now = "2026-01-01T00:00:00Z"
    condition = meta_v1.Condition(type="X", status="True", reason="E2E", message="x", last_transition_time=now)
    found = await cluster.until(
        v1.ValidatingAdmissionPolicy, name, lambda p: p.status.observed_generation == p.metadata.generation
    )
    found = clone(found)
    found.status.conditions = [condition]
    updated = await cluster.client.update_status(found)
    assert updated.status.conditions and updated.status.conditions[0].reason == "E2E"


@virtual
async def test_mutate_metadata(cluster: Cluster) -> None:
    """Annotations that are not there yet, written as a map."""
    expression = 'Object{ metadata: Object.metadata{ annotations: { "mutated-by": "admission-policy" } } }'
    mutations = [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}]
    await cluster.apply(policy("Mutating", "annotate", mutations=mutations, reinvocationPolicy="Never"))
    await cluster.apply(binding("Mutating", "annotate"))
    (made,) = await cluster.apply(deployment("d", 2))
    assert made.metadata.annotations == {"mutated-by": "admission-policy"}
