"""ConfigMaps."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from podling.api import core_v1, names
from podling.apiserver.resources import printing
from podling.apiserver.strategy import Strategy
from podling.machinery.validation import Findings, Path, each, forbidden, invalid, too_long

#: Of all values together, in bytes; Secrets have the same.
LIMIT = 1024 * 1024
_IMMUTABLE = "field is immutable when `immutable` is set"


def decoded_size(text: str) -> int:
    """How many bytes base64 stands for."""
    return len(text) // 4 * 3 - text[-2:].count("=")


def immutability(new: Any, old: Any, fields: Mapping[str, str]) -> Findings:
    """What `immutable` forbids; `fields` are attributes and their wire names."""
    if not old.immutable:
        return []
    found: Findings = []
    if not new.immutable:
        found.append(forbidden(Path("immutable"), _IMMUTABLE))
    for attribute, name in fields.items():
        if (getattr(new, attribute) or {}) != (getattr(old, attribute) or {}):
            found.append(forbidden(Path(name), _IMMUTABLE))
    return found


class ConfigMapStrategy(Strategy[core_v1.ConfigMap]):
    columns = (printing.NAME, printing.text("Data"), printing.AGE)

    def validate(self, obj: core_v1.ConfigMap) -> Findings:
        found: Findings = []
        data, binary = obj.data or {}, obj.binary_data or {}
        size = 0
        for key, value in data.items():
            at = Path("data").key(key)
            found += each(at, key, names.config_map_key(key))
            if key in binary:
                found.append(invalid(at, key, "duplicate of key present in binaryData"))
            size += len(value.encode())
        for key, value in binary.items():
            found += each(Path("binaryData").key(key), key, names.config_map_key(key))
            size += decoded_size(value)
        if size > LIMIT:
            found.append(too_long(Path(""), LIMIT))
        return found

    def validate_update(self, new: core_v1.ConfigMap, old: core_v1.ConfigMap) -> Findings:
        return immutability(new, old, {"data": "data", "binary_data": "binaryData"}) + self.validate(new)

    def row(self, obj: core_v1.ConfigMap, now: datetime) -> list[Any]:
        count = len(obj.data or ()) + len(obj.binary_data or ())
        return [printing.name(obj.metadata), count, printing.age(obj.metadata, now)]
