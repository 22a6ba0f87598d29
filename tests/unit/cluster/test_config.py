"""What a cluster is made of: checked before anything starts, and kept."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from podling.cluster import lifecycle
from podling.cluster.config import ClusterConfig, ClusterError, check, layout, load, save


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    paths = layout(tmp_path)
    assert load(paths) is None
    config = ClusterConfig(name="mine", nodes=3, port=7443)
    save(paths, config)
    assert load(paths) == config


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (ClusterConfig(name="Bad_Name"), "lower-case"),
        (ClusterConfig(port=0), "--port 0"),
        (ClusterConfig(nodes=0), "--nodes 0"),
        (ClusterConfig(nodes=101), "100 nodes"),
        (ClusterConfig(pod_cidr="10.0.0.0/40"), "--pod-cidr"),
        (ClusterConfig(pod_cidr="10.96.0.0/12"), "overlaps"),
        (ClusterConfig(node_cidr="10.244.1.0/24"), "--node-cidr 10.244.1.0/24 overlaps --pod-cidr"),
    ],
)
def test_what_can_not_work_is_one_sentence(config: ClusterConfig, text: str) -> None:
    with pytest.raises(ClusterError, match=re.escape(text)):
        check(config)


def test_addresses_follow_from_the_ranges() -> None:
    config = ClusterConfig(nodes=2)
    assert (config.api_service_ip, config.dns_ip, config.host_ip) == ("10.96.0.1", "10.96.0.10", "10.213.0.1")
    assert [config.node_ip(n) for n in range(2)] == ["10.213.0.11", "10.213.0.12"]
    assert ClusterConfig().node_ip(0) == "10.213.0.1"
    assert config.node_names == ["podling-1", "podling-2"]


def test_long_names_get_short_ids_that_differ() -> None:
    ids = {ClusterConfig(name=f"a-rather-long-name-{n}").short_id for n in range(50)}
    assert len(ids) == 50
    assert all(len(i) <= 8 for i in ids)


@pytest.mark.parametrize(
    ("text", "message"),
    [('{"format": 99}', "data format 99"), ("{", "damaged"), ('{"format": 1, "nonsense": 1}', "damaged")],
)
def test_foreign_and_damaged_directories_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "cluster.json").write_text(text)
    with pytest.raises(ClusterError, match=message):
        load(layout(tmp_path))


def test_an_option_that_contradicts_the_cluster_is_refused(tmp_path: Path) -> None:
    paths = layout(tmp_path)
    save(paths, ClusterConfig(nodes=2))
    assert lifecycle.settle(paths, ClusterConfig(), set()).nodes == 2
    assert lifecycle.settle(paths, ClusterConfig(nodes=2), {"nodes"}).nodes == 2
    with pytest.raises(ClusterError, match="has --nodes 2, not 5"):
        lifecycle.settle(paths, ClusterConfig(nodes=5), {"nodes"})


def test_directories_of_one_name_do_not_share_a_run_directory() -> None:
    one, other = layout(Path("/a/cluster")), layout(Path("/b/cluster"))
    assert one.run != other.run
