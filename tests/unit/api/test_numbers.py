"""Numbers as Go reads them."""

from __future__ import annotations

import pytest

from podling.api import numbers

NO_NUMBER = ["", "+", "x", "1_0", " 1", "1 ", "1.5", "0x1", "\u00b2", "\u0663", "--1"]


@pytest.mark.parametrize("text", NO_NUMBER)
def test_what_is_no_number(text: str) -> None:
    for parse, name in ((numbers.parse_int, "ParseInt"), (numbers.parse_uint, "ParseUint"), (numbers.atoi, "Atoi")):
        with pytest.raises(numbers.NumberError) as caught:
            parse(text)
        assert str(caught.value) == f'strconv.{name}: parsing "{text}": invalid syntax'
    assert numbers.nearest(text) == 0 and not numbers.is_decimal(text)


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("007", 7), ("+5", 5), ("-5", -5), (str(-(2**63)), -(2**63))])
def test_signed(text: str, value: int) -> None:
    assert numbers.parse_int(text) == numbers.atoi(text) == numbers.nearest(text) == value


def test_a_sign_is_none_of_an_unsigned_number() -> None:
    for text in ("-1", "+1"):
        with pytest.raises(numbers.NumberError, match="invalid syntax"):
            numbers.parse_uint(text)
        assert not numbers.is_decimal(text)


@pytest.mark.parametrize(("text", "nearest"), [
    (str(2**63), 2**63 - 1), (str(-(2**63) - 1), -(2**63)), ("9" * 5000, 2**63 - 1), ("-" + "9" * 5000, -(2**63)),
])  # fmt: skip
def test_out_of_range(text: str, nearest: int) -> None:
    with pytest.raises(numbers.NumberError, match="value out of range"):
        numbers.parse_int(text)
    assert numbers.nearest(text) == nearest


def test_the_range_of_unsigned_numbers() -> None:
    assert numbers.parse_uint(str(2**64 - 1)) == 2**64 - 1
    for text in (str(2**64), "9" * 5000):
        with pytest.raises(numbers.NumberError, match="value out of range"):
            numbers.parse_uint(text)


def test_what_is_quoted_is_quoted_wholly() -> None:
    with pytest.raises(numbers.NumberError) as caught:
        numbers.parse_int('a"b')
    assert str(caught.value) == r'strconv.ParseInt: parsing "a\"b": invalid syntax'


def test_many_digits_are_no_decimal_that_can_be_read() -> None:
    assert numbers.is_decimal("9" * 1000) and not numbers.is_decimal("9" * 5000)
