"""An extension API server on the machine, reached through the main server by its Service."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.extension import GROUP, NAMESPACE, SERVICE, VERSION, Extension
from tests.e2e.harness import Kubectl, eventually

pytestmark = pytest.mark.real

NAME = f"{VERSION}.{GROUP}"


class Running:
    """An extension server in a thread."""

    def __init__(self, extension: Extension, host: str) -> None:
        self.extension = extension
        self._host = host
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.start()

    def _do(self, what: Any) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(10)

    def start(self) -> None:
        self._do(self.extension.start(self._host))

    def stop(self) -> None:
        self._do(self.extension.close())

    def end(self) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


@pytest.fixture
def extension(kubectl: Kubectl, data: Path, tmp_path: Path) -> Iterator[Running]:
    host = kubectl.json("get", "endpointslice", "kubernetes", "-n", "default")["endpoints"][0]["addresses"][0]
    made = Running(Extension(tmp_path, (data / "pki" / "front-proxy-ca.crt").read_bytes()), host)
    kubectl("create", "namespace", NAMESPACE)
    try:
        kubectl("create", "-n", NAMESPACE, "-f", "-", input=json.dumps(_objects(host, made.extension)))
        yield made
    finally:
        # As long as nobody can say what is in it, no namespace ends.
        kubectl("delete", "apiservice", NAME, "--ignore-not-found")
        made.end()
        kubectl("delete", "namespace", NAMESPACE)


def _objects(host: str, extension: Extension) -> dict[str, Any]:
    meta = {"name": SERVICE, "labels": {"kubernetes.io/service-name": SERVICE}}
    slice_ = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": meta,
        "addressType": "IPv4",
        "endpoints": [{"addresses": [host]}],
        "ports": [{"name": "https", "port": extension.port}],
    }
    service = {"apiVersion": "v1", "kind": "Service", "metadata": meta}
    service["spec"] = {"ports": [{"name": "https", "port": 443}]}
    api = {"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": NAME}}
    spec = {"group": GROUP, "version": VERSION, "groupPriorityMinimum": 2000, "versionPriority": 200}
    reference = {"name": SERVICE, "namespace": NAMESPACE}
    items = [service, slice_, {**api, "spec": {**spec, "caBundle": extension.bundle, "service": reference}}]
    return {"apiVersion": "v1", "kind": "List", "items": items}


def test_aggregated_objects(kubectl: Kubectl, extension: Running) -> None:
    kubectl("wait", f"apiservice/{NAME}", "--for=condition=Available", "--timeout=10s")
    assert "flunders" in eventually(lambda: kubectl("api-resources", f"--api-group={GROUP}"))
    manifest = {"apiVersion": f"{GROUP}/{VERSION}", "kind": "Flunder", "metadata": {"name": "a"}}
    kubectl("create", "-f", "-", input=json.dumps({**manifest, "spec": {"reference": "sea"}}))
    assert kubectl("get", "fl", "-o", "name") == f"flunder.{GROUP}/a\n"
    watching = kubectl.start("get", "flunders", "--watch-only", "-o", "name")
    eventually(lambda: extension.extension.watched(kubectl.namespace))
    kubectl("label", "flunder", "a", "fish=flat")
    assert watching.stdout is not None and watching.stdout.readline() == f"flunder.{GROUP}/a\n"
    watching.terminate()
    watching.communicate()

    # While its server is away the rest of the cluster works, and afterwards so does it.
    extension.stop()
    kubectl("annotate", "service", SERVICE, "-n", NAMESPACE, "looked=at")
    eventually(lambda: "False (FailedDiscoveryCheck)" in kubectl("get", "apiservice", NAME))
    kubectl("create", "configmap", "c")
    assert kubectl("get", "configmap", "c", "-o", "name") == "configmap/c\n"
    extension.start()
    kubectl("wait", f"apiservice/{NAME}", "--for=condition=Available", "--timeout=40s")
    # The namespace's end, after the test, takes it along.
    assert kubectl("get", "flunders", "-o", "name") == f"flunder.{GROUP}/a\n"


def test_local_ones(kubectl: Kubectl) -> None:
    rows = {line.split()[0]: line.split()[1:3] for line in kubectl("get", "apiservices", "--no-headers").splitlines()}
    assert rows["v1."] == rows["v1.apps"] == rows["v1.resource.k8s.io"] == ["Local", "True"]
    assert "autoregister-completion ok" in kubectl("get", "--raw", "/readyz?verbose")
