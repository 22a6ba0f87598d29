"""YAML bodies, the hostile ones too."""

from __future__ import annotations

from podling.apiserver.wire import yaml
from podling.machinery import schema


def test_repeated_keys_are_told_once() -> None:
    found = yaml.decode(b"a: 1\nb: 2\na: 3\n" * 5000)
    assert isinstance(found, schema.WithDuplicates)
    assert found == {"a": 3, "b": 2} and found.duplicates == ("a", "b")
