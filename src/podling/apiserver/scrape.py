"""/metrics and /metrics/slis: the process's families, those of the server, and what is read only when someone asks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from podling import metrics, process_metrics
from podling.api.request import Request, User
from podling.apiserver import features
from podling.apiserver.answer import Answer
from podling.apiserver.cache import ResourceCache
from podling.apiserver.health import Health
from podling.apiserver.request_info import RequestInfo
from podling.apiserver.version import version_info
from podling.metrics import Labels, Registry

if TYPE_CHECKING:
    from podling.apiserver.core import Core

_HEADERS = {"content-type": "text/plain; version=0.0.4; charset=utf-8"}
_KIND = ("group", "resource")


class Scrape:
    """Serves both paths, of what is in the server's own registry and in the process's."""

    def __init__(self, app: Core, health: Health) -> None:
        self._app = app
        self._health = health
        registry = app.metrics
        process_metrics.register(registry)
        self._of_caches(registry)
        registry.gauge(
            "apiserver_storage_objects",
            "[STABLE] [DEPRECATED, consider using apiserver_resource_objects instead] Number of stored objects at the "
            "time of last check split by kind. In case of a fetching error, the value will be -1.",
            ("resource",),
            lambda: {(item[1] + (f".{item[0]}" if item[0] else ""),): n for item, n in self._read(_count).items()},
        )
        info = version_info()
        build = registry.gauge(
            "kubernetes_build_info",
            "[BETA] A metric with a constant '1' value labeled by major, minor, git version, git commit, git tree "
            "state, build date, Go version, and compiler from which Kubernetes was built, and platform on which it is "
            "running.",
            (
                "build_date", "compiler", "git_commit", "git_tree_state", "git_version", "go_version", "major", "minor",
                "platform",
            ),
        )  # fmt: skip
        build.set(
            1, info.build_date, info.compiler, info.git_commit, info.git_tree_state, info.git_version, info.go_version,
            info.major, info.minor, info.platform,
        )  # fmt: skip
        registry.gauge(
            "kubernetes_feature_enabled",
            "[BETA] This metric records the data about the stage and enablement of a k8s feature.",
            ("name", "stage"),
            lambda: {(features.CBOR, features.STAGES[features.CBOR]): float(app.cbor)},
        )
        registry.counter(
            "registered_metrics_total",
            "[BETA] The count of registered metrics broken by stability level and deprecation version.",
            ("deprecated_version", "stability_level"),
            lambda: _registered(metrics.PROCESS, registry),
        )
        app.paths["/metrics"] = self._metrics
        app.paths["/metrics/slis"] = self._slis

    def _of_caches(self, registry: Registry) -> None:
        """What each resource's cache can tell."""

        def gauge(name: str, help_: str, value: Callable[[ResourceCache], float]) -> None:
            registry.gauge(name, help_, _KIND, lambda: self._read(value))

        def counter(name: str, help_: str, value: Callable[[ResourceCache], float]) -> None:
            registry.counter(name, help_, _KIND, lambda: self._read(value))

        gauge(
            "apiserver_resource_objects",
            "[ALPHA] Number of stored objects at the time of last check split by kind. In case of a fetching error, "
            "the value will be -1.",
            _count,
        )
        gauge(
            "apiserver_resource_size_estimate_bytes",
            "[ALPHA] Estimated size of stored objects in database. Estimate is based on sum of last observed sizes of "
            "serialized objects. In case of a fetching error, the value will be -1.",
            lambda cache: cache.size,
        )
        counter(
            "apiserver_watch_cache_events_received_total",
            "[ALPHA] Counter of events received in watch cache broken by resource type.",
            lambda cache: cache.events,
        )
        counter(
            "apiserver_storage_events_received_total",
            "[BETA] Number of etcd events received split by kind.",
            lambda cache: cache.events,
        )
        gauge(
            "watch_cache_capacity",
            "[ALPHA] Total capacity of watch cache broken by resource type.",
            lambda cache: cache.capacity,
        )
        gauge(
            "apiserver_watch_cache_resource_version",
            "[ALPHA] Current resource version of watch cache broken by resource type. This is truncated to the 15 "
            "least significant digits.",
            lambda _: self._app.hub.revision % 10**15,
        )

    def _read(self, value: Callable[[ResourceCache], float]) -> dict[Labels, float]:
        return {
            (item.resource.group, item.resource.name): value(item.cache)
            for item in self._app.served.values()
            if not item.resource.virtual and item.view is None
        }

    async def _metrics(self, request: Request, info: RequestInfo, user: User) -> Answer:
        return Answer(body=metrics.text(metrics.PROCESS, self._app.metrics).encode(), headers=_HEADERS)

    async def _slis(self, request: Request, info: RequestInfo, user: User) -> Answer:
        """The results of the health checks, each of which is made for it."""
        await self._health.measure()
        return Answer(body=metrics.text(self._health.slis).encode(), headers=_HEADERS)


def _registered(*registries: Registry) -> dict[Labels, float]:
    """How many families there are, by what their help texts say of them."""
    found: dict[Labels, float] = {}
    for registry in registries:
        for family in registry.families.values():
            if family.help.startswith("["):
                level = family.help[1:].partition("]")[0]
                version = "1.34.0" if family.name == "apiserver_storage_objects" else ""
                found[version, level] = found.get((version, level), 0) + 1
    return found


def _count(cache: ResourceCache) -> float:
    return len(cache.entries)
