"""RoleBindings."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api import names, rbac_v1
from podling.apiserver.resources.rbac import rules
from podling.apiserver.strategy import Strategy
from podling.machinery.validation import Findings


class RoleBindingStrategy(Strategy[rbac_v1.RoleBinding]):
    create_on_update = True
    columns = rules.BINDING_COLUMNS

    def default(self, obj: rbac_v1.RoleBinding) -> None:
        rules.default_binding(obj)

    def validate(self, obj: rbac_v1.RoleBinding) -> Findings:
        return rules.binding(obj, ("Role", "ClusterRole"))

    def validate_update(self, new: rbac_v1.RoleBinding, old: rbac_v1.RoleBinding) -> Findings:
        return self.validate(new) + rules.binding_update(new, old)

    def validate_name(self, name: str, *, prefix: bool) -> list[str]:
        return names.path_segment(name, prefix=prefix)

    def row(self, obj: rbac_v1.RoleBinding, now: datetime) -> list[Any]:
        return rules.binding_row(obj, now)
