"""What an intent may say: it has to fit the schema."""

from __future__ import annotations

from typing import Any

from podling.machinery.apply.fields import Object, SchemaMismatch, child_of, items
from podling.machinery.field_set import Path, text
from podling.machinery.merge_schema import Node


def check(intent: Object, node: Node) -> None:
    """Raises SchemaMismatch with everything that does not fit the schema."""
    found: list[str] = []
    _check(intent, node.resolve(intent), (), found)
    if found:
        raise SchemaMismatch(found[0] if len(found) == 1 else "errors:\n" + "\n".join(f"  {f}" for f in found))


def _check(value: Any, node: Node, path: Path, found: list[str]) -> None:
    if value is None:
        return
    problem = _misfit(value, node)
    if problem:
        found.append(f"{text(path)}: {problem}")
    elif isinstance(value, dict):
        for name, child in value.items():
            below = (*path, f"f:{name}")
            if not path and name in ("apiVersion", "kind"):
                continue
            inner = child_of(node, name, root=not path)
            if not node.open and name not in node.names and (path or name != "metadata"):
                found.append(f"{text(below)}: field not declared in schema")
                return
            _check(child, inner.resolve(child), below, found)
    elif isinstance(value, list):
        inner = node.item()
        try:
            named = items(value, node, path) if node.shape == "list" else [(f"i:{n}", v) for n, v in enumerate(value)]
        except SchemaMismatch as error:
            found.append(str(error))
            return
        for element, child in named:
            _check(child, inner.resolve(child), (*path, element), found)


def _misfit(value: Any, node: Node) -> str:
    """Why a value can't be of this schema, "" if it can. Of what is replaced as a whole little is known."""
    if node.shape == "scalar" and not (node.scalar == "" and isinstance(value, dict | list)):
        if node.scalar == "string" and not isinstance(value, str):
            return f"expected string, got &value.valueUnstructured{{Value:{_go(value)}}}"
        if node.scalar == "numeric" and (isinstance(value, bool) or not isinstance(value, int | float)):
            return f"expected numeric (int or float), got {_go_type(value)}"
        if node.scalar == "boolean" and not isinstance(value, bool):
            return f"expected boolean, got &{{{_go(value)}}}"
    if node.shape == "map" and not isinstance(value, dict):
        return f"expected map, got &{{{_go(value)}}}"
    if node.shape == "list" and not isinstance(value, list):
        return f"expected list, got &{{{_go(value)}}}"
    return ""


def _go(value: Any) -> str:
    """As Go prints a value."""
    if isinstance(value, dict):
        return f"map[{' '.join(f'{k}:{_go(v)}' for k, v in sorted(value.items()))}]"
    if isinstance(value, list):
        return f"[{' '.join(map(_go, value))}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return "<nil>" if value is None else str(value)


def _go_type(value: Any) -> str:
    kinds = {str: "string", bool: "bool", dict: "map[string]interface {}", list: "[]interface {}"}
    return next((go for kind, go in kinds.items() if isinstance(value, kind)), "<nil>")
