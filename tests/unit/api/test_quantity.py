"""Quantities: exact numbers, upstream's canonical forms."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podling.api import quantity
from podling.api.quantity import Format


@pytest.mark.parametrize(
    ("text", "canonical", "value", "milli"),
    [
        ("0", "0", 0, 0),
        ("-0", "0", 0, 0),
        ("100m", "100m", 1, 100),
        ("0.5", "500m", 1, 500),
        (".5", "500m", 1, 500),
        ("1000m", "1", 1, 1000),
        ("1500m", "1500m", 2, 1500),
        ("1000", "1k", 1000, 1_000_000),
        ("1024Mi", "1Gi", 2**30, 2**30 * 1000),
        ("1.5Gi", "1536Mi", 3 * 2**29, 3 * 2**29 * 1000),
        ("0.5Ki", "512", 512, 512_000),
        ("0.1Ki", "102400m", 103, 102_400),
        ("1025Ki", "1025Ki", 1025 * 1024, 1025 * 1024 * 1000),
        ("12e6", "12e6", 12_000_000, 12_000_000_000),
        ("1E3", "1E3", 1000, 1_000_000),
        ("1E", "1E", 10**18, 10**21),
        ("1Ei", "1Ei", 2**60, 2**60 * 1000),
        ("0.1n", "1n", 1, 1),
        ("-1.5", "-1500m", -1, -1500),
        ("9223372036854775807Ki", "9223372036854775807", 2**63 - 1, (2**63 - 1) * 1000),
        (0.25, "250m", 1, 250),
        (2, "2", 2, 2000),
    ],
)
def test_canonical_form_and_rounding(text: str, canonical: str, value: int, milli: int) -> None:
    found = quantity.parse(text)
    assert (str(found), found.value(), found.milli()) == (canonical, value, milli)


@pytest.mark.parametrize("text", ["", "x", "1 Gi", "1Gi ", "--1", "1.2.3", "1GiB", "0x10", "１"])
def test_malformed_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"quantities must match|unable to parse"):
        quantity.parse(text)


def test_upstreams_words_for_a_malformed_quantity() -> None:
    with pytest.raises(ValueError) as error:
        quantity.parse("1.2.3")
    assert str(error.value) == (
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
    )
    with pytest.raises(ValueError) as error:
        quantity.parse("1mm")
    assert str(error.value) == "unable to parse quantity's suffix"


def test_exponents_that_would_fill_the_memory_are_refused() -> None:
    with pytest.raises(ValueError, match="suffix"):
        quantity.parse("1e999999999")


def test_a_sum_takes_the_format_of_its_first_nonzero_part() -> None:
    total = quantity.ZERO + quantity.parse("512Mi")
    assert str(total + quantity.parse("1G")) == str(quantity.Quantity(total.nano + 10**18, Format.BINARY_SI))
    assert str(quantity.ZERO + quantity.parse("512Mi") + quantity.parse("512Mi")) == "1Gi"
    assert str(quantity.parse("1") - quantity.parse("250m")) == "750m"


def test_amounts_compare_by_number() -> None:
    assert quantity.parse("1Gi") > quantity.parse("1G")
    assert quantity.parse("1000m") == quantity.parse("1") == 1
    assert hash(quantity.parse("1k")) == hash(quantity.parse("1000"))
    assert max(map(quantity.parse, ["1", "1500m", "200m"])) == quantity.parse("1.5")


numbers = st.tuples(
    st.integers(-(10**12), 10**12), st.sampled_from(["n", "u", "m", "", "k", "M", "G", "T", "Ki", "Mi", "Gi"])
)


@given(numbers)
def test_the_canonical_form_means_the_same_and_is_stable(number: tuple[int, str]) -> None:
    found = quantity.parse(f"{number[0]}{number[1]}")
    again = quantity.parse(str(found))
    assert again == found
    assert str(again) == str(quantity.parse(str(again)))


@given(st.decimals(min_value=-(10**9), max_value=10**9, places=9, allow_nan=False, allow_infinity=False))
def test_decimals_are_exact(number: Decimal) -> None:
    assert quantity.parse(f"{number:f}").nano == int(number.scaleb(9))


@given(numbers, numbers)
def test_arithmetic_is_that_of_numbers(a: tuple[int, str], b: tuple[int, str]) -> None:
    x, y = (quantity.parse(f"{n}{s}") for n, s in (a, b))
    assert x + y - y == x
    assert (x < y) == (x.nano < y.nano)
    assert (x + y).value() == -(-(x.nano + y.nano) // 10**9)
