"""A resource as this server serves it: its row in the registry, its strategy, its cache and, for an alias, its view."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any

from podling.api import registry
from podling.api.registry import Resource
from podling.apiserver.cache import ResourceCache, WatchCache, prefix_of
from podling.apiserver.codec import Codec, LazyCodec
from podling.apiserver.entry import Entry, View
from podling.apiserver.strategy import Strategy
from podling.machinery.field_set import FieldSet


class Served:
    """`cache` is None for a virtual resource. `view` is set if the stored objects are of another kind or version.

    The strategy is made when it is first asked for: most kinds are never used in the first second of a cluster.
    """

    def __init__(
        self,
        resource: Resource,
        strategy: Callable[[], Strategy[Any]],
        cache: ResourceCache | None,
        *,
        codec: Codec,
        view: View | None = None,
        publish: Callable[[Any], list[Any]] | None = None,
        fingerprint: str = "",
        warnings: tuple[str, ...] = (),
    ) -> None:
        self.resource = resource
        self._make_strategy = strategy
        self._cache = cache
        self.codec = codec
        self.view = view
        #: Of a custom resource: its OpenAPI definitions (`crd.publish`), and what changes when they do.
        self.publish = publish
        self.fingerprint = fingerprint
        #: What every request is warned of.
        self.warnings = warnings
        self.prefix = cache.prefix if cache else ""
        #: Fields that writes do not change, by subresource ("" is the object itself); see `managed_fields.ignored`.
        self.resets: dict[str, FieldSet] = {}

    @cached_property
    def strategy(self) -> Strategy[Any]:
        return self._make_strategy()

    @cached_property
    def without_protobuf(self) -> bool:
        """Custom resources, and metrics.k8s.io, have no protobuf form."""
        return self.publish is not None or self.resource.group == "metrics.k8s.io"

    @property
    def indexed_field(self) -> str:
        """The field selector that the cache has an index for, "" if it has none."""
        return INDEXED.get(self.resource.qualified, "")

    @property
    def cache(self) -> ResourceCache:
        assert self._cache is not None, f"{self.resource.qualified} is virtual"
        return self._cache

    @property
    def stored_codec(self) -> Codec:
        return self.cache.codec

    async def ready(self, entries: Iterable[Entry]) -> bool:
        """Make it possible to show these as the view has them; whether that took anything."""
        view = self.view
        return view is not None and view.deferred and await view.ready(entries)

    def key(self, namespace: str, name: str) -> str:
        """The key within the cache."""
        return f"{namespace}/{name}" if self.resource.namespaced else name


def install(hub: WatchCache, resource: Resource, strategy: Callable[[], Strategy[Any]]) -> Served:
    """A built-in resource, ready to be served; an alias shares the cache of what it is another view of."""
    codec: Codec = LazyCodec(resource)
    if resource.virtual:
        return Served(resource, strategy, None, codec=codec)
    stored, view = resource, None
    if (alias := ALIASES.get((resource.group, resource.version, resource.name))) is not None:
        group, version, name = alias
        found = registry.by_name(group, version, name)
        assert found is not None
        stored = found
        from podling.apiserver import views

        view = views.view_of(resource, codec)
    stored_codec: Codec = codec if view is None else LazyCodec(stored)
    cache = hub.cache(prefix_of(stored.group, stored.name), stored_codec)
    served = Served(resource, strategy, cache, codec=codec, view=view)
    field = served.indexed_field
    if field and not cache.indexed and view is None:
        cache.index_by(lambda obj: served.strategy.fields(obj).get(field, ""))
    return served


#: Fields by which node agents watch: lists and watches of one value touch only what has it.
INDEXED = {"pods": "spec.nodeName"}


#: What is stored as what: one list of objects, shown in two ways.
ALIASES: dict[tuple[str, str, str], tuple[str, str, str]] = {
    ("events.k8s.io", "v1", "events"): ("", "v1", "events"),
    ("autoscaling", "v1", "horizontalpodautoscalers"): ("autoscaling", "v2", "horizontalpodautoscalers"),
}
