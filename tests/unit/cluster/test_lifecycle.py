"""What is refused before a process is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from podling.cluster import lifecycle
from podling.cluster.config import ClusterConfig, ClusterError, layout, save


@pytest.mark.parametrize(
    "broken", [{"nodes": 0}, {"pod_cidr": "x"}, {"port": 0}, {"name": ""}, {"simulate": True, "nodes": -1}]
)
def test_a_stored_configuration_that_can_not_work_is_called_damaged(tmp_path: Path, broken: dict[str, object]) -> None:
    paths = layout(tmp_path)
    save(paths, ClusterConfig(**broken))  # type: ignore[arg-type]
    with pytest.raises(ClusterError, match=r"cluster.json is damaged .*restore it"):
        lifecycle.settle(paths, ClusterConfig(), set())


def test_a_stored_configuration_is_taken(tmp_path: Path) -> None:
    paths = layout(tmp_path)
    save(paths, ClusterConfig(nodes=2))
    assert lifecycle.settle(paths, ClusterConfig(), set()).nodes == 2
