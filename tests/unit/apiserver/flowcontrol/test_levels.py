"""All priority levels: shares, borrowing, what is missing, what is no longer wanted."""

from __future__ import annotations

from typing import Any

import pytest

from podling.api import flowcontrol_v1 as v1
from podling.api import struct
from podling.api.request import User
from podling.apiserver.flowcontrol import bootstrap
from podling.apiserver.flowcontrol.levels import Levels, sound
from podling.apiserver.flowcontrol.queueset import Request
from podling.apiserver.request_info import resolve

LIST_PODS = resolve("GET", "/api/v1/pods", {})


def of(kind: type[Any]) -> list[Any]:
    return [o for o in bootstrap.objects() if isinstance(o, kind)]


def levels(total: int = 600) -> Levels:
    made = Levels(total, 0.0)
    made.digest(of(v1.PriorityLevelConfiguration), of(v1.FlowSchema), 0.0)
    return made


def limited(name: str, shares: int, **spec: Any) -> v1.PriorityLevelConfiguration:
    queuing = {"queues": 4, "handSize": 2, "queueLengthLimit": 5}
    raw = {
        "metadata": {"name": name, "uid": f"uid-of-{name}"},
        "spec": {
            "type": "Limited",
            "limited": {
                "nominalConcurrencyShares": shares,
                "limitResponse": {"type": "Queue", "queuing": queuing},
                **spec,
            },
        },
    }
    made: v1.PriorityLevelConfiguration = struct.from_dict(raw, v1.PriorityLevelConfiguration)
    return made


def schema(name: str, level: str, user: str, precedence: int = 500) -> v1.FlowSchema:
    everything = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], "clusterScope": True}
    raw = {
        "metadata": {"name": name, "uid": f"uid-of-{name}"},
        "spec": {
            "matchingPrecedence": precedence,
            "priorityLevelConfiguration": {"name": level},
            "distinguisherMethod": {"type": "ByUser"},
            "rules": [{"subjects": [{"kind": "User", "user": {"name": user}}], "resourceRules": [everything]}],
        },
    }
    made: v1.FlowSchema = struct.from_dict(raw, v1.FlowSchema)
    return made


def use(made: Levels, name: str, seats: int, start: float, end: float) -> None:
    """So many seats of a level are wanted all the time."""
    level = made.levels[name]
    level.set.demand.set(seats, start)
    level.set.demand.set(0, end)


def test_the_seats_of_every_cluster() -> None:
    found = {name: (lv.nominal, lv.lowest, lv.highest, lv.max_seats) for name, lv in levels().levels.items()}
    assert found == {
        "exempt": (0, 0, 600, 10),
        "catch-all": (13, 13, 613, 10),
        "system": (74, 50, 674, 10),
        "node-high": (98, 73, 698, 10),
        "leader-election": (25, 25, 625, 4),
        "workload-high": (98, 49, 698, 10),
        "workload-low": (245, 24, 845, 10),
        "global-default": (49, 24, 649, 8),
    }


def test_seats_that_nobody_wants_are_shared_out_all_the_same() -> None:
    made = levels()
    assert sum(lv.limit for lv in made.levels.values()) == pytest.approx(602, abs=4)
    assert all(lv.lowest <= lv.limit <= lv.highest for lv in made.levels.values() if not lv.exempt)
    assert all(lv.set.limit == lv.limit for lv in made.levels.values())


def test_idle_levels_lend_to_busy_ones_and_get_back_what_is_theirs() -> None:
    made = levels()
    for period in range(30):
        use(made, "workload-low", 500, period * 10.0, period * 10.0 + 10)
        made.rebalance(period * 10.0 + 10)
    low = made.levels["workload-low"]
    # All that the others lend: 602 seats less the lower bounds of the others.
    assert low.limit == pytest.approx(602 - (13 + 50 + 73 + 25 + 49 + 24), abs=4)
    assert made.levels["system"].limit == 50
    use(made, "system", 74, 300.0, 310.0)
    use(made, "workload-low", 500, 300.0, 310.0)
    made.rebalance(310.0)
    assert made.levels["system"].limit == 74


def test_borrowing_has_its_limit() -> None:
    made = Levels(100, 0.0)
    made.digest([limited("small", 1, borrowingLimitPercent=50), limited("big", 9, lendablePercent=100)], [], 0.0)
    small, big = made.levels["small"], made.levels["big"]
    # 15 shares, with catch-all's: 7 seats and half as many.
    assert (small.nominal, small.highest, big.nominal, big.lowest) == (7, 11, 60, 0)
    for period in range(20):
        use(made, "small", 80, period * 10.0, period * 10.0 + 10)
        made.rebalance(period * 10.0 + 10)
    assert small.limit == 11


def test_what_the_exempt_use_is_not_there_for_others() -> None:
    made = levels(60)
    use(made, "exempt", 40, 0.0, 10.0)
    made.rebalance(10.0)
    assert made.levels["exempt"].limit == 40
    others = [lv for lv in made.levels.values() if not lv.exempt]
    assert all(lv.limit == lv.lowest for lv in others)


def test_the_mandatory_are_there_without_objects() -> None:
    made = Levels(600, 0.0)
    assert set(made.levels) == {"exempt", "catch-all"}
    assert made.flow(User("admin", ("system:masters",)), LIST_PODS).level.name == "exempt"
    flow = made.flow(User("ann", ("system:authenticated",)), LIST_PODS)
    assert (flow.schema, flow.level.limit) == ("catch-all", 600)


def test_schemas_without_a_level_are_not_asked() -> None:
    made = Levels(600, 0.0)
    made.digest([], [schema("mine", "nowhere", "ann")], 0.0)
    assert made.flow(User("ann", ("system:authenticated",)), LIST_PODS).schema == "catch-all"
    made.digest([limited("nowhere", 1)], [schema("mine", "nowhere", "ann")], 0.0)
    flow = made.flow(User("ann", ("system:authenticated",)), LIST_PODS)
    assert (flow.schema, flow.distinguisher, len(flow.hand)) == ("mine", "ann", 2)
    assert flow.headers == (
        "X-Kubernetes-PF-FlowSchema-UID: uid-of-mine\r\nX-Kubernetes-PF-PriorityLevel-UID: uid-of-nowhere\r\n"
    )
    assert made.flow(User("ann", ("system:authenticated",)), LIST_PODS) is flow


def test_a_level_that_is_gone_stays_until_its_requests_have_ended() -> None:
    made = Levels(600, 0.0)
    made.digest([limited("mine", 5)], [schema("mine", "mine", "ann")], 0.0)
    flow = made.flow(User("ann"), LIST_PODS)
    request = Request(flow.schema, flow.distinguisher, flow.stats)
    flow.level.set.start(request, flow.hand, 1.0)
    made.digest([], [], 2.0)
    assert flow.level.quiescing and made.levels["mine"].nominal == 300
    assert made.flow(User("ann", ("system:authenticated",)), LIST_PODS).schema == "catch-all"
    flow.level.set.finish(request, 3.0)
    flow.level.set.release(request, 3.0)
    made.drained(3.0)
    assert set(made.levels) == {"exempt", "catch-all"} and made.levels["catch-all"].nominal == 600


def test_a_level_that_comes_back_goes_on() -> None:
    made = Levels(600, 0.0)
    made.digest([limited("mine", 5)], [], 0.0)
    level = made.levels["mine"]
    level.set.start(Request("s", "", level.stats.setdefault("s", made.flow(User("a"), LIST_PODS).stats)), (0,), 0.0)
    made.digest([], [], 1.0)
    made.digest([limited("mine", 15)], [], 2.0)
    assert made.levels["mine"] is level and not level.quiescing and level.nominal == 450


@pytest.mark.parametrize(
    "spec",
    [
        {"type": "Exempt", "exempt": {}},
        {"type": "Limited"},
        {"type": "Limited", "exempt": {}, "limited": {"limitResponse": {"type": "Reject"}}},
        {"type": "Limited", "limited": {"limitResponse": {"type": "Queue"}}},
        {"type": "Limited", "limited": {"limitResponse": {"type": "Reject", "queuing": {"queues": 1, "handSize": 1}}}},
        {"type": "Limited", "limited": {"limitResponse": {"type": "Queue", "queuing": {"queues": 1, "handSize": 2}}}},
    ],
)
def test_objects_whose_parts_do_not_fit_are_left_out(spec: dict[str, Any]) -> None:
    raw = {"metadata": {"name": "odd"}, "spec": spec}
    odd = struct.from_dict(raw, v1.PriorityLevelConfiguration)
    assert not sound(odd)
    made = Levels(600, 0.0)
    made.digest([odd], [], 0.0)
    assert "odd" not in made.levels
