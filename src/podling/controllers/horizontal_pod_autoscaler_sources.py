"""Where autoscalers get their numbers: metrics.k8s.io for resources, and what other servers offer as
custom.metrics.k8s.io and external.metrics.k8s.io."""

from __future__ import annotations

from typing import Any

from podling.api import autoscaling_v2 as v2
from podling.api import quantity, times
from podling.api.errors import StatusError
from podling.api.metrics_v1beta1 import PodMetrics
from podling.client.client import ApiClient
from podling.controllers.horizontal_pod_autoscaler_replicas import Sample, Uncomputable
from podling.controllers.resources import Resources

CUSTOM, EXTERNAL = "custom.metrics.k8s.io", "external.metrics.k8s.io"
#: Newest first.
CUSTOM_VERSIONS = ("v1beta2", "v1beta1")
#: Of custom metrics that don't say it.
WINDOW = 60.0


class Sources:
    """Asks; raises Uncomputable with what upstream says of it."""

    def __init__(self, client: ApiClient, resources: Resources) -> None:
        self._client = client
        self._resources = resources

    async def resource(self, name: str, namespace: str, selector: str, container: str = "") -> dict[str, Sample]:
        """By name of pod: what it uses of a resource, or what its container of that name uses."""
        try:
            found = (await self._client.list(PodMetrics, namespace, label_selector=selector)).items
        except StatusError as error:
            text = said(error, "get pods.metrics.k8s.io")
            raise Uncomputable(f"unable to fetch metrics from resource metrics API: {text}") from error
        if not found:
            raise Uncomputable("no metrics returned from resource metrics API")
        samples = {}
        for pod in found:
            used = _of_container(pod, container, name) if container else _of_pod(pod, name)
            if used is not None:
                samples[pod.metadata.name or ""] = Sample(used, times.parse(pod.timestamp), _seconds(pod.window))
        return samples

    async def pods(
        self, metric: v2.MetricIdentifier, namespace: str, selector: str, metric_selector: str
    ) -> dict[str, Sample]:
        """By name of pod."""
        query = {"labelSelector": selector, "metricLabelSelector": metric_selector}
        items = await self._custom(f"namespaces/{namespace}/pods/*/{metric.name}", query)
        return {str(item["describedObject"]["name"]): _sample(item) for item in items}

    async def object(
        self, metric: v2.MetricIdentifier, namespace: str, about: v2.CrossVersionObjectReference, metric_selector: str
    ) -> int:
        if about.kind == "Namespace" and about.api_version == "v1":
            path = f"namespaces/{about.name}/metrics/{metric.name}"
        else:
            group = (about.api_version or "").rpartition("/")[0]
            row = self._resources.by_kind(about.api_version or "", about.kind)
            if row is None:
                text = f'no matches for kind "{about.kind}" in group "{group}"'
                raise Uncomputable(f"unable to fetch metrics from custom metrics API: {text}")
            path = f"namespaces/{namespace}/{row.qualified}/{about.name}/{metric.name}"
        items = await self._custom(path, {"metricLabelSelector": metric_selector})
        return _milli(items[0])

    async def external(self, metric: v2.MetricIdentifier, namespace: str, metric_selector: str) -> list[int]:
        path = f"/apis/{EXTERNAL}/v1beta1/namespaces/{namespace}/{metric.name}"
        try:
            items = await self._items(path, {"labelSelector": metric_selector})
        except StatusError as error:
            text = said(error, f"get {metric.name}.{EXTERNAL}")
            raise Uncomputable(f"unable to fetch metrics from external metrics API: {text}") from error
        if not items:
            raise Uncomputable("no metrics returned from external metrics API")
        return [_milli(item) for item in items]

    async def _custom(self, path: str, query: dict[str, str]) -> list[dict[str, Any]]:
        versions = {v for group, v in self._resources.aggregated.group_versions() if group == CUSTOM}
        version = next((v for v in CUSTOM_VERSIONS if v in versions), None)
        trouble = "unable to fetch metrics from custom metrics API"
        if version is None:
            raise Uncomputable(f"{trouble}: no custom metrics API ({CUSTOM}) registered")
        try:
            items = await self._items(f"/apis/{CUSTOM}/{version}/{path}", query)
        except StatusError as error:
            text = said(error, f"get {path.split('/')[2]}.{CUSTOM}")
            raise Uncomputable(f"{trouble}: {text}") from error
        if not items:
            raise Uncomputable("no metrics returned from custom metrics API")
        return items

    async def _items(self, path: str, query: dict[str, str]) -> list[dict[str, Any]]:
        answer = await self._client.ask(path, query)
        if answer.objects is not None:
            return answer.objects
        return list((answer.obj or {}).get("items") or ())


def said(error: StatusError, what: str) -> str:
    """The error in the words of Go's client, which names the request where the server itself said nothing of use."""
    if error.code == 404 and not (error.status.details and error.status.details.name):
        return f"the server could not find the requested resource ({what})"
    return f"{error} ({what})" if str(error).endswith("unable to handle the request") else str(error)


def _of_pod(pod: PodMetrics, resource: str) -> int | None:
    """None unless all containers say it."""
    used = [c.usage.get(resource) for c in pod.containers]
    known = [u for u in used if u is not None]
    return sum(quantity.parse(u).milli() for u in known) if used and len(known) == len(used) else None


def _of_container(pod: PodMetrics, container: str, resource: str) -> int | None:
    found = next((c for c in pod.containers if c.name == container), None)
    if found is None:
        where = f"{pod.metadata.namespace}/{pod.metadata.name}"
        text = f"container {container} not present in metrics for pod {where}"
        raise Uncomputable(f"failed to get container metrics: {text}")
    used = found.usage.get(resource)
    return quantity.parse(used).milli() if used is not None else None


def _seconds(window: str) -> float:
    return times.parse_duration(window) / 1e9


def _milli(item: dict[str, Any]) -> int:
    return quantity.parse(item["value"]).milli()


def _sample(item: dict[str, Any]) -> Sample:
    window = item.get("windowSeconds", item.get("window"))
    return Sample(_milli(item), times.parse(item["timestamp"]), WINDOW if window is None else float(window))
