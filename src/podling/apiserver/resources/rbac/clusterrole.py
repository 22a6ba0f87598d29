"""ClusterRoles."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api import names, rbac_v1
from podling.apiserver.resources.rbac import rules
from podling.apiserver.strategy import Strategy
from podling.machinery.validation import Findings


class ClusterRoleStrategy(Strategy[rbac_v1.ClusterRole]):
    create_on_update = True
    columns = rules.ROLE_COLUMNS

    def validate(self, obj: rbac_v1.ClusterRole) -> Findings:
        return rules.rules(obj.rules, namespaced=False)

    def validate_name(self, name: str, *, prefix: bool) -> list[str]:
        return names.path_segment(name, prefix=prefix)

    def row(self, obj: rbac_v1.ClusterRole, now: datetime) -> list[Any]:
        return rules.role_row(obj)
