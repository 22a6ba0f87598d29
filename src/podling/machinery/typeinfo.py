"""What the generated types say of their fields, in the form that walks over objects need. Read once per type."""

from __future__ import annotations

import inspect
import re
import sys
import typing
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar, cast

import msgspec

R = TypeVar("R")


def cached(function: Callable[[type[Any]], R]) -> Callable[[type[Any]], R]:
    """`function` of a class, computed once per class."""
    return cast("Callable[[type[Any]], R]", cache(function))


_SCALAR = re.compile(r"\b(Quantity|Time|MicroTime|Base64|IntOrString)\b")


class FieldInfo(msgspec.Struct, frozen=True):
    """A field of an API type.

    `name` is the wire's, `attribute` Python's. `shape` says how values are held: "" directly, "list" or "map" of them;
    `struct` is the class of the values if they are objects, `scalar` their class if they are not (str, int, bool, float
    or object for anything), and `meaning` their name in `api.scalars`, if they have one. The rest is how the field
    merges (see `api.struct.merge_list`).
    """

    name: str
    attribute: str
    shape: str
    struct: type[Any] | None
    scalar: type[Any]
    meaning: str
    required: bool
    list_type: str | None = None
    map_keys: tuple[str, ...] = ()
    patch: tuple[str, ...] = ()
    key: str = ""
    #: Of a whole number: 64 bits instead of 32.
    wide: bool = False


@cached
def fields(type_: type[Any]) -> dict[str, FieldInfo]:
    """The fields of a generated class by wire name."""
    hints = typing.get_type_hints(type_, include_extras=True)
    written = _annotations(type_)
    return {
        f.encode_name: _read(f.encode_name, f.name, hints[f.name], written[f.name])
        for f in msgspec.structs.fields(type_)
    }


def _annotations(type_: type[Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for base in reversed(type_.__mro__):
        for name, text in inspect.get_annotations(base).items():
            found[name] = text if isinstance(text, str) else getattr(text, "__name__", str(text))
    return found


def _read(name: str, attribute: str, hint: Any, written: str) -> FieldInfo:
    hint, extra, optional = _unwrap(hint)
    shape = ""
    if typing.get_origin(hint) is list:
        shape, hint = "list", typing.get_args(hint)[0]
    elif typing.get_origin(hint) is dict:
        shape, hint = "map", typing.get_args(hint)[1]
    hint, _, _ = _unwrap(hint)
    if typing.get_origin(hint) is list:  # A map of lists (userInfo's extra).
        hint = object
    struct = hint if isinstance(hint, type) and issubclass(hint, msgspec.Struct) else None
    scalar = hint if hint in (str, int, bool, float) else object
    meaning = _SCALAR.search(written)
    return FieldInfo(
        name=name,
        attribute=attribute,
        shape=shape,
        struct=struct,
        scalar=scalar,
        meaning=meaning[1] if meaning and struct is None else "",
        required=not optional and not extra.get("optional"),
        list_type=extra.get("list_type"),
        map_keys=extra.get("map_keys") or (),
        patch=tuple((extra.get("patch") or "").split(",")) if extra.get("patch") else (),
        key=extra.get("key") or "",
        wide="Int64" in written,
    )


def _unwrap(hint: Any) -> tuple[Any, dict[str, Any], bool]:
    """`hint` without Annotated and None, what Annotated added, and whether None was allowed."""
    extra: dict[str, Any] = {}
    optional = False
    while True:
        if typing.get_origin(hint) is typing.Annotated:
            hint, *metadata = typing.get_args(hint)
            for item in metadata:
                extra |= getattr(item, "extra", None) or {}
            continue
        args = typing.get_args(hint)
        if type(None) in args:
            optional = True
            rest = [a for a in args if a is not type(None)]
            hint = rest[0] if len(rest) == 1 else typing.Union[tuple(rest)]  # noqa: UP007
            continue
        return hint, extra, optional


def go_type(field: FieldInfo) -> str:
    """The field's Go type, for messages that Go's decoder would give."""
    if field.struct is not None:
        base = f"{_package(field.struct)}.{field.struct.__name__}"
    elif field.meaning in ("Time", "MicroTime", "Quantity", "IntOrString"):
        package = {"Quantity": "resource", "IntOrString": "intstr"}.get(field.meaning, "v1")
        base = f"{package}.{field.meaning}"
    elif field.meaning == "Base64":
        base = "[]uint8"
    elif field.scalar is int:
        base = "int64" if field.wide else "int32"
    else:
        base = {str: "string", bool: "bool", float: "float64"}.get(field.scalar, "interface {}")
    return {"list": f"[]{base}", "map": f"map[string]{base}"}.get(field.shape, base)


def _package(struct: type[Any]) -> str:
    return sys.modules[struct.__module__].__name__.rpartition("_")[2]
