"""How much a volume in memory may hold."""

from typing import Any

import pytest

from podling.volumes.tmpfs import size_limit
from tests.unit.volumes.fakes import FakeLookup, context, pod

GI = 1 << 30


def _containers(*limits: str | None) -> list[dict[str, Any]]:
    return [
        {"name": f"c{n}", "image": "i", "resources": {"limits": {"memory": limit}} if limit else {}}
        for n, limit in enumerate(limits)
    ]


@pytest.mark.parametrize(
    ("limits", "own", "size"),
    [
        ([None], None, 8 * GI),
        ([None], "1Gi", GI),
        ([None], "16Gi", 8 * GI),
        (["1Gi", "2Gi"], None, 3 * GI),
        (["1Gi", None], None, 8 * GI),
        (["1Gi"], "2Gi", GI),
        (["1Gi"], "0", GI),
    ],
)
def test_the_least_of_all_limits(limits: list[str | None], own: str | None, size: int) -> None:
    of = pod({"name": "v", "emptyDir": {}}, containers=_containers(*limits))
    assert size_limit(context(of, FakeLookup()), own) == size
