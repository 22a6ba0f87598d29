"""Role."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api import names, rbac_v1
from podling.api.errors import FieldError
from podling.apiserver.resources.rbac.rules import validate_rule
from podling.apiserver.strategy import Column, Strategy
from podling.machinery.validation import Path


class RoleStrategy(Strategy[rbac_v1.Role]):
    columns = (Column("Name", format="name"), Column("Created At"))

    def validate_name(self, name: str, *, prefix: bool) -> list[str]:
        return names.path_segment(name, prefix=prefix)

    def validate(self, obj: rbac_v1.Role) -> list[FieldError]:
        rules = Path("rules")
        return [f for n, r in enumerate(obj.rules or ()) for f in validate_rule(r, rules.index(n), namespaced=True)]

    def row(self, obj: rbac_v1.Role, now: datetime) -> list[Any]:
        return [obj.metadata.name, obj.metadata.creation_timestamp]
