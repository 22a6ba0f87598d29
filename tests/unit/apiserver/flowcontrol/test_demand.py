"""The mean, deviation and peak of a number over time."""

from __future__ import annotations

import pytest

from podling.apiserver.flowcontrol.demand import DemandMeter


def test_mean_and_deviation_are_weighted_by_time() -> None:
    meter = DemandMeter(100.0)
    meter.set(4, 101.0)
    meter.set(2, 102.0)
    found = meter.reset(104.0)
    # 0 for 1 s, 4 for 1 s, 2 for 2 s.
    assert (found.seconds, found.average, found.high) == (4.0, 2.0, 4.0)
    assert found.deviation == pytest.approx(2**0.5)


def test_a_period_begins_with_what_there_is() -> None:
    meter = DemandMeter(0.0)
    meter.set(3, 0.0)
    meter.reset(1.0)
    assert meter.reset(11.0) == (10.0, 3.0, 0.0, 3.0)
    assert meter.reset(11.0) == (0.0, 0.0, 0.0, 3.0)
