from __future__ import annotations

from typing import Any

import pytest

from tests.unit.apiserver.resources.kinds import Kind, changed

RUNTIME = Kind("node.k8s.io/v1", "RuntimeClass")
KATA: dict[str, Any] = {
    "metadata": {"name": "kata"},
    "handler": "kata",
    "overhead": {"podFixed": {"cpu": "100m", "memory": "64Mi"}},
    "scheduling": {"nodeSelector": {"vm": "yes"}, "tolerations": [{"key": "vm", "operator": "Exists"}]},
}


@pytest.mark.parametrize(
    ("changes", "starts"),
    [
        ({}, []),
        ({"handler": "Kata"}, ['handler: Invalid value: "Kata": a lowercase RFC 1123 label must consist of']),
        ({"overhead__podFixed": {"cpu": "-1"}}, [
            'overhead.limits[cpu]: Invalid value: "-1": must be greater than or equal to 0'
        ]),
        ({"scheduling__nodeSelector": {"vm": "?"}}, ['scheduling.nodeSelector: Invalid value: "?": a valid label']),
        ({"scheduling__tolerations": [{"operator": "Sometimes", "key": "k"}]}, [
            'scheduling.tolerations[0].operator: Unsupported value: "Sometimes"'
        ]),
    ],
)  # fmt: skip
def test_create(changes: dict[str, Any], starts: list[str]) -> None:
    found = RUNTIME.create(changed(KATA, **changes))
    assert len(found) == len(starts)
    for finding, start in zip(found, starts, strict=True):
        assert finding.startswith(start)


def test_the_handler_is_immutable() -> None:
    assert RUNTIME.update(changed(KATA, handler="runc"), KATA) == ['handler: Invalid value: "runc": field is immutable']
    assert RUNTIME.row(KATA) == {"Name": "kata", "Handler": "kata", "Age": "<unknown>"}
