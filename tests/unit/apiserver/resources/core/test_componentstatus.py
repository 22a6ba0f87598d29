from __future__ import annotations

from typing import Any

import pytest

from tests.unit.apiserver.resources.kinds import Kind

COMPONENT = Kind("v1", "ComponentStatus")


@pytest.mark.parametrize(
    ("conditions", "cells"),
    [
        ([], ["Unknown", "", ""]),
        ([{"type": "Healthy", "status": "True", "message": "ok"}], ["Healthy", "ok", ""]),
        ([{"type": "Healthy", "status": "False", "error": "refused"}], ["Unhealthy", "", "refused"]),
        ([{"type": "Odd", "status": "True"}], ["Unknown", "", ""]),
    ],
)
def test_row(conditions: list[Any], cells: list[str]) -> None:
    row = COMPONENT.row({"metadata": {"name": "scheduler"}, "conditions": conditions})
    assert row == dict(zip(("Name", "Status", "Message", "Error"), ["scheduler", *cells], strict=True))
