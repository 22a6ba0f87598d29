"""The field numbers of the API types in protobuf, from a generated table: facts that reader and writer share."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

#: How a field stands in a message: always written, only if there, a list in a message of its own, an embedded message.
ALWAYS, POINTER, WRAPPED, EMBEDDED = "=", "*", "+", ">"


class Field(NamedTuple):
    """`wire` is the field's name in JSON, or the name of the message that is embedded."""

    number: int
    how: str
    wire: str


@cache
def _tables() -> dict[str, str]:
    text = (files("podling.apiserver.wire") / "protobuf_fields.txt").read_text()
    return {name: rest for name, _, rest in (line.partition(" ") for line in text.splitlines())}


def message(name: str) -> list[Field]:
    """The fields of a message in the order of their numbers, which is the one they are written in."""
    found = []
    for item in _tables().get(name, "").split():
        at = next(i for i, c in enumerate(item) if not c.isdigit())
        found.append(Field(int(item[:at]), item[at], item[at + 1 :]))
    return sorted(found)


def known(name: str) -> bool:
    """Whether there is such a message, with fields."""
    return name in _tables()


def name_of(type_: type[Any]) -> str:
    """The message of a generated class: `core_v1.Pod`."""
    return f"{type_.__module__.rpartition('.')[2]}.{type_.__name__}"
