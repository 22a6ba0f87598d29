"""The API server's proxy to pods and services: all forms of its URLs, all verbs, links that lead back through it."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e.conformance.client import Namespace, eventually
from tests.e2e.conformance.pods import agnhost, pod, port, service

SERVED = {
    "SERVE_PORT_80": '<a href="/rewriteme">test</a>',
    "SERVE_PORT_1080": '<a href="/rewriteme">test</a>',
    "SERVE_PORT_160": "foo",
    "SERVE_PORT_162": "bar",
    "SERVE_TLS_PORT_443": '<a href="/tlsrewriteme">test</a>',
    "SERVE_TLS_PORT_460": "tls baz",
    "SERVE_TLS_PORT_462": "tls qux",
}
PORTS = {"": 80, "dest1": 160, "dest2": 162, "tlsdest1": 460, "tlsdest2": 462}


@pytest.fixture(scope="module")
def porter(shared: Namespace) -> Namespace:
    ready = {"httpGet": {"port": 80}, "periodSeconds": 1}
    ports = [{"containerPort": n, **({"name": name} if name else {})} for name, n in PORTS.items()]
    env = [{"name": name, "value": value} for name, value in SERVED.items()]
    shared.start(pod("porter", agnhost("porter", env=env, ports=ports, readinessProbe=ready)))
    verbs = agnhost("porter", "--json-response", env=[{"name": "SERVE_PORT_80", "value": "foo"}], readinessProbe=ready)
    shared.run(pod("verbs", verbs))
    shared.ready("porter")
    ends = port(80, "dest1", name="portname1"), port(81, 162, name="portname2")
    tls = port(443, "tlsdest1", name="tlsportname1"), port(444, 462, name="tlsportname2")
    shared.create("services", service("porter", {"app": "porter"}, *ends, *tls))
    shared.create("services", service("verbs", {"app": "verbs"}, port(80)))
    for name in ("porter", "verbs"):
        eventually(lambda name=name: shared.get("endpoints", name)["subsets"])  # type: ignore[misc]
    return shared


def test_pods_and_services_are_reached_by_every_form_of_name(porter: Namespace) -> None:
    expected = {}
    for scheme, end, text in (
        ("", "portname1", "foo"), ("http", "portname1", "foo"), ("", "portname2", "bar"), ("http", "portname2", "bar"),
        ("https", "tlsportname1", "tls baz"), ("https", "tlsportname2", "tls qux"), ("", "80", "foo"),
    ):  # fmt: skip
        name = f"{scheme}:porter:{end}" if scheme else f"porter:{end}"
        expected[porter.path("services", name, "proxy")] = text
    for scheme, end, text in (
        ("", "", ""), ("", "1080", ""), ("http", "1080", ""), ("", "160", "foo"), ("http", "160", "foo"),
        ("", "162", "bar"), ("http", "162", "bar"), ("https", "443", "tls"), ("https", "460", "tls baz"),
        ("https", "462", "tls qux"),
    ):  # fmt: skip
        name = ":".join(part for part in (scheme, "porter", end) if part)
        path = porter.path("pods", name, "proxy")
        expected[path] = f'<a href="{path}/{text}rewriteme">test</a>' if text in ("", "tls") else text

    def ask(path: str) -> tuple[str, int, str]:
        answer = porter.api.raw("GET", f"{path}/")
        return path, answer.status, answer.data.decode()

    with ThreadPoolExecutor(16) as pool:
        for path, status, text in pool.map(ask, [*expected] * 10):
            assert (status, text) == (200, expected[path]), path


@pytest.mark.parametrize("kind", ["pods", "services"])
def test_every_verb_passes(porter: Namespace, kind: str) -> None:
    for verb in ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"):
        path = porter.path(kind, "verbs", "proxy")
        answer = porter.api.raw(verb, f"{path}/some/path/with/{verb}")
        assert answer.status == 200
        if verb != "HEAD":
            assert json.loads(answer.data) == {"Method": verb, "Body": "foo"}
        bare = porter.api.raw(verb, path, method=verb)
        if verb in ("GET", "HEAD"):
            assert bare.status == 301 and bare.headers["Location"].endswith(f"{path}/?method={verb}")
        else:
            assert bare.status == 200 and json.loads(bare.data)["Method"] == verb


def test_what_is_not_there_is_said(porter: Namespace) -> None:
    answer = porter.api.raw("GET", porter.path("services", "porter:nosuch", "proxy") + "/")
    assert answer.status == 503 and b"no endpoints available for service" in answer.data
    answer = porter.api.raw("GET", porter.path("services", "nosuch", "proxy") + "/")
    assert answer.status == 404
    answer = porter.api.raw("GET", porter.path("pods", "porter:7", "proxy") + "/")
    assert answer.status == 503 and b"connection refused" in answer.data
