"""OpenAPI documents of other servers, made part of ours.

Of a v2 document only what is below the server's own path is taken, with the definitions that it mentions. A definition
that is called like another one, but is another, gets another name. Source: kube-openapi pkg/aggregator.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Document = dict[str, Any]

_DEFINITION, _PARAMETER, _V3 = "#/definitions/", "#/parameters/", "#/components/schemas/"
_KINDS = "x-kubernetes-group-version-kind"


def only_below(document: Document, prefix: str) -> Document:
    """The paths that begin with `prefix`, and what they need. Parameters stand where they are used."""
    parameters = document.get("parameters") or {}
    paths = {
        path: _inlined(item, parameters)
        for path, item in (document.get("paths") or {}).items()
        if path.startswith(prefix)
    }
    return {"paths": paths, "definitions": _needed(paths, document.get("definitions") or {})}


def _inlined(value: Any, parameters: dict[str, Any]) -> Any:
    if isinstance(value, list):
        return [_inlined(item, parameters) for item in value]
    if not isinstance(value, dict):
        return value
    ref = value.get("$ref")
    if isinstance(ref, str) and ref.startswith(_PARAMETER):
        return parameters.get(ref.removeprefix(_PARAMETER), {})
    return {key: _inlined(item, parameters) for key, item in value.items()}


def _needed(paths: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    names = references(paths)
    while names:
        name = names.pop()
        if name in definitions and name not in found:
            found[name] = definitions[name]
            names |= references(definitions[name])
    return found


def references(value: Any) -> set[str]:
    """The definitions that are mentioned."""
    found: set[str] = set()

    def note(name: str) -> str:
        found.add(name)
        return name

    renamed(value, note)
    return found


def renamed(value: Any, name_of: Callable[[str], str], prefix: str = _DEFINITION) -> Any:
    """`value` with other names in its references to definitions, which then begin with `prefix`."""
    if isinstance(value, list):
        return [renamed(item, name_of, prefix) for item in value]
    if not isinstance(value, dict):
        return value
    result = {key: renamed(item, name_of, prefix) for key, item in value.items()}
    ref = value.get("$ref")
    if isinstance(ref, str) and ref.startswith(_DEFINITION):
        result["$ref"] = prefix + name_of(ref.removeprefix(_DEFINITION))
    return result


def merge(into: Document, other: Document) -> None:
    """Add the paths of `other` that `into` does not have, and the definitions."""
    paths, definitions = into["paths"], into["definitions"]
    mine: dict[str, Any] = other["definitions"]
    names = {name: _free(name, definition, definitions, mine) for name, definition in mine.items()}
    for name, definition in mine.items():
        new = names[name]
        moved = renamed(definition, lambda n: names.get(n, n))
        if new in definitions:
            definitions[new] = _united(definitions[new], moved)
        else:
            definitions[new] = moved
    for path, item in other["paths"].items():
        paths.setdefault(path, renamed(item, lambda n: names.get(n, n)))


def _free(name: str, definition: Any, taken: dict[str, Any], mine: dict[str, Any]) -> str:
    """`name` if it is free or means the same, else the first free of name_v2, name_v3, ..."""
    candidate, number = name, 1
    while candidate in taken and not _same(taken[candidate], definition):
        number += 1
        candidate = f"{name}_v{number}"
        while candidate in mine:
            number += 1
            candidate = f"{name}_v{number}"
    return candidate


def _same(one: Any, other: Any) -> bool:
    """Equal, but for the kinds that they are for."""
    return {k: v for k, v in one.items() if k != _KINDS} == {k: v for k, v in other.items() if k != _KINDS}


def _united(definition: Any, other: Any) -> Any:
    known, more = definition.get(_KINDS) or [], other.get(_KINDS) or []
    added = [kind for kind in more if kind not in known]
    return {**definition, _KINDS: [*known, *added]} if added else definition


# -- v2 as v3 ---------------------------------------------------------------------------------------------------------


def to_v3(document: Document) -> Document:
    """A v2 document of `only_below` as v3, for servers that have none. What v3 could say beyond v2 is missing."""
    moved = renamed(document, lambda name: name, _V3)
    return {
        "openapi": "3.0.0",
        "info": document.get("info") or {"title": "Kubernetes", "version": "unversioned"},
        "paths": {path: _path_item(item) for path, item in moved["paths"].items()},
        "components": {"schemas": moved["definitions"]},
    }


def _path_item(item: Document) -> Document:
    result: Document = {}
    for key, value in item.items():
        if key == "parameters":
            result[key] = [_parameter(p) for p in value if p.get("in") != "body"]
        else:
            result[key] = _operation(value) if isinstance(value, dict) and not key.startswith("x-") else value
    return result


def _operation(operation: Document) -> Document:
    result = {
        k: v for k, v in operation.items() if k not in ("consumes", "produces", "schemes", "parameters", "responses")
    }
    parameters = operation.get("parameters") or []
    result["parameters"] = [_parameter(p) for p in parameters if p.get("in") != "body"]
    for body in (p for p in parameters if p.get("in") == "body"):
        content = {"schema": body.get("schema") or {}}
        kinds = operation.get("consumes") or ["application/json"]
        request: Document = {"content": dict.fromkeys(kinds, content)}
        if body.get("required"):
            request["required"] = True
        result["requestBody"] = request
    result["responses"] = {
        code: _response(answer, operation.get("produces") or ["application/json"])
        for code, answer in (operation.get("responses") or {}).items()
    }
    return result


def _response(answer: Document, kinds: list[str]) -> Document:
    result = {k: v for k, v in answer.items() if k not in ("schema", "headers", "examples")}
    if "schema" in answer:
        result["content"] = {kind: {"schema": answer["schema"]} for kind in kinds}
    return result


def _parameter(parameter: Document) -> Document:
    outer = ("name", "in", "required", "description")
    return {
        **{k: v for k, v in parameter.items() if k in outer or k.startswith("x-")},
        "schema": {k: v for k, v in parameter.items() if k not in outer and not k.startswith("x-")},
    }
