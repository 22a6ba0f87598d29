"""metrics_v1beta1: what nodes and pods use now (k8s.io/metrics).

By hand: the schemas that the other types are generated from do not have it.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import field

from podling.api import meta_v1
from podling.api.struct import OPTIONAL, ApiStruct, empty_list


class ContainerMetrics(ApiStruct):
    name: str = ""
    usage: dict[str, str] = field(default_factory=dict)


class NodeMetrics(ApiStruct):
    """`usage` is the average over the `window` (in Go's notation) that ended at `timestamp`."""

    kind: str = field(default_factory=lambda: "NodeMetrics")
    api_version: str = field(default_factory=lambda: "metrics.k8s.io/v1beta1")
    metadata: Annotated[meta_v1.ObjectMeta, OPTIONAL] = field(default_factory=lambda: meta_v1.ObjectMeta())
    timestamp: str = ""
    window: str = ""
    usage: dict[str, str] = field(default_factory=dict)


class NodeMetricsList(ApiStruct):
    kind: str = field(default_factory=lambda: "NodeMetricsList")
    api_version: str = field(default_factory=lambda: "metrics.k8s.io/v1beta1")
    metadata: Annotated[meta_v1.ListMeta, OPTIONAL] = field(default_factory=lambda: meta_v1.ListMeta())
    items: list[NodeMetrics] = field(default_factory=empty_list)


class PodMetrics(ApiStruct):
    kind: str = field(default_factory=lambda: "PodMetrics")
    api_version: str = field(default_factory=lambda: "metrics.k8s.io/v1beta1")
    metadata: Annotated[meta_v1.ObjectMeta, OPTIONAL] = field(default_factory=lambda: meta_v1.ObjectMeta())
    timestamp: str = ""
    window: str = ""
    containers: list[ContainerMetrics] = field(default_factory=empty_list)


class PodMetricsList(ApiStruct):
    kind: str = field(default_factory=lambda: "PodMetricsList")
    api_version: str = field(default_factory=lambda: "metrics.k8s.io/v1beta1")
    metadata: Annotated[meta_v1.ListMeta, OPTIONAL] = field(default_factory=lambda: meta_v1.ListMeta())
    items: list[PodMetrics] = field(default_factory=empty_list)
