"""CBOR: what upstream takes and refuses, and what is written."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from podling.apiserver.wire import cbor
from podling.machinery import schema

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)  # fmt: skip


@given(JSON)
def test_what_is_written_is_read(value: Any) -> None:
    assert cbor.decode(cbor.encode(msgspec.json.encode(value))) == value


def test_what_is_written() -> None:
    """Strings as byte strings, keys in the order of their encodings, the shortest floats, the tag before it all."""
    found = cbor.encode(b'{"bb":[1,1.5,-1,"x",null,true],"a":{}}')
    assert found.hex() == "d9d9f7a24161a04262628601f93e00204178f6f5"


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        ("d9d9f7a143666f6f43626172", {"foo": "bar"}),
        ("a163666f6f63626172", {"foo": "bar"}),
        # A byte string that is to become text later is that text.
        ("d64401020304", "AQIDBA=="),
        ("d54401020304", "AQIDBA"),
        ("d744010203ff", "010203FF"),
        # Times are text.
        ("c074323031332d30332d32315432303a30343a30305a", "2013-03-21T20:04:00Z"),
        ("c11a514b67b0", "2013-03-21T20:04:00Z"),
        ("c1fb41d452d9ec200000", "2013-03-21T20:04:00.5Z"),
        # Lengths may come at the end.
        ("9f0102ff", [1, 2]),
        ("bf616101ff", {"a": 1}),
        # Other tags say nothing, those of shared values least of all.
        ("d81c81d81d00", [0]),
        ("d9ffff01", 1),
        ("d90100816161", ["a"]),
        ("f6", None),
    ],
)
def test_what_is_read(data: str, wanted: Any) -> None:
    assert cbor.decode(bytes.fromhex(data)) == wanted


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("", "EOF"),
        ("a1", "cbor: "),
        ("ff", "cbor: break"),
        ("a0a0", "extraneous data"),
        ("a2616101616102", "Duplicate map key"),
        ("a2616101416102", 'duplicate map key "a"'),
        ("a10102", "map key must be"),
        ("61ff", "text string"),
        ("41ff", "utf-8"),
        ("c249010000000000000000", "bignum"),
        ("1bffffffffffffffff", "overflows Go's int64"),
        ("3bffffffffffffffff", "overflows Go's int64"),
        ("fb7ff8000000000000", "NaN and infinity"),
        ("f97c00", "NaN and infinity"),
        ("f7", "not a recognized type"),
        ("e0", "not a recognized type"),
        ("c001", "tag number 0"),
        ("c1616f", "tag number 1"),
        ("c1fb7e37e43c8800759c", "as a time"),
        # Bombs.
        ("81" * 600 + "00", "nesting depth"),
        ("d9d9f7" * 3000 + "00", "cbor: "),
        ("5b7fffffffffffffff", "cbor: "),
        ("9b7fffffffffffffff", "cbor: "),
        ("bb7fffffffffffffff", "cbor: "),
    ],
)
def test_what_is_refused(data: str, said: str) -> None:
    with pytest.raises(schema.UnreadableError) as caught:
        cbor.decode(bytes.fromhex(data))
    assert str(caught.value).startswith("unable to determine group/version/kind: ") and said in str(caught.value)


@given(st.binary(max_size=60))
def test_hostile_bytes_are_refused_or_read(data: bytes) -> None:
    try:
        found = cbor.decode(data)
    except schema.DecodeError:
        return
    msgspec.json.encode(found)
