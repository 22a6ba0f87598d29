"""Generates src/podling/apiserver/openapi/structs.txt: what OpenAPI says of whole types that their classes don't.

    python tools/generate_structs.py           write the table
    python tools/generate_structs.py --check   exit 1 if it would change

Source: the schemas that the kubernetes-validate wheel ships. A line is a type and what is added to its definition;
references are written as the names of definitions:

    core_v1.SecretKeySelector {"x-kubernetes-map-type":"atomic"}
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from generate_types import PRERELEASE, SPECIAL, load_definitions, module_of, non_null

TARGET = Path(__file__).resolve().parent.parent / "src" / "podling" / "apiserver" / "openapi" / "structs.txt"
KEPT = ("x-kubernetes-map-type", "x-kubernetes-unions")
#: What every object has, and is not told to be required of by its class.
NAMED = {"apiVersion", "kind", "metadata"}
#: Free-form on the wire: the classes have `Any` for all of them.
FREE_FORM = {name for name, annotation in SPECIAL.items() if annotation in ("Any", "Json") or "|" in annotation}


def value_of(schema: dict[str, Any]) -> dict[str, Any]:
    """What the classes don't say of a value."""
    inner = schema.get("$ref") or (schema.get("allOf") or [{}])[0].get("$ref", "")
    if (name := inner.rpartition("/")[2]) in FREE_FORM:
        return {"$ref": name}
    if schema.get("format") == "int64":
        return {"format": "int64"}
    if non_null(schema) == "object" and "additionalProperties" not in schema:
        return {"type": "object"}
    for key in ("items", "additionalProperties"):
        held = schema.get(key)
        if isinstance(held, dict) and non_null(held) == "array":
            return {key: {"type": "array", "items": {"type": non_null(held["items"])}}}
        if isinstance(held, dict) and (found := value_of(held)):
            return {key: found}
    return {}


def definition_of(schema: dict[str, Any]) -> dict[str, Any]:
    """What the class does not say of a type."""
    found = {key: schema[key] for key in KEPT if key in schema}
    required = schema.get("required", [])
    if required != sorted(required) or not NAMED.isdisjoint(required):
        found["required"] = required
    properties = {name: value for name, field in schema.get("properties", {}).items() if (value := value_of(field))}
    return {**found, "properties": properties} if properties else found


def main() -> int:
    lines = []
    for name, schema in load_definitions().items():
        if name not in SPECIAL and not PRERELEASE.search(name) and (found := definition_of(schema)):
            text = json.dumps(found, separators=(",", ":"), sort_keys=True)
            lines.append(f"{module_of(name)}.{name.rpartition('.')[2]} {text}\n")
    text = "".join(sorted(lines))
    if "--check" in sys.argv:
        if not TARGET.exists() or TARGET.read_text() != text:
            print(f"not up to date: {TARGET.name}; run python tools/generate_structs.py", file=sys.stderr)
            return 1
        return 0
    TARGET.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
