"""What OpenAPI says of types and fields that their classes don't: enums, defaults, unions, which maps are one value.

The tables are generated (`tools/generate_openapi.py` from the Go types, `tools/generate_structs.py` from the published
schemas), read when a document is made, and forgotten after.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple


class Facts(NamedTuple):
    """Enums and defaults by field (`core_v1.Container.image`), additions to definitions by type (`core_v1.Pod`)."""

    enums: dict[str, list[str]]
    defaults: dict[str, Any]
    structs: dict[str, dict[str, Any]]


@cache
def load() -> Facts:
    """Both tables."""
    folder = files("podling.apiserver.openapi")
    decoder = json.JSONDecoder()
    facts = Facts({}, {}, {})
    for line in (folder / "fields.txt").read_text().splitlines():
        what, _, rest = line.partition(" ")
        value, end = decoder.raw_decode(rest)
        facts[what == "default"].update(dict.fromkeys(rest[end:].split(), value))
    for line in (folder / "structs.txt").read_text().splitlines():
        name, _, text = line.partition(" ")
        facts.structs[name] = json.loads(text)
    return facts


def forget() -> None:
    """Give the memory back; what was made of it stays."""
    load.cache_clear()


def listed(values: list[str]) -> str:
    """The end of the description of a field that has one of a few values."""
    return "\n\nPossible enum values:\n" + "\n".join(f" - `{json.dumps(value)}`" for value in values)
