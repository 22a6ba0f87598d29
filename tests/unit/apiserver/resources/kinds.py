"""For tables of tests about kinds: an object from a dict, changed at a path, and what its strategy says of it."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any

from podling.api import registry
from podling.api.request import User
from podling.api.struct import from_dict, to_dict
from podling.apiserver.resources import strategy_for
from podling.apiserver.strategy import Context

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
ALICE = User(name="alice", groups=("dev", "system:authenticated"))
GONE = object()


def changed(base: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A copy of `base` with values put at paths: `spec__versions__0__name="v1"`; GONE removes."""
    result = copy.deepcopy(base)
    for path, value in changes.items():
        here: Any = result
        *parents, last = [int(part) if part.isdecimal() else part for part in path.split("__")]
        for part in parents:
            if isinstance(here, dict) and part not in here:
                here[part] = {}
            here = here[part]
        if value is GONE:
            del here[last]
        elif isinstance(here, list) and last == len(here):
            here.append(copy.deepcopy(value))
        else:
            here[last] = copy.deepcopy(value)
    return result


class Kind:
    """The strategy of one kind, as the handlers call it."""

    def __init__(self, api_version: str, kind: str) -> None:
        resource = registry.by_kind(api_version, kind)
        assert resource is not None
        self.resource = resource
        self.strategy = strategy_for(resource)

    def context(self, **more: Any) -> Context:
        return Context(now=NOW, user=ALICE, **more)

    def make(self, data: dict[str, Any], *, default: bool = True) -> Any:
        """The defaulted object."""
        obj = from_dict(data, self.resource.type)
        if default:
            self.strategy.default(obj)
        return obj

    def defaulted(self, data: dict[str, Any]) -> dict[str, Any]:
        """Defaulted twice: it must be idempotent."""
        obj = self.make(data)
        once = to_dict(obj)
        self.strategy.default(obj)
        assert to_dict(obj) == once
        return once

    def created(self, data: dict[str, Any]) -> Any:
        """As it would be stored."""
        obj = self.make(data)
        self.strategy.prepare_create(obj, self.context())
        return obj

    def create(self, data: dict[str, Any]) -> list[str]:
        """What is wrong with a new object."""
        return [str(e) for e in self.strategy.validate(self.created(data))]

    def name(self, name: str) -> list[str]:
        return self.strategy.validate_name(name, prefix=False)

    def update(self, new: dict[str, Any], old: dict[str, Any]) -> list[str]:
        """What is wrong with a PUT; the status stays, as the handler sees to."""
        before, after = self.make(old), self.make(new)
        if self.strategy.has_status:
            after.status = before.status
        self.strategy.prepare_update(after, before, self.context())
        return [str(e) for e in self.strategy.validate_update(after, before)]

    def status_update(self, new: dict[str, Any], old: dict[str, Any]) -> list[str]:
        before, after = self.make(old), self.make(new)
        self.strategy.prepare_status_update(after, before, self.context())
        return [str(e) for e in self.strategy.validate_status_update(after, before)]

    def warnings(self, new: dict[str, Any], old: dict[str, Any] | None = None) -> list[str]:
        return self.strategy.warnings(self.make(new), self.make(old) if old is not None else None)

    def row(self, data: dict[str, Any]) -> dict[str, Any]:
        """Cells by column."""
        cells = self.strategy.row(self.make(data), NOW)
        assert len(cells) == len(self.strategy.columns)
        return dict(zip((c.name for c in self.strategy.columns), cells, strict=True))
