"""Random objects of the generated types, in the form in which protobuf can tell them apart.

A field that is no pointer in Go has no way to say that it is empty: it is either left out here or not empty.
"""

from __future__ import annotations

import importlib
import pkgutil
import random
from typing import Any

import msgspec

import podling.api
from podling.apiserver.wire import fields
from podling.machinery import typeinfo

TEXT = ("a", "b-c", "ä€𝄞", "x" * 130, "with space")
NUMBERS = (1, -1, 127, 128, 2**31 - 1, -(2**31))
JSON = ({"a": [1, None, "x"]}, {"b": {"c": True}}, {})
_MEANINGS: dict[str, tuple[Any, ...]] = {
    "Time": ("2026-01-02T03:04:05Z", "1970-01-01T00:00:00Z", "0001-02-03T04:05:06Z"),
    "MicroTime": ("2026-01-02T03:04:05.678901Z", "1969-12-31T23:59:59.000001Z"),
    "Quantity": ("100m", "1Gi", "0", "-3"),
    "IntOrString": (0, 8080, -1, "web", "25%", ""),
    "Base64": ("AAECAw==", "/w=="),
}
#: Fields of the newest types whose numbers are not known: they are alpha features.
UNKNOWN = frozenset(
    (
        "disruptionMode", "resourceClaims", "schedulingConstraints", "schedulingPolicy", "runningInUserNamespace",
        "compatibilityGroups", "derivedAttributes",
    )
)  # fmt: skip


def kinds() -> list[type[Any]]:
    """All kinds of the generated modules, those of lists and of requests included."""
    found = []
    for module in pkgutil.iter_modules(podling.api.__path__):
        if module.name[-1].isdigit():
            for type_ in vars(importlib.import_module(f"podling.api.{module.name}")).values():
                if isinstance(type_, type) and issubclass(type_, msgspec.Struct) and _is_kind(type_):
                    found.append(type_)
    return found


def _is_kind(type_: type[Any]) -> bool:
    names = typeinfo.fields(type_)
    known = fields.known(fields.name_of(type_))
    return known and "kind" in names and "apiVersion" in names and type_().kind == type_.__name__


def make(type_: type[Any], rng: random.Random, depth: int = 0) -> dict[str, Any]:
    """The wire form of an object of a class."""
    infos = typeinfo.fields(type_)
    found: dict[str, Any] = {}
    for how, name in _rows(fields.name_of(type_)):
        info = infos.get(name)
        if info is None or name in UNKNOWN:
            continue
        inside = (info.struct is not None or info.meaning == "Quantity") and not info.shape and how == fields.ALWAYS
        if inside or info.required or rng.random() < 0.7 - 0.1 * depth:
            found[name] = _value(info, how, rng, depth)
    return found


def _rows(name: str) -> list[tuple[str, str]]:
    found = []
    for _, how, wire in fields.message(name):
        found += _rows(wire) if how == fields.EMBEDDED else [(how, wire)]
    return found


def _value(info: typeinfo.FieldInfo, how: str, rng: random.Random, depth: int) -> Any:
    if info.shape == "list":
        return [_one(info, how, rng, depth) for _ in range(rng.randint(1, 2))]
    if info.shape == "map":
        return {key: _one(info, how, rng, depth) for key in rng.sample(("b", "a", "é"), rng.randint(1, 2))}
    return _one(info, how, rng, depth)


def _one(info: typeinfo.FieldInfo, how: str, rng: random.Random, depth: int) -> Any:
    if info.struct is not None:
        return make(info.struct, rng, depth + 1)
    if info.meaning == "IntOrString" and how == fields.ALWAYS:
        return rng.choice((8080, -1, "web", "25%"))
    if info.meaning:
        return rng.choice(_MEANINGS[info.meaning])
    pointer = how == fields.POINTER or bool(info.shape) or info.required
    match info.scalar.__name__:
        case "str":
            return rng.choice((*TEXT, "") if pointer else TEXT)
        case "int":
            return rng.choice((*NUMBERS, 0) if pointer else NUMBERS)
        case "bool":
            return rng.random() < 0.5 if pointer else True
        case "float":
            return rng.choice((0.0, 1.5, -2.25))
    return _anything(info, rng, depth)


def _anything(info: typeinfo.FieldInfo, rng: random.Random, depth: int) -> Any:
    from podling.api.apiextensions_v1 import JSONSchemaProps

    def schema() -> dict[str, Any]:
        return make(JSONSchemaProps, rng, depth + 2)

    match info.name:
        case "additionalItems" | "additionalProperties":
            return rng.choice((True, False, schema()))
        case "items":
            return schema() if rng.random() < 0.5 else [schema(), schema()]
        case "dependencies":
            return schema() if rng.random() < 0.5 else ["a", "b"]
    return list(TEXT[:2]) if info.shape == "map" else rng.choice(JSON)
