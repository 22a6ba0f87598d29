"""ClusterRole."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api import names, rbac_v1
from podling.api.errors import FieldError
from podling.apiserver.resources.rbac.rules import validate_rule
from podling.apiserver.strategy import Column, Strategy
from podling.machinery import validation
from podling.machinery.validation import Path


class ClusterRoleStrategy(Strategy[rbac_v1.ClusterRole]):
    columns = (Column("Name", format="name"), Column("Created At"))

    def validate_name(self, name: str, *, prefix: bool) -> list[str]:
        return names.path_segment(name, prefix=prefix)

    def validate(self, obj: rbac_v1.ClusterRole) -> list[FieldError]:
        rules = Path("rules")
        found = [f for n, r in enumerate(obj.rules or ()) for f in validate_rule(r, rules.index(n), namespaced=False)]
        if obj.aggregation_rule is not None and not obj.aggregation_rule.cluster_role_selectors:
            path = Path("aggregationRule").child("clusterRoleSelectors")
            found.append(
                validation.required(path, "at least one clusterRoleSelector required if aggregationRule is non-nil")
            )
        return found

    def row(self, obj: rbac_v1.ClusterRole, now: datetime) -> list[Any]:
        return [obj.metadata.name, obj.metadata.creation_timestamp]
