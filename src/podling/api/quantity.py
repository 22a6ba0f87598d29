"""Resource amounts such as `500m`, `1Gi` or `12e6`: exact numbers, never floats.

An amount is a whole number of nano-units, which is the finest that Kubernetes keeps (finer ones are rounded away from
zero). How it was written decides how it is printed: binary suffixes, decimal suffixes or a decimal exponent, always
with no fraction and the largest suffix that keeps the number whole. The rules are those of k8s.io/apimachinery's
resource.Quantity.
"""

from __future__ import annotations

import re
from enum import Enum
from functools import lru_cache, total_ordering

_NANO = 10**9
_MAX_INT64 = 2**63 - 1
#: Beyond it a number is a mistake or an attack: its digits alone would fill the memory.
_MAX_EXPONENT = 4096

_SPLIT = re.compile(r"([+-]?)([0-9]*)(?:(\.)([0-9]*))?([eEinumkKMGTP]*[-+]?[0-9]*)", re.ASCII)
_SHAPE = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
_SUFFIX = "unable to parse quantity's suffix"
_NUMERIC = "unable to parse numeric part of quantity"

_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_DECIMAL_NAME = {exponent: name for name, exponent in _DECIMAL.items()}
_BINARY_NAME = {0: ""} | {exponent: name for name, exponent in _BINARY.items()}


class Format(Enum):
    """How an amount is printed."""

    DECIMAL_EXPONENT = "DecimalExponent"
    BINARY_SI = "BinarySI"
    DECIMAL_SI = "DecimalSI"


@total_ordering
class Quantity:
    """An exact, immutable amount. Comparisons and arithmetic look at the number only; `str()` is the canonical form."""

    __slots__ = ("_text", "format", "nano")

    def __init__(self, nano: int, format: Format = Format.DECIMAL_SI, text: str | None = None) -> None:
        self.nano = nano
        self.format = format
        self._text = text

    def value(self) -> int:
        """Whole units, rounded up."""
        return -(-self.nano // _NANO)

    def milli(self) -> int:
        """Thousandths, rounded up."""
        return -(-self.nano // 10**6)

    @property
    def is_zero(self) -> bool:
        return self.nano == 0

    @property
    def sign(self) -> int:
        """-1, 0 or 1."""
        return (self.nano > 0) - (self.nano < 0)

    def __float__(self) -> float:
        return self.nano / _NANO

    def __bool__(self) -> bool:
        return self.nano != 0

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Quantity):
            return self.nano == other.nano
        if isinstance(other, int):
            return self.nano == other * _NANO
        return NotImplemented

    def __lt__(self, other: Quantity | int) -> bool:
        return self.nano < (other.nano if isinstance(other, Quantity) else other * _NANO)

    def __hash__(self) -> int:
        return hash(self.nano)

    def __add__(self, other: Quantity) -> Quantity:
        # An empty sum takes the format of what is added first.
        return Quantity(self.nano + other.nano, other.format if self.nano == 0 else self.format)

    def __sub__(self, other: Quantity) -> Quantity:
        return Quantity(self.nano - other.nano, other.format if self.nano == 0 else self.format)

    def __mul__(self, factor: int) -> Quantity:
        return Quantity(self.nano * factor, self.format)

    def __neg__(self) -> Quantity:
        return Quantity(-self.nano, self.format)

    def __str__(self) -> str:
        if self._text is None:
            self._text = _canonical(self.nano, self.format)
        return self._text

    def __repr__(self) -> str:
        return f"Quantity({str(self)!r})"


def of(value: int, format: Format = Format.DECIMAL_SI) -> Quantity:
    """`value` whole units."""
    return Quantity(value * _NANO, format)


def of_milli(value: int, format: Format = Format.DECIMAL_SI) -> Quantity:
    """`value` thousandths."""
    return Quantity(value * 10**6, format)


ZERO = Quantity(0, Format.DECIMAL_SI, "0")


def parse(value: str | int | float) -> Quantity:
    """The amount that `value` (as it stands on the wire) means. Raises ValueError with upstream's text."""
    return _parse(value if isinstance(value, str) else str(value))


def canonical(value: str | int | float) -> str:
    """The canonical form of what stands on the wire. Raises ValueError."""
    return str(parse(value))


@lru_cache(maxsize=4096)
def _parse(text: str) -> Quantity:
    found = _SPLIT.fullmatch(text)
    if not text or found is None:
        raise ValueError(_SHAPE)
    sign, whole, _, fraction, suffix = found.groups()
    fraction = fraction or ""
    base, exponent, format = _interpret(suffix)
    whole = whole.lstrip("0") or "0"
    if len(whole) + len(fraction) > _MAX_EXPONENT:
        raise ValueError(_NUMERIC)
    digits = whole + fraction
    if text == "0":
        return ZERO
    nano, exact = _nano(int(digits), len(fraction), base, exponent)
    if format is Format.BINARY_SI:
        if nano > _MAX_INT64 * _NANO:
            nano = _MAX_INT64 * _NANO
        if fraction and 0 < nano < _NANO:
            format = Format.DECIMAL_SI
    kept = _kept_text(text, whole, fraction, exponent, format) if exact else None
    return Quantity(-nano if sign == "-" else nano, format, kept)


def _interpret(suffix: str) -> tuple[int, int, Format]:
    decimal = _DECIMAL.get(suffix)
    if decimal is not None:
        return 10, decimal, Format.DECIMAL_SI
    binary = _BINARY.get(suffix)
    if binary is not None:
        return 2, binary, Format.BINARY_SI
    if len(suffix) > 1 and suffix[0] in "eE":
        try:
            exponent = int(suffix[1:])
        except ValueError:
            raise ValueError(_SUFFIX) from None
        if abs(exponent) <= _MAX_EXPONENT:
            return 10, exponent, Format.DECIMAL_EXPONENT
    raise ValueError(_SUFFIX)


def _nano(digits: int, places: int, base: int, exponent: int) -> tuple[int, bool]:
    """Nano-units of `digits` / 10^places * base^exponent, rounded up, and whether that was exact."""
    if base == 2:
        digits <<= exponent
        exponent = 0
    shift = 9 + exponent - places
    if shift >= 0:
        return digits * 10**shift, True
    divisor = 10**-shift
    return -(-digits // divisor), digits % divisor == 0


def _kept_text(text: str, whole: str, fraction: str, exponent: int, format: Format) -> str | None:
    """`text` itself where upstream keeps what was written, because a cheap test finds it canonical."""
    digits = len(whole) + len(fraction)
    if format is Format.BINARY_SI:
        fits = not fraction and 15 - digits - exponent * 3 // 10 - 1 >= 0 and int(whole) << exponent <= _MAX_INT64
        return text if fits and int(whole) & 7 else None
    scale = exponent - len(fraction)
    shifted = whole + fraction
    if digits > 18 or scale < -9 or scale % 3 or shifted.endswith("000") or shifted[0] == "0":
        return None
    return text


def _canonical(nano: int, format: Format) -> str:
    if nano == 0:
        return "0"
    if format is Format.BINARY_SI:
        units, rest = divmod(nano, _NANO)
        if rest == 0 and not -1024 < units < 1024:
            exponent = 0
            while units % 1024 == 0 and exponent < 60:
                units //= 1024
                exponent += 10
            return f"{units}{_BINARY_NAME[exponent]}"
        format = Format.DECIMAL_SI
    number, exponent = nano, -9
    limit = 18 if format is Format.DECIMAL_SI else _MAX_EXPONENT
    while number % 1000 == 0 and exponent < limit:
        number //= 1000
        exponent += 3
    if format is Format.DECIMAL_SI:
        return f"{number}{_DECIMAL_NAME[exponent]}"
    return f"{number}e{exponent}" if exponent else str(number)
