"""Field managers, and what they disagree on."""

from __future__ import annotations

from typing import NamedTuple

from podling.errors import PodlingError
from podling.machinery.field_set import FieldSet, Path, text


class Manager(NamedTuple):
    """Who wrote: a field manager by operation (Apply or Update), API version and subresource."""

    name: str
    operation: str
    api_version: str = ""
    subresource: str = ""


Managers = dict[Manager, FieldSet]


class Conflict(NamedTuple):
    """A field that another manager owns with another value."""

    manager: Manager
    path: Path

    def __str__(self) -> str:
        return text(self.path)


class ApplyConflict(PodlingError):
    """The intent contradicts other managers; nothing was changed."""

    def __init__(self, conflicts: list[Conflict]) -> None:
        super().__init__(f"{len(conflicts)} conflicts")
        self.conflicts = conflicts
