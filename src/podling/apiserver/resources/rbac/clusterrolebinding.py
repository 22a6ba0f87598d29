"""ClusterRoleBindings."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api import names, rbac_v1
from podling.apiserver.resources.rbac import rules
from podling.apiserver.strategy import Strategy
from podling.machinery.validation import Findings


class ClusterRoleBindingStrategy(Strategy[rbac_v1.ClusterRoleBinding]):
    create_on_update = True
    columns = rules.BINDING_COLUMNS

    def default(self, obj: rbac_v1.ClusterRoleBinding) -> None:
        rules.default_binding(obj)

    def validate(self, obj: rbac_v1.ClusterRoleBinding) -> Findings:
        return rules.binding(obj, ("ClusterRole",))

    def validate_update(self, new: rbac_v1.ClusterRoleBinding, old: rbac_v1.ClusterRoleBinding) -> Findings:
        return self.validate(new) + rules.binding_update(new, old)

    def validate_name(self, name: str, *, prefix: bool) -> list[str]:
        return names.path_segment(name, prefix=prefix)

    def row(self, obj: rbac_v1.ClusterRoleBinding, now: datetime) -> list[Any]:
        return rules.binding_row(obj, now)
