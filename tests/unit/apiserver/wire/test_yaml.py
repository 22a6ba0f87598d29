"""YAML bodies, the hostile ones too."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from podling.apiserver.wire import yaml
from podling.machinery import schema
from tests.unit.apiserver.wire.test_cbor import JSON


def test_repeated_keys_are_told_once() -> None:
    found = yaml.decode(b"a: 1\nb: 2\na: 3\n" * 5000)
    assert isinstance(found, schema.WithDuplicates)
    assert found == {"a": 3, "b": 2} and found.duplicates == ("a", "b")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("22:22", "22:22"), ("010", 8), ("0o17", 15), ("0x1F", 31), ("0b11", 3), ("1_000", 1000), ("-5", -5), ("+7", 7),
        ("08", 8.0), ("1e3", 1000.0), (".5", 0.5), ("1.", 1.0), ("2001-01-01", "2001-01-01"), ("1:2:3.5", "1:2:3.5"),
        ("18446744073709551615", 2**64 - 1), ("99999999999999999999", 1e20), ("y", True), ("off", False), ("~", None),
        ("'1'", "1"), ('"yes"', "yes"), ("!!str 1", "1"), ('!!int "3"', 3), ("!!float 1", 1.0), ("!foo 1", "1"),
        ("!!binary aGk=", "hi"), ("=", "="), ("9" * 5000, "9" * 5000), ("{1: a, true: b}", {"1": "a", "true": "b"}),
        ("", None),
    ],
)  # fmt: skip
def test_scalars_mean_what_they_mean_to_go(text: str, wanted: Any) -> None:
    assert yaml.decode(text.encode()) == wanted


def test_merging() -> None:
    found = yaml.decode(
        b"a: &x {b: 1, c: 2}\nd: {<<: *x, b: 3}\ne: {<<: [*x, {b: 4, z: 1}]}\nf: {'<<': 1}\n---\nq: 1\n"
    )
    assert found == {
        "a": {"b": 1, "c": 2},
        "d": {"b": 3, "c": 2},
        "e": {"b": 1, "c": 2, "z": 1},
        "f": {"<<": 1},
    }


def bomb(grow: str) -> bytes:
    lines = ["a0: &a0 {k: [1, 1, 1, 1]}"]
    lines += [f"a{i}: &a{i} " + grow.replace("*", f"*a{i - 1}") for i in range(1, 25)]
    return "\n".join(lines).encode()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (bomb("[*, *, *, *, *, *]"), "document contains excessive aliasing"),
        (bomb("{<<: [*, *, *, *]}"), "document contains excessive aliasing"),
        (b"&a [*a]", "anchor value contains itself"),
        (b"[" * 100_000, "yaml: "),
        (b"- " * 100_000, "yaml: "),
        (b"{a: " * 100_000, "yaml: "),
        (b"{[a]: b}", "unsupported map key"),
        (b"a: .inf", "unsupported value: .inf"),
        (b"a: {<<: 1}", "map merge requires map"),
        (b"\xff\xfe\x00", "yaml: "),
        (b"a: [", "yaml: "),
        (b"!!binary '~'", "yaml: "),
    ],
)
def test_what_is_refused(body: bytes, said: str) -> None:
    with pytest.raises(schema.DecodeError, match="error converting YAML to JSON: yaml: ") as caught:
        yaml.decode(body)
    assert said in str(caught.value)


@given(st.binary(max_size=80) | st.text(alphabet="a1:-[]{}&*!|>'\"\n <.~", max_size=60).map(str.encode))
def test_hostile_bytes_are_refused_or_read(body: bytes) -> None:
    try:
        found = yaml.decode(body)
    except schema.DecodeError:
        return
    msgspec.json.encode(found)


@given(JSON)
def test_what_is_written_is_read(value: Any) -> None:
    assert yaml.decode(yaml.encode(msgspec.json.encode(value))) == value


def test_text_that_looks_like_something_else_is_quoted() -> None:
    assert yaml.encode(b'{"a":"n","b":"1e3","c":"true","d":".inf","e":"x"}') == (
        b'a: "n"\nb: "1e3"\nc: "true"\nd: ".inf"\ne: x\n'
    )
