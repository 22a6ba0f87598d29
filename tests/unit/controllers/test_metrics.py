"""What controllers count: the scenarios are those of their own tests."""

from __future__ import annotations

from controllers import test_cronjob, test_endpoints, test_nodes
from controllers import test_job as jobs
from podling.controllers.node_lifecycle import NodeLifecycleController
from tests.unit.controllers.cluster import Cluster
from tests.unit.measured import count, grows

PREFIX = "job_controller_"


def test_a_job_that_completes() -> None:
    before = count(f"{PREFIX}job_sync_duration_seconds")
    with (
        grows(f"{PREFIX}jobs_finished_total", result="succeeded", reason="CompletionsReached"),
        grows(f"{PREFIX}job_pods_finished_total", by=5, result="succeeded", completion_mode="NonIndexed"),
        grows(f"{PREFIX}job_pods_finished_total", by=0, result="failed"),
    ):
        jobs.test_a_job_completes_with_its_parallelism_kept()
    assert count(f"{PREFIX}job_sync_duration_seconds") > before
    for action in ("pods_created", "tracking"):
        assert count(f"{PREFIX}job_syncs_total", action=action, result="success", completion_mode="NonIndexed") > 0


def test_failures_that_a_policy_judges() -> None:
    handled = f"{PREFIX}pod_failures_handled_by_failure_policy_total"

    async def ignored(cluster: Cluster, workers: jobs.Workers) -> None:
        policy = jobs.policy("Ignore")
        await cluster.client.create(jobs.job(completions=1, backoff_limit=0, pod_failure_policy=policy))
        await jobs.finished(cluster)

    tries = iter((42, 42, 0))
    with grows(handled, action="Ignore", by=2), grows(f"{PREFIX}job_pods_finished_total", by=0, result="failed"):
        jobs.in_cluster(ignored, lambda pod: next(tries))

    async def failed(cluster: Cluster, workers: jobs.Workers) -> None:
        await cluster.client.create(jobs.job(completions=1, pod_failure_policy=jobs.policy("FailJob")))
        await jobs.finished(cluster)

    with (
        grows(handled, action="FailJob"),
        grows(f"{PREFIX}jobs_finished_total", result="failed", reason="PodFailurePolicy"),
    ):
        jobs.in_cluster(failed, lambda pod: 42)


def test_jobs_that_go_when_their_time_is_over() -> None:
    async def main(cluster: Cluster, workers: jobs.Workers) -> None:
        await cluster.client.create(jobs.job(completions=1, ttl_seconds_after_finished=10))
        await jobs.finished(cluster)
        await cluster.settle(30)
        assert (await jobs.current(cluster)).metadata.deletion_timestamp

    with grows("ttl_after_finished_controller_job_deletion_duration_seconds"):
        jobs.in_cluster(main, lambda pod: 0)


def test_cron_jobs_by_their_delay() -> None:
    name = "cronjob_controller_job_creation_skew_duration_seconds"
    before = count(name)
    test_cronjob.test_a_job_is_made_whenever_it_is_time()
    assert count(name) > before


def test_nodes_by_zone() -> None:
    async def main(cluster: Cluster) -> None:
        hearts = [await test_nodes.add_node(cluster, f"n{i}") for i in range(4)]
        await cluster.settle(1)
        assert count("node_collector_zone_size", zone="") == 4
        assert count("node_collector_zone_health", zone="") == 100
        await hearts[0].stop()
        with grows("node_collector_evictions_total", zone=""):
            await cluster.settle(100)
        assert count("node_collector_unhealthy_nodes_in_zone", zone="") == 1
        assert count("node_collector_zone_health", zone="") == 75
        for heart in hearts[1:]:
            await heart.stop()

    test_nodes.in_cluster(main, NodeLifecycleController)


def test_pods_that_leave_a_tainted_node() -> None:
    durations = "taint_eviction_controller_pod_deletion_duration_seconds"
    with grows("taint_eviction_controller_pod_deletions_total", by=3), grows(durations, by=3):
        test_nodes.test_pods_leave_a_tainted_node_each_when_its_seconds_are_over()


def test_pods_of_a_node_that_is_gone() -> None:
    with grows("pod_gc_collector_force_delete_pods_total", by=2, namespace="default", reason="orphaned"):
        test_nodes.test_pods_of_a_node_that_is_gone_are_removed_after_quarantine()


def test_slices() -> None:
    prefix = "endpoint_slice_controller_"
    before = count(f"{prefix}endpoints_added_per_sync")
    with grows(f"{prefix}changes", operation="create"):
        test_endpoints.test_slices_follow_pods_from_unready_to_ready_to_terminating_to_gone()
    assert count(f"{prefix}endpoints_added_per_sync") > before
    assert count(f"{prefix}syncs", result="success") > 0
    assert count(f"{prefix}changes", operation="update") > 0


def test_what_services_have_together() -> None:
    from podling.api import core_v1
    from podling.controllers import slices
    from podling.controllers.slice_metrics import SliceCounts
    from tests.unit.controllers.test_slices import BLANK, HTTP, endpoint

    counts = SliceCounts(3)
    service = core_v1.Service(spec=core_v1.ServiceSpec(traffic_distribution="PreferSameZone"))
    wanted = {HTTP: [endpoint(n) for n in range(7)]}
    name = "endpoint_slice_controller_services_count_by_traffic_distribution"
    with (
        grows("endpoint_slice_controller_endpoints_desired", by=7),
        grows("endpoint_slice_controller_num_endpoint_slices", by=3),
        grows("endpoint_slice_controller_desired_endpoint_slices", by=3),
        grows(name, traffic_distribution="PreferSameZone"),
    ):
        counts.synced("n/web", service, wanted, [], slices.plan(wanted, [], BLANK, 3))
    with (
        grows("endpoint_slice_controller_endpoints_desired", by=-7),
        grows(name, traffic_distribution="PreferSameZone", by=-1),
    ):
        counts.forget("n/web")
