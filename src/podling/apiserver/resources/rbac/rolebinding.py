"""RoleBinding."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api import names, rbac_v1, times
from podling.api.errors import FieldError
from podling.apiserver.resources.rbac.rules import (
    GROUP,
    default_subject,
    subjects_of,
    validate_role_ref,
    validate_subject,
)
from podling.apiserver.strategy import Column, Strategy
from podling.machinery import validation
from podling.machinery.validation import Path


class RoleBindingStrategy(Strategy[rbac_v1.RoleBinding]):
    columns = (
        Column("Name", format="name"),
        Column("Role"),
        Column("Age"),
        Column("Users", priority=1),
        Column("Groups", priority=1),
        Column("ServiceAccounts", priority=1),
    )

    def validate_name(self, name: str, *, prefix: bool) -> list[str]:
        return names.path_segment(name, prefix=prefix)

    def default(self, obj: rbac_v1.RoleBinding) -> None:
        if not obj.role_ref.api_group:
            obj.role_ref.api_group = GROUP
        for subject in obj.subjects or ():
            default_subject(subject)

    def validate(self, obj: rbac_v1.RoleBinding) -> list[FieldError]:
        found = validate_role_ref(obj.role_ref, kinds=["Role", "ClusterRole"])
        for n, subject in enumerate(obj.subjects or ()):
            found += validate_subject(subject, Path("subjects").index(n), namespaced=True)
        return found

    def validate_update(self, new: rbac_v1.RoleBinding, old: rbac_v1.RoleBinding) -> list[FieldError]:
        found = self.validate(new)
        if new.role_ref != old.role_ref:
            found.append(validation.invalid(Path("roleRef"), new.role_ref, "cannot change roleRef"))
        return found

    def row(self, obj: rbac_v1.RoleBinding, now: datetime) -> list[Any]:
        ref = obj.role_ref
        cells = [subjects_of(obj.subjects, kind) for kind in ("User", "Group", "ServiceAccount")]
        age = times.age(obj.metadata.creation_timestamp, now)
        return [obj.metadata.name, f"{ref.kind}/{ref.name}", age, *cells]
