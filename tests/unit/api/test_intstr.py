"""Numbers or percentages."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podling.api import intstr


@pytest.mark.parametrize(
    ("value", "total", "up", "expected"),
    [(3, 10, True, 3), ("25%", 10, True, 3), ("25%", 10, False, 2), ("0%", 10, True, 0), ("150%", 2, True, 3)],
)
def test_scaled(value: int | str, total: int, up: bool, expected: int) -> None:
    assert intstr.scaled(value, total, up) == expected


@pytest.mark.parametrize("value", ["5", "", "abc", "x%", "9" * 5000 + "%"])
def test_scaled_refuses_what_is_no_percentage(value: str) -> None:
    with pytest.raises(ValueError, match="invalid value for IntOrString: "):
        intstr.scaled(value, 10, True)


@given(st.integers(0, 1000), st.integers(0, 10**6))
def test_rounding_brackets_the_exact_share(share: int, total: int) -> None:
    low, high = intstr.scaled(f"{share}%", total, False), intstr.scaled(f"{share}%", total, True)
    assert low <= share * total / 100 <= high and high - low <= 1
    assert math.ceil(share * total / 100 - 1e-9) <= high


def test_parts() -> None:
    assert intstr.percent("25%") == 25 and intstr.percent(25) is None and intstr.percent("x%") is None
    assert intstr.percent("9" * 5000 + "%") == intstr.integer("9" * 5000) == 2**63 - 1
    assert intstr.of("9" * 5000) == "9" * 5000
    assert intstr.integer(5) == 5 and intstr.integer("7") == 7 and intstr.integer("http") == 0
    assert intstr.of("80") == 80 and intstr.of("http") == "http" and intstr.of("99999999999") == "99999999999"
