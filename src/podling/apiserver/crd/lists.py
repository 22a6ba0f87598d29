"""Lists that are sets or maps: none of their items may be there twice."""

from __future__ import annotations

from typing import Any

import msgspec

from podling.apiserver.crd.structural import Node
from podling.machinery.validation import Findings, Path, duplicate, invalid

_ABSENT = object()


def findings(value: Any, node: Node | None, path: Path | None = None) -> Findings:
    """Items that are there again, anywhere in a value."""
    if node is None:
        return []
    found: Findings = []
    if isinstance(value, dict):
        for key, item in value.items():
            if key in node.properties:
                at = path.child(key) if path is not None else Path(key)
                found += findings(item, node.properties[key], at)
            elif node.more is not None and isinstance(item, dict | list):
                at = path.key(key) if path is not None else Path(f"[{key}]")
                found += findings(item, node.more, at)
    elif isinstance(value, list) and path is not None:
        kind = node.schema.get("x-kubernetes-list-type")
        if kind == "set":
            found += [duplicate(path.index(n), value[n]) for n in _again([_key(v) for v in value])]
        elif kind == "map":
            found += _map(value, node.schema.get("x-kubernetes-list-map-keys") or [], path)
        if node.items is not None:
            for index, item in enumerate(value):
                found += findings(item, node.items, path.index(index))
    return found


def _map(values: list[Any], keys: list[str], path: Path) -> Findings:
    for index, item in enumerate(values):
        if item is not None and not isinstance(item, dict):
            return [invalid(path.index(index), item, "must be an object for an array of list-type map")]
    if len(values) < 2:
        return []
    said = [{key: item[key] for key in keys if key in item} if item is not None else {} for item in values]
    return [duplicate(path.index(n), said[n]) for n in _again([_key(s) for s in said])]


def _key(value: Any) -> Any:
    return msgspec.json.encode(value, order="sorted")


def _again(keys: list[Any]) -> list[int]:
    """Where a key comes for the second time."""
    times: dict[Any, int] = {}
    found = []
    for index, key in enumerate(keys):
        times[key] = times.get(key, 0) + 1
        if times[key] == 2:
            found.append(index)
    return found
