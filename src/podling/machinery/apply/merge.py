"""Merging an intent into a live object."""

from __future__ import annotations

import copy
from typing import Any

from podling.machinery.apply.fields import Object, by_element, child_of, element_of, items
from podling.machinery.merge_schema import Node


def merge(live: Any, intent: Any, node: Node, *, root: bool = False) -> Any:
    """`live` with all that `intent` says; neither is changed. Raises SchemaMismatch."""
    node = node.resolve(live if intent is None else intent)
    if intent is None and isinstance(live, dict | list) and node.shape in ("map", "list"):
        return copy.deepcopy(live)
    if node.shape == "map" and isinstance(live, dict) and isinstance(intent, dict):
        merged: Object = {}
        for name, value in live.items():
            if name in intent:
                merged[name] = merge(value, intent[name], child_of(node, name, root=root))
            else:
                merged[name] = copy.deepcopy(value)
        for name, value in intent.items():
            if name not in live:
                merged[name] = copy.deepcopy(value)
        return merged
    if node.shape == "list" and isinstance(live, list) and isinstance(intent, list):
        return _merge_lists(live, intent, node)
    return copy.deepcopy(intent)


def _merge_lists(live: list[Any], intent: list[Any], node: Node) -> list[Any]:
    """The intent's order wins among its own items; the others keep their places between them.

    Both lists are read side by side. Where they stand at the same item, it is taken from both. An item that only the
    live list has is taken where it stands. One that both have but that is not the next shared one of the intent is
    passed over in the live list, for the intent will bring it; in all other cases the intent's next item is taken.
    """
    new = dict(items(intent, node))
    old = by_element(live, node)
    before = [element_of(value, node, (), n) for n, value in enumerate(live)]
    after = list(new)
    shared = [element for element in after if element in old]
    inner = node.item()
    taken: set[str] = set()
    merged: list[Any] = []

    def take(element: str) -> None:
        taken.add(element)
        several = old.get(element, ())
        value = new[element]
        merged.append(merge(several[0], value, inner) if len(several) == 1 else copy.deepcopy(value))

    i = j = 0
    while i < len(before) or j < len(after):
        if i < len(before):
            element = before[i]
            if j < len(after) and element == after[j]:
                take(element)
                shared = shared[1:]
                i, j = i + 1, j + 1
                continue
            if element not in new:
                merged.append(copy.deepcopy(live[i]))
                i += 1
                continue
            if element in taken or (j < len(after) and shared and shared[0] != element):
                i += 1
                continue
        if j < len(after):
            take(after[j])
            if shared and shared[0] == after[j]:
                shared = shared[1:]
            j += 1
    return merged
