"""/metrics: what is shown, and that Prometheus can read it."""

from __future__ import annotations

import importlib
import pkgutil

from prometheus_client.parser import text_string_to_metric_families

import podling
from podling.api import core_v1
from podling.apiserver import features
from podling.kubelet.measures import Measures
from podling.metrics import PROCESS, Registry
from podling.scheduler import metrics as scheduling
from tests.unit.apiserver.crd.support import definition, running, version
from tests.unit.apiserver.harness import Server, config_map, virtual
from tests.unit.measured import count, grows

#: Families that Kubernetes' own list of stable and beta metrics has, and a cluster shows from its first requests on.
PROMISED = {
    "apiserver_admission_controller_admission_duration_seconds", "apiserver_admission_step_admission_duration_seconds",
    "apiserver_authorization_decisions", "apiserver_resource_objects", "apiserver_storage_events_received",
    "apiserver_storage_objects", "kubernetes_build_info", "kubernetes_feature_enabled", "registered_metrics",
    "watch_cache_capacity", "process_start_time_seconds", "process_open_fds", "python_info", "rest_client_requests",
    "workqueue_depth",
}  # fmt: skip


async def scraped(server: Server) -> str:
    return ((await server.ask("GET", "/metrics")).body or b"").decode()


@virtual
async def test_all_families_can_be_read_and_have_upstreams_names(server: Server) -> None:
    from podling.client.workqueue import WorkQueue

    queue: WorkQueue[str] = WorkQueue(name="shown")
    await server.client.create(config_map("a"))
    found = list(text_string_to_metric_families(await scraped(server)))
    names = [family.name for family in found]
    assert len(set(names)) == len(names), "a family is shown once"
    assert PROMISED - {"apiserver_authorization_decisions"} <= set(names)
    for family in found:
        assert family.type in ("counter", "gauge", "histogram"), family.name
        assert family.documentation.startswith("[") or family.name.startswith(("process_", "python_")), family.name
        for sample in family.samples:
            if family.type == "histogram":
                assert sample.name in {f"{family.name}_{end}" for end in ("bucket", "sum", "count")}
    assert len(queue) == 0


def test_every_family_says_how_stable_it_is() -> None:
    for module in pkgutil.walk_packages(podling.__path__, "podling."):
        if "metrics" in module.name:
            importlib.import_module(module.name)
    scheduling.show_pending(dict)
    for registry in (PROCESS, Measures().registry):
        for family in registry.families.values():
            if not family.name.startswith(("process_", "python_")):
                level = family.help.partition("]")[0]
                assert level in ("[ALPHA", "[BETA", "[STABLE"), family.name
            assert len(set(family.labels)) == len(family.labels)


@virtual
async def test_deprecated_versions_that_are_asked_for(server: Server) -> None:
    labels = {"group": "", "version": "v1", "resource": "endpoints", "subresource": "", "removed_release": ""}
    await server.client.list(core_v1.Endpoints, "default")
    assert count("apiserver_requested_deprecated_apis", **labels) == 1
    await server.client.list(core_v1.ConfigMap, "default")
    assert count("apiserver_requested_deprecated_apis", resource="configmaps") == 0


def test_deprecated_versions_of_custom_resources() -> None:
    from podling import clock

    async def main() -> None:
        async with running() as server:
            old = version("v1beta1", deprecated=True)
            await server.define(definition(versions=[version("v1", storage=True), old]))
            await server.ask("GET", server.path("v1beta1"))
            labels = {"group": "example.com", "resource": "widgets"}
            assert count("apiserver_requested_deprecated_apis", version="v1beta1", **labels) == 1
            assert count("apiserver_requested_deprecated_apis", version="v1", **labels) == 0

    clock.run_virtual(main())


@virtual
async def test_what_lists_cost(server: Server) -> None:
    for name in "abc":
        await server.client.create(config_map(name, labels={"is": name}))
    labels = {"resource": "configmaps", "group": "", "storage": "watchcache"}
    with (
        grows("apiserver_storage_list_total", **labels),
        grows("apiserver_storage_list_fetched_objects_total", by=3, **labels),
        grows("apiserver_storage_list_evaluated_objects_total", by=3, **labels),
        grows("apiserver_storage_list_returned_objects_total", by=1, **labels),
        grows("apiserver_watch_cache_consistent_read_total", resource="configmaps", success="true", fallback="false"),
    ):
        await server.client.list(core_v1.ConfigMap, "default", label_selector="is=a")
    first = await server.client.list(core_v1.ConfigMap, "default", limit=1)
    await server.client.create(config_map("d"))
    with grows("apiserver_storage_list_total", resource="configmaps", storage="store"):
        await server.client.list(core_v1.ConfigMap, "default", limit=1, continue_=first.continue_)
    with grows("apiserver_watch_cache_consistent_read_total", by=0):
        await server.client.list(core_v1.ConfigMap, "default", resource_version="0")


@virtual
async def test_features_and_families_are_counted(server: Server) -> None:
    registry = server.app.metrics
    assert count("kubernetes_feature_enabled", registry, name_=features.CBOR, stage="ALPHA") == 0
    server.app.cbor = True
    assert count("kubernetes_feature_enabled", registry, name_=features.CBOR, stage="ALPHA") == 1
    assert count("registered_metrics_total", registry, stability_level="STABLE") > 5
    assert count("registered_metrics_total", registry, deprecated_version="1.34.0") == 1


@virtual
async def test_events_of_the_store_by_kind(server: Server) -> None:
    with grows("apiserver_storage_events_received_total", registry=server.app.metrics, resource="configmaps"):
        await server.client.create(config_map("a"))
        await server.client.list(core_v1.ConfigMap, "default")


def test_the_interpreter_is_shown() -> None:
    from podling import process_metrics

    registry = Registry()
    process_metrics.register(registry)
    assert count("python_info", registry, implementation="CPython") == 1
    assert count("python_gc_collections_total", registry, generation="0") > 0
    assert count("process_threads", registry) >= 1
