"""Paths of printer columns."""

from __future__ import annotations

from typing import Any

import pytest

from podling.apiserver.crd.json_path import JsonPath, PathError

VALUE = {
    "spec": {"replicas": 3, "ports": [{"name": "a", "port": 1}, {"name": "b", "port": 2}], "a.b": "dotted", "no": None},
    "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Done", "status": "False", "n": 5}]},
}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (".spec.replicas", [3]),
        (".spec.missing", []),
        (".spec.missing.deeper", []),
        (".spec.ports[0].name", ["a"]),
        (".spec.ports[-1].name", ["b"]),
        (".spec.ports[5].name", []),
        (".spec.ports[*].port", [1, 2]),
        (".spec.ports[0:1].port", [1]),
        (".spec.ports[0,1].name", ["a", "b"]),
        (".spec['a.b']", ["dotted"]),
        (r".spec.a\.b", ["dotted"]),
        ('.status.conditions[?(@.type=="Ready")].status', ["True"]),
        (".status.conditions[?(@.type == 'Done')].status", ["False"]),
        (".status.conditions[?(@.n > 4)].type", ["Done"]),
        (".status.conditions[?(@.n)].type", ["Done"]),
        (".status.conditions[?(@.type != 'Ready')].type", ["Done"]),
        ("..port", [1, 2]),
        (".spec.no", [None]),
        (".spec.*", [3, [{"name": "a", "port": 1}, {"name": "b", "port": 2}], "dotted", None]),
        (".", [VALUE]),
    ],
)
def test_finds(path: str, expected: list[Any]) -> None:
    assert JsonPath(path).find(VALUE) == expected


@pytest.mark.parametrize("path", [".a[", ".a[x]", ".a[?(@.b==unquoted)]", "{.a}"])
def test_what_is_no_path(path: str) -> None:
    with pytest.raises(PathError):
        JsonPath(path)
