"""The API as a test sees it, and one namespace of it with what tests of the conformance programme do in theirs."""

from __future__ import annotations

import base64
import json
import secrets
import tempfile
import time
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlencode

import urllib3
import yaml

from tests.e2e.harness import CommandError, Kubectl

Object = dict[str, Any]

_GROUPS = {
    "api/v1": "pods services configmaps secrets endpoints nodes namespaces serviceaccounts events "
    "replicationcontrollers resourcequotas limitranges persistentvolumeclaims persistentvolumes",
    "apis/apps/v1": "deployments replicasets statefulsets daemonsets controllerrevisions",
    "apis/batch/v1": "jobs cronjobs",
    "apis/discovery.k8s.io/v1": "endpointslices",
    "apis/policy/v1": "poddisruptionbudgets",
    "apis/scheduling.k8s.io/v1": "priorityclasses",
    "apis/node.k8s.io/v1": "runtimeclasses",
    "apis/rbac.authorization.k8s.io/v1": "rolebindings clusterrolebindings",
}
_PREFIXES = {plural: prefix for prefix, plurals in _GROUPS.items() for plural in plurals.split()}
_CLUSTER_WIDE = {"nodes", "namespaces", "persistentvolumes", "priorityclasses", "runtimeclasses", "clusterrolebindings"}
_PATCHES = {"strategic": "strategic-merge-patch", "merge": "merge-patch", "json": "json-patch"}


def eventually(check: Callable[[], Any], seconds: float = 30, what: str = "") -> Any:
    """The first true value of `check`, which may fail (but not be wrong itself) meanwhile."""
    deadline = time.monotonic() + seconds
    while True:
        error: Exception | None = None
        try:
            if value := check():
                return value
        except (AssertionError, LookupError, OSError, urllib3.exceptions.HTTPError) as caught:
            error = caught
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what or check}") from error
        time.sleep(0.1)


class Refused(AssertionError):
    """An answer of 400 or more, with the Status that came."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code, self.text = code, text


class Api:
    """Requests to the API server with the administrator's certificate."""

    def __init__(self, kubeconfig: str) -> None:
        with open(kubeconfig) as file:
            config = yaml.safe_load(file)
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self.url: str = cluster["server"]
        self._folder = tempfile.TemporaryDirectory()
        files = {
            "ca_certs": cluster["certificate-authority-data"],
            "cert_file": user["client-certificate-data"],
            "key_file": user["client-key-data"],
        }
        for name, data in files.items():
            with open(f"{self._folder.name}/{name}", "wb") as out:
                out.write(base64.b64decode(data))
        self.files = {name: f"{self._folder.name}/{name}" for name in files}
        self._pool = urllib3.PoolManager(maxsize=32, block=False, retries=False, **self.files)  # type: ignore[arg-type]

    def raw(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None, /, **query: Any
    ) -> urllib3.BaseHTTPResponse:
        url = f"{self.url}{path}" + (f"?{urlencode(query, doseq=True)}" if query else "")
        return self._pool.request(method, url, body=body, headers=headers, redirect=False, timeout=60.0)

    def request(self, method: str, path: str, body: Any = None, kind: str = "json", **query: Any) -> Any:
        data = None if body is None else json.dumps(body).encode()
        answer = self.raw(method, path, data, {"Content-Type": f"application/{kind}"}, **query)
        if answer.status >= 400:
            raise Refused(answer.status, answer.data.decode())
        return json.loads(answer.data)


class Namespace:
    """One namespace: objects by the plural name of their kind, and what pods in it say."""

    def __init__(self, api: Api, program: str, kubeconfig: Any, name: str = "") -> None:
        self.api = api
        self.name = name or f"c-{secrets.token_hex(3)}"
        self.kubectl = Kubectl(program, kubeconfig, self.name)

    def open(self) -> None:
        labels = {f"pod-security.kubernetes.io/{mode}": "privileged" for mode in ("enforce", "warn")}
        self.api.request("POST", "/api/v1/namespaces", {"metadata": {"name": self.name, "labels": labels}})
        eventually(lambda: self.get("serviceaccounts", "default") and self.get("configmaps", "kube-root-ca.crt"))

    def close(self) -> None:
        self.api.request("DELETE", self.path("pods"))
        self.api.request("DELETE", f"/api/v1/namespaces/{self.name}")

    def path(self, plural: str, name: str = "", sub: str = "") -> str:
        scope = "" if plural in _CLUSTER_WIDE else f"/namespaces/{self.name}"
        return f"/{_PREFIXES[plural]}{scope}/{plural}" + (f"/{name}" if name else "") + (f"/{sub}" if sub else "")

    def create(self, plural: str, body: Object, name: str = "", sub: str = "") -> Object:
        made: Object = self.api.request("POST", self.path(plural, name, sub), body)
        return made

    def get(self, plural: str, name: str, sub: str = "") -> Object:
        found: Object = self.api.request("GET", self.path(plural, name, sub))
        return found

    def list(self, plural: str, **query: Any) -> list[Object]:
        found: list[Object] = self.api.request("GET", self.path(plural), **query)["items"]
        return found

    def update(self, plural: str, name: str, change: Callable[[Object], None], sub: str = "") -> Object:
        """GET, change, PUT, again upon a conflict."""
        while True:
            found = self.get(plural, name, sub)
            change(found)
            try:
                put: Object = self.api.request("PUT", self.path(plural, name, sub), found)
                return put
            except Refused as error:
                if error.code != 409:
                    raise

    def patch(self, plural: str, name: str, body: Any, *, kind: str = "strategic", sub: str = "") -> Object:
        made: Object = self.api.request("PATCH", self.path(plural, name, sub), body, kind=f"{_PATCHES[kind]}+json")
        return made

    def delete(self, plural: str, name: str, **query: Any) -> None:
        self.api.request("DELETE", self.path(plural, name), **query)

    def gone(self, plural: str, name: str) -> bool:
        try:
            self.get(plural, name)
        except Refused as error:
            return error.code == 404
        return False

    # Pods

    def start(self, *pods: Object) -> None:
        for pod in pods:
            self.create("pods", pod)

    def run(self, *pods: Object) -> list[Object]:
        """Create pods and wait until they are Ready; the pods then."""
        self.start(*pods)
        return [self.ready(pod["metadata"]["name"]) for pod in pods]

    def ready(self, name: str, seconds: float = 60) -> Object:
        def check() -> Object | None:
            pod = self.get("pods", name)
            return pod if condition(pod, "Ready") == "True" else None

        pod: Object = eventually(check, seconds, f"pod {name} is Ready")
        return pod

    def ended(self, name: str, seconds: float = 60) -> Object:
        def check() -> Object | None:
            pod = self.get("pods", name)
            return pod if pod["status"].get("phase") in ("Succeeded", "Failed") else None

        pod: Object = eventually(check, seconds, f"pod {name} has ended")
        return pod

    def output(self, name: str, container: str = "") -> str:
        """The log of a pod that ends well."""
        pod = self.ended(name)
        text = self.log(name, container)
        assert pod["status"]["phase"] == "Succeeded", f"{text}\n{json.dumps(pod['status'], indent=1)}"
        return text

    def log(self, name: str, container: str = "", /, **query: Any) -> str:
        if container:
            query["container"] = container
        answer = self.api.raw("GET", self.path("pods", name, "log"), **query)
        if answer.status >= 400:
            raise Refused(answer.status, answer.data.decode())
        return answer.data.decode()

    def exec(self, name: str, *words: str, container: str = "") -> str:
        return self.kubectl("exec", name, *(["-c", container] if container else []), "--", *words)

    def shell(self, name: str, command: str, container: str = "") -> str:
        """What a shell command in a pod says, errors included."""
        try:
            return self.exec(name, "sh", "-c", f"{{ {command} ; }} 2>&1", container=container).strip()
        except CommandError as error:
            return str(error)

    def ask(self, name: str, port: int, path: str, /, **query: Any) -> str:
        """A GET to a pod by way of the API server's proxy."""
        asked = f"{self.path('pods', f'{name}:{port}', 'proxy')}/{path}"
        answer = self.api.raw("GET", asked, **query)
        if answer.status >= 400:
            raise Refused(answer.status, answer.data.decode())
        return answer.data.decode()

    def dial(
        self, name: str, host: str, port: int, request: str = "hostname", *, udp: bool = False, tries: int = 1
    ) -> Object:
        """What the netexec pod `name` gets from (or why it does not reach) host and port."""
        protocol = "udp" if udp else "http"
        query = {"host": host, "port": port, "request": request, "protocol": protocol, "tries": tries}
        found: Object = json.loads(self.ask(name, 8080, "dial", **query))
        return found

    def reaches(self, name: str, host: str, port: int, expected: Iterable[str], *, udp: bool = False) -> None:
        """The netexec pod `name` reaches all of `expected` at host and port, and nobody else."""
        wanted, seen = set(expected), set[str]()

        def check() -> bool:
            seen.update(self.dial(name, host, port, udp=udp, tries=5).get("responses", []))
            return seen == wanted

        eventually(check, 30, f"{name} reaches {wanted} at {host}:{port}, seen {seen}")

    def refused(self, name: str, host: str, port: int, *, udp: bool = False) -> None:
        what = f"{host}:{port} answers no more"
        eventually(lambda: "responses" not in self.dial(name, host, port, udp=udp), 30, what)

    def events(self, name: str) -> list[Object]:
        return self.list("events", fieldSelector=f"involvedObject.name={name}")


def condition(thing: Object, kind: str) -> str:
    """The status of a condition, "" if it has none."""
    found = thing.get("status", {}).get("conditions") or []
    return next((c["status"] for c in found if c["type"] == kind), "")
