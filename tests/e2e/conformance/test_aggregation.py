"""An extension API server in a pod, with its store beside it, behind a Service: what sample-apiserver is to the
conformance programme. It asks the main server whom to believe, who somebody is and what they may do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conformance.client import Namespace, Object, Refused, eventually
from tests.e2e.conformance.pods import agnhost, port, service
from tests.e2e.conformance.served import certify, container, volumes

GROUP, VERSION = "wardle.example.com", "v1alpha1"
SERVICE, NAME = "sample-api", f"{VERSION}.{GROUP}"
REGISTRATION = f"/apis/apiregistration.k8s.io/v1/apiservices/{NAME}"
RBAC = "/apis/rbac.authorization.k8s.io/v1"


def rights(space: Namespace) -> dict[str, Object]:
    """What the server's account needs, by the path where it is made."""
    subjects = [{"kind": "ServiceAccount", "name": "default", "namespace": space.name}]

    def bound(name: str, kind: str, role: str) -> Object:
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role}
        return {"metadata": {"name": f"{space.name}-{name}"}, "roleRef": reference, "subjects": subjects}

    return {
        f"{RBAC}/clusterrolebindings": bound("delegator", "ClusterRole", "system:auth-delegator"),
        f"{RBAC}/namespaces/kube-system/rolebindings": bound(
            "reader", "Role", "extension-apiserver-authentication-reader"
        ),
    }


def registration(space: Namespace, authority: str) -> Object:
    spec = {
        "group": GROUP, "version": VERSION, "groupPriorityMinimum": 2000, "versionPriority": 200,
        "service": {"name": SERVICE, "namespace": space.name}, "caBundle": authority,
    }  # fmt: skip
    return {"metadata": {"name": NAME}, "spec": spec}


@pytest.fixture(scope="module")
def sample(shared: Namespace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Namespace]:
    authority = certify(shared, SERVICE, tmp_path_factory.mktemp("sample"))
    api, made = shared.api, []
    try:
        for path, body in rights(shared).items():
            api.request("POST", path, body)
            made.append(f"{path}/{body['metadata']['name']}")
        server = container("sample-apiserver", name="sample-apiserver", path="/readyz", number=443)
        labels = {"app": "sample-apiserver"}
        pod: Any = {"metadata": {"labels": labels}, "spec": {"containers": [server, agnhost("key-value", name="etcd")]}}
        pod["spec"] |= {"volumes": volumes(SERVICE), "terminationGracePeriodSeconds": 0}
        spec = {"selector": {"matchLabels": labels}, "template": pod}
        shared.create("deployments", {"metadata": {"name": "sample-apiserver-deployment"}, "spec": spec})
        shared.create("services", service(SERVICE, labels, port(443, 443)))
        api.request("POST", REGISTRATION.rpartition("/")[0], registration(shared, authority))
        made.insert(0, REGISTRATION)
        eventually(lambda: available(shared) == "Passed", 60, "the extension server is available")
        yield shared
    finally:
        for path in made:
            api.request("DELETE", path)


def available(space: Namespace) -> str:
    """The reason of the condition Available."""
    conditions = space.api.request("GET", REGISTRATION)["status"].get("conditions", ())
    return next((str(c["reason"]) for c in conditions if c["type"] == "Available"), "")


def flunders(space: Namespace, name: str = "") -> str:
    return f"/apis/{GROUP}/{VERSION}/namespaces/{space.name}/flunders" + (f"/{name}" if name else "")


def flunder(name: str, **more: Any) -> Object:
    meta = {"name": name, "labels": {"sample-label": "true"}}
    return {"apiVersion": f"{GROUP}/{VERSION}", "kind": "Flunder", "metadata": meta, **more}


def test_flunders_live_in_a_pod(sample: Namespace) -> None:
    api, kubectl = sample.api, sample.kubectl
    answer = api.raw("POST", flunders(sample), json.dumps(flunder("rest-flunder")).encode(), {
        "Content-Type": "application/json"
    })  # fmt: skip
    assert answer.status == 201
    found = api.request("GET", flunders(sample))
    assert [o["metadata"]["name"] for o in found["items"]] == ["rest-flunder"]
    patched = api.request("PATCH", flunders(sample, "rest-flunder"), {"metadata": {"labels": {"a": "b"}}},
                          kind="merge-patch+json")  # fmt: skip
    assert patched["metadata"]["labels"] == {"sample-label": "true", "a": "b"}
    replaced = api.request("PUT", flunders(sample, "rest-flunder"), patched | {"spec": {"reference": "sea"}})
    assert replaced["spec"] == {"reference": "sea"}
    with pytest.raises(Refused) as caught:
        api.request("PUT", flunders(sample, "rest-flunder"), patched)
    assert caught.value.code == 409
    # As kubectl sees it, which finds the kind by discovery.
    eventually(lambda: "flunders" in kubectl("api-resources", f"--api-group={GROUP}"))
    kubectl("create", "-f", "-", input=json.dumps(flunder("dynamic-flunder")))
    assert kubectl("get", "fl", "-o", "name").split() == [
        f"flunder.{GROUP}/dynamic-flunder", f"flunder.{GROUP}/rest-flunder",
    ]  # fmt: skip
    assert api.request("GET", f"/apis/{GROUP}")["preferredVersion"]["version"] == VERSION
    watching = kubectl.start("get", "flunders", "--watch-only", "-o", "name")
    try:
        assert watching.stdout is not None
        eventually(lambda: kubectl("label", "flunder", "rest-flunder", "seen=yes", "--overwrite"))
        eventually(lambda: kubectl("label", "flunder", "rest-flunder", "again=yes", "--overwrite"))
        eventually(lambda: kubectl("annotate", "flunder", "rest-flunder", "again=yes", "--overwrite"))
        assert watching.stdout.readline() == f"flunder.{GROUP}/rest-flunder\n"
    finally:
        watching.terminate()
        watching.communicate()
    api.request("DELETE", flunders(sample, "dynamic-flunder"))
    api.request("DELETE", flunders(sample))
    assert api.request("GET", flunders(sample))["items"] == []


def test_the_extension_server_lets_nobody_do_what_the_main_one_would_not(sample: Namespace) -> None:
    """Both decide: the main server before it passes a request on, the other by asking the main one."""
    kubectl = sample.kubectl
    account = f"system:serviceaccount:{sample.name}:default"
    eventually(lambda: "flunders" in kubectl("api-resources", f"--api-group={GROUP}"))
    code, said = kubectl.outcome("get", "flunders", f"--as={account}")
    assert code == 1 and f'User "{account}" cannot list resource "flunders" in API group "{GROUP}"' in said
    kubectl("create", "role", "reader", "--verb=list", f"--resource=flunders.{GROUP}")
    kubectl("create", "rolebinding", "reader", "--role=reader", f"--serviceaccount={sample.name}:default")
    assert eventually(lambda: "No resources found" in kubectl.outcome("get", "flunders", f"--as={account}")[1])
    # Past the main server, at the pod's own door: by token, by nothing, and by headers without a certificate.
    pod = sample.list("pods", labelSelector="app=sample-apiserver")[0]["metadata"]["name"]
    door = f"https://localhost{flunders(sample)}"
    ask = (
        "import ssl, sys, urllib.request as r; c = ssl._create_unverified_context()\n"
        "t = open('/var/run/secrets/kubernetes.io/serviceaccount/token').read()\n"
        "h = {'token': {'Authorization': 'Bearer ' + t}, 'headers': {'X-Remote-User': 'a', 'X-Remote-Group': "
        "'system:masters'}}.get(sys.argv[2], {})\n"
        "try: print(r.urlopen(r.Request(sys.argv[1], headers=h), context=c).status)\n"
        "except r.HTTPError as e: print(e.code)\n"
    )
    statuses = [
        sample.exec(pod, "python3", "-c", ask, door, how, container="sample-apiserver").strip()
        for how in ("token", "nothing", "headers")
    ]
    assert statuses == ["200", "403", "403"]


def test_a_server_that_starts_again_is_available_again_with_its_objects(sample: Namespace) -> None:
    api = sample.api
    api.request("POST", flunders(sample), flunder("kept"))
    pod = sample.list("pods", labelSelector="app=sample-apiserver")[0]["metadata"]["name"]
    sample.shell(pod, "kill 1", container="sample-apiserver")

    def restarted() -> bool:
        statuses = sample.get("pods", pod)["status"]["containerStatuses"]
        return [(s["restartCount"], s["ready"]) for s in statuses if s["name"] == "sample-apiserver"] == [(1, True)]

    eventually(restarted)
    found = eventually(lambda: api.request("GET", flunders(sample))["items"])
    assert [o["metadata"]["name"] for o in found] == ["kept"]
    # Without a pod it says so, and the rest of the API works.
    sample.patch("deployments", "sample-apiserver-deployment", {"spec": {"replicas": 0}})
    eventually(lambda: available(sample) == "MissingEndpoints")
    answer = api.raw("GET", flunders(sample))
    assert answer.status == 503
    assert sample.get("configmaps", "kube-root-ca.crt")
    sample.patch("deployments", "sample-apiserver-deployment", {"spec": {"replicas": 1}})
    eventually(lambda: available(sample) == "Passed", 60)
    # The store was in the pod that has gone.
    assert api.request("GET", flunders(sample))["items"] == []
