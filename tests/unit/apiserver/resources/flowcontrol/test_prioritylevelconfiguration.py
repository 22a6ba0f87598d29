from __future__ import annotations

from typing import Any

import pytest

from podling.api.struct import to_dict
from podling.apiserver.resources.flowcontrol import mandatory
from tests.unit.apiserver.resources.kinds import Kind, changed

LEVEL = Kind("flowcontrol.apiserver.k8s.io/v1", "PriorityLevelConfiguration")
LOW: dict[str, Any] = {
    "metadata": {"name": "low"},
    "spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Queue", "queuing": {}}}},
}
RESPONSE = "spec__limited__limitResponse"


def test_defaults() -> None:
    assert LEVEL.defaulted(LOW)["spec"]["limited"] == {
        "nominalConcurrencyShares": 30,
        "lendablePercent": 0,
        "limitResponse": {"type": "Queue", "queuing": {"handSize": 8, "queues": 64, "queueLengthLimit": 50}},
    }
    assert LEVEL.create(LOW) == []


@pytest.mark.parametrize(
    ("changes", "findings"),
    [
        ({"spec__type": "Exempt"}, [
            "spec.type: Invalid value: \"Exempt\": type must be 'Exempt' if and only if name is 'exempt'",
            "spec.limited: Forbidden: must be nil if the type is not Limited",
        ]),
        ({"spec__type": "X"}, ['spec.type: Unsupported value: "X": supported values: "Exempt", "Limited"']),
        ({"spec__exempt": {}}, ["spec.exempt: Forbidden: must be nil if the type is Limited"]),
        ({"spec": {"type": "Limited"}}, ["spec.limited: Required value: must not be empty when type is Limited"]),
        ({"spec__limited__nominalConcurrencyShares": -1}, [
            "spec.limited.nominalConcurrencyShares: Invalid value: -1: must be a non-negative integer"
        ]),
        ({"spec__limited__lendablePercent": 101}, [
            "spec.limited.lendablePercent: Invalid value: 101: must be between 0 and 100, inclusive"
        ]),
        ({"spec__limited__borrowingLimitPercent": -1}, [
            "spec.limited.borrowingLimitPercent: Invalid value: -1: if specified, must be a non-negative integer"
        ]),
        ({f"{RESPONSE}__type": "Reject"}, [
            "spec.limited.limitResponse.queuing: Forbidden: must be nil if limited.limitResponse.type is not Limited"
        ]),
        ({RESPONSE: {"type": "Queue"}}, [
            "spec.limited.limitResponse.queuing: Required value: "
            "must not be empty if limited.limitResponse.type is Limited"
        ]),
        ({f"{RESPONSE}__queuing": {"queues": 10_000_001, "handSize": 2}}, [
            "spec.limited.limitResponse.queuing.queues: Invalid value: 10000001: must not be greater than 10000000"
        ]),
        ({f"{RESPONSE}__queuing": {"queues": 4, "handSize": 5}}, [
            "spec.limited.limitResponse.queuing.handSize: Invalid value: 5: should not be greater than queues (4)"
        ]),
        ({f"{RESPONSE}__queuing": {"queues": 512, "handSize": 8, "queueLengthLimit": -1}}, [
            "spec.limited.limitResponse.queuing.queueLengthLimit: Invalid value: -1: must be positive",
            "spec.limited.limitResponse.queuing.handSize: Invalid value: 8: required entropy bits of deckSize 512 and "
            "handSize 8 should not be greater than 60",
        ]),
    ],
)  # fmt: skip
def test_invalid(changes: dict[str, Any], findings: list[str]) -> None:
    assert LEVEL.create(changed(LOW, **changes)) == findings


def test_mandatory_ones_do_not_change() -> None:
    rest = {"metadata": {"name": "catch-all"}, "spec": to_dict(mandatory.PRIORITY_LEVELS["catch-all"])}
    assert LEVEL.create(rest) == []
    (found,) = LEVEL.update(changed(rest, spec__limited__lendablePercent=1), rest)
    assert found.endswith("spec of 'catch-all' must equal the fixed value")


def test_of_the_exempt_level_only_its_shares_change() -> None:
    exempt = {"metadata": {"name": "exempt"}, "spec": {"type": "Exempt", "exempt": {"nominalConcurrencyShares": 7}}}
    assert LEVEL.create(exempt) == []
    found = LEVEL.create(changed(exempt, spec__limited={"limitResponse": {"type": "Reject"}}))
    assert found[-1].endswith("spec of 'exempt' except the 'spec.exempt' field must equal the fixed value")


def test_row() -> None:
    assert LEVEL.row(LOW) == {
        "Name": "low",
        "Type": "Limited",
        "NominalConcurrencyShares": 30,
        "Queues": 64,
        "HandSize": 8,
        "QueueLengthLimit": 50,
        "Age": "<unknown>",
    }
