"""The kinds of aggregated discovery, which no published schema has: by them its protobuf form is written."""

from __future__ import annotations

from msgspec import field

from podling.api import meta_v1
from podling.api.struct import ApiStruct


class GroupVersionKind(ApiStruct):
    group: str = ""
    version: str = ""
    kind: str = ""


class APISubresourceDiscovery(ApiStruct):
    subresource: str = ""
    response_kind: GroupVersionKind | None = None
    accepted_types: list[GroupVersionKind] | None = None
    verbs: list[str] | None = None


class APIResourceDiscovery(ApiStruct):
    resource: str = ""
    response_kind: GroupVersionKind | None = None
    scope: str = ""
    singular_resource: str = ""
    verbs: list[str] | None = None
    short_names: list[str] | None = None
    categories: list[str] | None = None
    subresources: list[APISubresourceDiscovery] | None = None


class APIVersionDiscovery(ApiStruct):
    version: str = ""
    resources: list[APIResourceDiscovery] | None = None
    freshness: str = ""


class APIGroupDiscovery(ApiStruct):
    metadata: meta_v1.ObjectMeta = field(default_factory=lambda: meta_v1.ObjectMeta())
    versions: list[APIVersionDiscovery] | None = None


class APIGroupDiscoveryList(ApiStruct):
    kind: str = "APIGroupDiscoveryList"
    api_version: str = "apidiscovery.k8s.io/v2"
    metadata: meta_v1.ListMeta = field(default_factory=lambda: meta_v1.ListMeta())
    items: list[APIGroupDiscovery] | None = None
