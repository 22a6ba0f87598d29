"""Where autoscalers get their numbers: what is asked of which server, and what is said when it does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from podling.api import autoscaling_v2 as v2
from podling.api import errors, registry
from podling.api.meta_v1 import ObjectMeta
from podling.api.metrics_v1beta1 import ContainerMetrics, PodMetrics
from podling.api.request import Response
from podling.client.base import ListResult
from podling.controllers.horizontal_pod_autoscaler_replicas import Sample, Uncomputable
from podling.controllers.horizontal_pod_autoscaler_sources import Sources

AT = "2026-01-01T00:00:00Z"
QUEUE = v2.MetricIdentifier(name="queue")


class Server:
    """Answers with what it is given, and keeps what it was asked."""

    def __init__(self, answer: Response | errors.StatusError | None = None, pods: tuple[PodMetrics, ...] = ()) -> None:
        self.answer, self.pods = answer, pods
        self.asked: list[tuple[str, dict[str, str]]] = []

    async def ask(self, path: str, query: dict[str, str]) -> Response:
        self.asked.append((path, {k: v for k, v in query.items() if v}))
        if self.answer is None or isinstance(self.answer, errors.StatusError):
            raise self.answer or errors.path_not_found()
        return self.answer

    async def list(self, kind: Any, namespace: str, *, label_selector: str) -> ListResult[PodMetrics]:
        if isinstance(self.answer, errors.StatusError):
            raise self.answer
        return ListResult(list(self.pods), "", "", 0)


class Served:
    """The resources of a cluster in which other servers serve some group versions."""

    def __init__(self, *group_versions: tuple[str, str]) -> None:
        self._group_versions = set(group_versions)
        self.aggregated = self

    def group_versions(self) -> set[tuple[str, str]]:
        return self._group_versions

    def by_kind(self, version: str, kind: str) -> Any:
        return registry.by_kind(version, kind)


CUSTOM = Served(("custom.metrics.k8s.io", "v1beta1"), ("custom.metrics.k8s.io", "v1beta2"))


def sources(server: Server, served: Served = CUSTOM) -> Sources:
    return Sources(server, served)  # type: ignore[arg-type]


def fails(ask: Callable[[], Awaitable[Any]]) -> str:
    async def main() -> None:
        await ask()

    with pytest.raises(Uncomputable) as failure:
        asyncio.run(main())
    return str(failure.value)


def of_pod(name: str, **used: dict[str, str]) -> PodMetrics:
    containers = [ContainerMetrics(name=container, usage=usage) for container, usage in used.items()]
    meta = ObjectMeta(name=name, namespace="ns")
    return PodMetrics(metadata=meta, timestamp=AT, window="1.5s", containers=containers)


def test_pods_count_if_all_their_containers_say_it() -> None:
    server = Server(pods=(
        of_pod("a", x={"cpu": "100m"}, y={"cpu": "1500000n"}),
        of_pod("b", x={"cpu": "1"}, y={"memory": "1Mi"}),
        of_pod("c"),
    ))  # fmt: skip
    found = asyncio.run(sources(server).resource("cpu", "ns", "app=web"))
    assert {name: (s.value, s.window) for name, s in found.items()} == {"a": (102, 1.5)}
    assert fails(lambda: sources(server).resource("cpu", "ns", "", "y")) == (
        "failed to get container metrics: container y not present in metrics for pod ns/c"
    )
    one = Server(pods=server.pods[:2])
    assert [*asyncio.run(sources(one).resource("cpu", "ns", "", "x"))] == ["a", "b"]


def test_resource_metrics_that_do_not_come() -> None:
    assert fails(lambda: sources(Server()).resource("cpu", "ns", "")) == "no metrics returned from resource metrics API"
    down = Server(errors.unavailable("the server is currently unable to handle the request"))
    assert fails(lambda: sources(down).resource("cpu", "ns", "")) == (
        "unable to fetch metrics from resource metrics API: the server is currently unable to handle the request "
        "(get pods.metrics.k8s.io)"
    )


def test_custom_metrics_of_pods() -> None:
    items = [
        {"describedObject": {"name": "a"}, "timestamp": AT, "windowSeconds": 30, "value": "10"},
        {"describedObject": {"name": "b"}, "timestamp": AT, "value": "1500m"},
    ]
    server = Server(Response(obj={"items": items}))
    found = asyncio.run(sources(server).pods(QUEUE, "ns", "app=web", "tier=x"))
    path = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/ns/pods/*/queue"
    assert server.asked == [(path, {"labelSelector": "app=web", "metricLabelSelector": "tier=x"})]
    assert {n: (s.value, s.window) for n, s in found.items()} == {"a": (10_000, 30.0), "b": (1500, 60.0)}
    assert isinstance(found["a"], Sample)


@pytest.mark.parametrize(
    ("version", "kind", "path"),
    [
        ("networking.k8s.io/v1", "Ingress", "namespaces/ns/ingresses.networking.k8s.io/it/queue"),
        ("v1", "Service", "namespaces/ns/services/it/queue"),
        ("v1", "Namespace", "namespaces/it/metrics/queue"),
    ],
)
def test_custom_metrics_of_objects(version: str, kind: str, path: str) -> None:
    server = Server(Response(objects=[{"value": "3"}]))
    about = v2.CrossVersionObjectReference(api_version=version, kind=kind, name="it")
    older = Served(("custom.metrics.k8s.io", "v1beta1"))
    assert asyncio.run(sources(server, older).object(QUEUE, "ns", about, "")) == 3000
    assert server.asked == [(f"/apis/custom.metrics.k8s.io/v1beta1/{path}", {})]


def test_custom_metrics_that_do_not_come() -> None:
    trouble = "unable to fetch metrics from custom metrics API"
    assert fails(lambda: sources(Server(), Served()).pods(QUEUE, "ns", "", "")) == (
        f"{trouble}: no custom metrics API (custom.metrics.k8s.io) registered"
    )
    assert fails(lambda: sources(Server()).pods(QUEUE, "ns", "", "")) == (
        f"{trouble}: the server could not find the requested resource (get pods.custom.metrics.k8s.io)"
    )
    empty = Server(Response(obj={"items": []}))
    assert fails(lambda: sources(empty).pods(QUEUE, "ns", "", "")) == "no metrics returned from custom metrics API"
    about = v2.CrossVersionObjectReference(api_version="apps/v1", kind="Nothing", name="it")
    assert fails(lambda: sources(Server()).object(QUEUE, "ns", about, "")) == (
        f'{trouble}: no matches for kind "Nothing" in group "apps"'
    )


def test_external_metrics() -> None:
    server = Server(Response(objects=[{"value": "3"}, {"value": "500m"}]))
    assert asyncio.run(sources(server).external(QUEUE, "ns", "a=b")) == [3000, 500]
    assert server.asked == [("/apis/external.metrics.k8s.io/v1beta1/namespaces/ns/queue", {"labelSelector": "a=b"})]
    empty = Server(Response(objects=[]))
    assert fails(lambda: sources(empty).external(QUEUE, "ns", "")) == "no metrics returned from external metrics API"
