"""Admission webhooks that run in pods of both nodes, behind a Service, as the conformance programme's do."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from tests.e2e.conformance.client import Namespace, Object, Refused, eventually
from tests.e2e.conformance.pods import agnhost, pod, shell
from tests.e2e.conformance.served import SERVICE, Hooks, denied, rule

BAD = {"webhook-e2e-test": "webhook-disallow"}
KEPT = {"webhook-e2e-test": "webhook-nondeletable"}


def config_map(name: str, **data: str) -> Object:
    return {"metadata": {"name": name}, "data": data}


@pytest.fixture(scope="module")
def servers(shared: Namespace, tmp_path_factory: pytest.TempPathFactory) -> Hooks:
    return Hooks.start(shared, tmp_path_factory.mktemp("webhook"))


@pytest.fixture
def hooks(servers: Hooks) -> Iterator[Hooks]:
    yield servers
    servers.forget()


def test_writes_are_denied_whatever_their_form(hooks: Hooks, space: Namespace) -> None:
    own = hooks.space
    hooks.configure("Validating", hooks.webhook("/configmaps", rule("CREATE", "UPDATE", "DELETE")))
    said = denied(lambda: own.create("configmaps", config_map("bad", **BAD)))
    assert said == ('admission webhook "n0.configmaps.k8s.io" denied the request: the configmap contains unwanted data')
    own.create("configmaps", config_map("kept", **KEPT))
    assert "unwanted data" in denied(lambda: own.patch("configmaps", "kept", {"data": BAD}))
    assert "unwanted data" in denied(lambda: own.update("configmaps", "kept", lambda o: o.update(data=BAD)))
    assert "cannot be deleted" in denied(lambda: own.delete("configmaps", "kept"))
    assert "cannot be deleted" in denied(lambda: own.api.request("DELETE", own.path("configmaps")))
    own.patch("configmaps", "kept", {"data": {"webhook-e2e-test": "webhook-allow"}})
    own.delete("configmaps", "kept")
    # Not in a namespace that the selector leaves out.
    space.create("configmaps", config_map("bad", **BAD))


def test_a_review_says_all_about_the_request(hooks: Hooks) -> None:
    """`matchPolicy: Equivalent` brings an event of the other group's form, as the rule has it."""
    own = hooks.space
    events = rule("CREATE", "UPDATE", "DELETE", resources="events", group="events.k8s.io")
    hooks.configure("Validating", hooks.webhook("/always-allow-delay-0s", events, timeoutSeconds=3))
    involved = {"kind": "Pod", "name": "p", "namespace": own.name}
    event = {
        "metadata": {"name": "e"}, "involvedObject": involved, "type": "Normal", "reason": "Tested", "message": "first"
    }  # fmt: skip
    own.create("events", event)
    own.patch("events", "e", {"message": "second"})
    own.api.request("DELETE", own.path("events", "e"), {"gracePeriodSeconds": 0, "dryRun": ["All"]})
    made, changed, deleted = [r for r in hooks.reviews() if r["request"]["name"] == "e"]
    assert {r["apiVersion"] for r in (made, changed, deleted)} == {"admission.k8s.io/v1"}
    assert {r["timeout"] for r in (made, changed, deleted)} == {"3s"}
    request = made["request"]
    assert request["kind"] == {"group": "events.k8s.io", "version": "v1", "kind": "Event"}
    assert request["requestKind"] == {"group": "", "version": "v1", "kind": "Event"}
    assert request["resource"] == {"group": "events.k8s.io", "version": "v1", "resource": "events"}
    assert request["requestResource"] == {"group": "", "version": "v1", "resource": "events"}
    assert (request["operation"], request["namespace"], request["dryRun"]) == ("CREATE", own.name, False)
    assert request["userInfo"]["username"] == "kubernetes-admin"
    assert "system:authenticated" in request["userInfo"]["groups"]
    assert request["object"]["note"] == "first" and request["oldObject"] is None
    assert request["options"]["kind"] == "CreateOptions"
    assert (changed["request"]["oldObject"]["note"], changed["request"]["object"]["note"]) == ("first", "second")
    # A patch is an update by the time it is reviewed.
    assert changed["request"]["options"]["kind"] == "UpdateOptions"
    request = deleted["request"]
    assert request["oldObject"]["note"] == "second" and request["object"] is None and request["dryRun"] is True
    assert request["options"] == {
        "kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1", "gracePeriodSeconds": 0, "dryRun": ["All"],
    }  # fmt: skip
    assert len({r["request"]["uid"] for r in (made, changed, deleted)}) == 3


def test_what_takes_too_long_fails_or_is_ignored(hooks: Hooks) -> None:
    own = hooks.space
    hooks.configure("Validating", hooks.webhook("/always-allow-delay-3s", rule("CREATE"), timeoutSeconds=1))
    began = time.monotonic()
    said = denied(lambda: own.create("configmaps", config_map("slow")))
    assert said == (
        'Internal error occurred: failed calling webhook "n0.always-allow-delay-3s.k8s.io": failed to call webhook: '
        f'Post "https://{SERVICE}.{own.name}.svc:443/always-allow-delay-3s?timeout=1s": context deadline exceeded'
    )
    assert 1 <= time.monotonic() - began < 3
    hooks.forget()
    ignored = {"timeoutSeconds": 1, "failurePolicy": "Ignore"}
    hooks.configure("Validating", hooks.webhook("/always-allow-delay-3s", rule("CREATE"), **ignored))
    own.create("configmaps", config_map("ignored"))
    hooks.forget()
    hooks.configure("Validating", hooks.webhook("/always-allow-delay-3s", rule("CREATE")))
    began = time.monotonic()
    own.create("configmaps", config_map("in-time"))
    assert time.monotonic() - began >= 3


def test_a_pod_that_hangs_its_webhook_is_not_made(hooks: Hooks) -> None:
    hooks.configure("Validating", hooks.webhook("/pods", rule("CREATE", resources="pods"), timeoutSeconds=1))
    own = hooks.space
    labels = {"webhook-e2e-test": "webhook-disallow"}
    said = denied(lambda: own.start(pod("disallowed", shell("true"), labels=labels)))
    assert said.endswith("denied the request: the pod contains unwanted label")
    labels = {"webhook-e2e-test": "wait-forever"}
    said = denied(lambda: own.start(pod("hanging", shell("true"), labels=labels)))
    assert said.endswith("context deadline exceeded")
    assert own.gone("pods", "hanging")


def test_attaching_to_a_pod_and_running_commands_in_it_are_denied(hooks: Hooks) -> None:
    own = hooks.space
    own.run(pod("to-be-attached-pod", shell("sleep 600", stdin=True)), pod("other", shell("sleep 600")))
    rules = [rule("CONNECT", resources=f"pods/{sub}") for sub in ("attach", "exec")]
    hooks.configure("Validating", hooks.webhook("/pods/attach", *rules))
    code, said = own.kubectl.outcome("attach", "to-be-attached-pod", "-i", "-c", "c")
    assert code == 1 and "attaching to pod 'to-be-attached-pod' is not allowed" in said
    code, said = own.kubectl.outcome("exec", "to-be-attached-pod", "--", "true")
    assert code == 1 and "running commands in pod 'to-be-attached-pod' is not allowed" in said
    assert own.exec("other", "echo", "fine") == "fine\n"
    asked = next(r["request"] for r in hooks.reviews() if r["request"].get("subResource") == "attach")
    assert asked["kind"] == {"group": "", "version": "v1", "kind": "PodAttachOptions"}
    assert asked["object"] == {
        "kind": "PodAttachOptions", "apiVersion": "v1", "container": "c", "stdin": True, "stdout": True, "stderr": True,
    }  # fmt: skip
    hooks.forget()
    assert own.exec("to-be-attached-pod", "echo", "again") == "again\n"


def test_objects_are_changed_one_webhook_after_the_other(hooks: Hooks) -> None:
    own = hooks.space
    both = [hooks.webhook("/mutating-configmaps", rule("CREATE")) for _ in range(2)]
    conditions = [{"name": "no-skip", "expression": "object.metadata.name != 'skip-me'"}]
    hooks.configure("Mutating", *[hook | {"matchConditions": conditions} for hook in both])
    assert own.create("configmaps", config_map("changed", **{"mutation-start": "yes"}))["data"] == {
        "mutation-start": "yes", "mutation-stage-1": "yes", "mutation-stage-2": "yes",
    }  # fmt: skip
    assert own.create("configmaps", config_map("skip-me", **{"mutation-start": "yes"}))["data"] == {
        "mutation-start": "yes"
    }
    bad = [{"name": "bad", "expression": "... [] bad expression"}]
    for kind in ("Mutating", "Validating"):
        said = denied(lambda kind=kind: hooks.configure(kind, both[0] | {"matchConditions": bad}))  # type: ignore[misc]
        assert "compilation failed" in said


def test_an_init_container_is_added_defaulted_and_run(hooks: Hooks) -> None:
    hooks.configure("Mutating", hooks.webhook("/mutating-pods", rule("CREATE", resources="pods")))
    own = hooks.space
    made = own.create("pods", pod("mutated", agnhost("pause")))
    (added,) = made["spec"]["initContainers"]
    assert (added["name"], added["terminationMessagePolicy"]) == ("webhook-added-init-container", "File")
    # It has an account's token like any other: the admission of accounts is asked again.
    assert [m["mountPath"] for m in added["volumeMounts"]] == ["/var/run/secrets/kubernetes.io/serviceaccount"]
    own.ready("mutated")
    assert own.get("pods", "mutated")["status"]["initContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 0


def test_definitions_of_custom_resources_can_be_denied(hooks: Hooks) -> None:
    crds = rule("CREATE", resources="customresourcedefinitions", group="apiextensions.k8s.io", version="*")
    selector = {"matchLabels": BAD}
    hooks.configure("Validating", hooks.webhook("/crd", crds, namespaceSelector=None, objectSelector=selector))
    names = {"plural": "unwanteds", "singular": "unwanted", "kind": "Unwanted", "listKind": "UnwantedList"}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
    spec = {"group": "deny.example.com", "scope": "Namespaced", "names": names, "versions": [version]}
    body = {"metadata": {"name": "unwanteds.deny.example.com", "labels": BAD}, "spec": spec}
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    said = denied(lambda: hooks.space.api.request("POST", path, body))
    assert said.endswith("denied the request: the crd contains unwanted label")


@pytest.mark.parametrize("kind", ["Validating", "Mutating"])
def test_configurations_take_effect_as_they_change_and_are_never_asked_about(hooks: Hooks, kind: str) -> None:
    own, api = hooks.space, hooks.space.api
    everything = rule("*", resources="*", group="*", version="*")
    every = {"namespaceSelector": None, "rules": [everything | {"apiGroups": ["admissionregistration.k8s.io"]}]}
    for other, path in (("Validating", "/always-deny"), ("Mutating", "/add-label")):
        hooks.configure(other, hooks.webhook(path) | every)
    path, data = ("/configmaps", BAD) if kind == "Validating" else ("/mutating-configmaps", {"mutation-start": "yes"})

    def works() -> bool:
        """Whether a config map is denied, or changed."""
        try:
            made = own.create("configmaps", {"metadata": {"generateName": "map-"}, "data": data})
        except Refused:
            return True
        return made["data"] != data

    made = hooks.configure(kind, hooks.webhook(path, rule("UPDATE")))
    assert not works()
    api.request("PATCH", made, [{"op": "replace", "path": "/webhooks/0/rules/0/operations", "value": ["CREATE"]}],
                kind="json-patch+json")  # fmt: skip
    assert works()
    found = api.request("GET", made)
    assert "labels" not in found["metadata"] or "added-label" not in found["metadata"]["labels"]
    found["webhooks"][0]["rules"][0]["operations"] = ["UPDATE"]
    api.request("PUT", made, found)
    assert not works()
    api.request("DELETE", made)
    several = [hooks.configure(kind, hooks.webhook(path, rule("CREATE"))) for _ in range(3)]
    collection = several[0].rpartition("/")[0]
    listed = api.request("GET", collection, labelSelector="e2e=in-pods")["items"]
    assert {f"{collection}/{i['metadata']['name']}" for i in listed} >= set(several)
    assert works()
    api.request("DELETE", collection, labelSelector="e2e=in-pods")
    assert not works()


def test_without_an_authority_nothing_passes(hooks: Hooks) -> None:
    hook = hooks.webhook("/always-allow-delay-0s", rule("CREATE"))
    del hook["clientConfig"]["caBundle"]
    hooks.configure("Validating", hook)
    said = denied(lambda: hooks.space.create("configmaps", config_map("closed")))
    assert said.startswith("Internal error occurred: failed calling webhook")
    assert said.endswith("tls: failed to verify certificate: x509: certificate signed by unknown authority")


def test_a_server_that_dies_is_missed_until_it_is_back(hooks: Hooks) -> None:
    """Last: one of the two pods ends, then the other; between them they answer without a gap."""
    own = hooks.space
    hooks.configure("Validating", hooks.webhook("/configmaps", rule("CREATE"), timeoutSeconds=5))

    def asked() -> str:
        try:
            own.create("configmaps", {"metadata": {"generateName": "map-"}, "data": BAD})
        except Refused as error:
            return json.loads(error.text)["message"]
        return "created"

    assert "the configmap contains unwanted data" in asked()
    gone = hooks.reviews()[-1]["pod"]
    (left,) = (name for name in hooks.pods if name != gone)
    own.delete("pods", gone, gracePeriodSeconds=0)
    for _ in range(20):
        assert "the configmap contains unwanted data" in asked()
    hooks.pods = [left]
    assert len([r for r in hooks.reviews() if r["path"] == "/configmaps"]) >= 20
    # Killed and started again in place: its connections are gone.
    own.shell(left, "kill -9 -1; kill 1")
    eventually(lambda: own.get("pods", left)["status"]["containerStatuses"][0]["restartCount"] == 1)
    eventually(lambda: "the configmap contains unwanted data" in asked())
    own.delete("pods", left, gracePeriodSeconds=0)
    eventually(lambda: asked().endswith(f'no endpoints available for service "{SERVICE}"'))
    assert asked().startswith('Internal error occurred: failed calling webhook "n0.configmaps.k8s.io": failed to call')
    ignore = [{"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Ignore"}]
    own.api.request("PATCH", hooks.configured[0], ignore, kind="json-patch+json")
    assert asked() == "created"
