"""What the tests of strategies share: a strategy by name, an object from YAML, findings as text."""

from datetime import UTC, datetime
from typing import Any

import yaml

from podling.api import registry
from podling.api.request import User
from podling.apiserver.resources import strategy_for
from podling.apiserver.strategy import Context, Strategy
from podling.machinery import schema

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
CONTEXT = Context(now=NOW, user=User("alice", ("dev",)))


def strategy(api_version: str, kind: str) -> Strategy[Any]:
    resource = registry.by_kind(api_version, kind)
    assert resource is not None
    return strategy_for(resource)


def load(text: str | dict[str, Any]) -> tuple[Strategy[Any], Any]:
    """The strategy and the object of a manifest, decoded as a request's body is."""
    document = yaml.safe_load(text) if isinstance(text, str) else text
    found = strategy(document["apiVersion"], document["kind"])
    return found, schema.convert(document, found.resource.type)


def created(text: str | dict[str, Any]) -> Any:
    """A manifest after defaults and preparation."""
    found, obj = load(text)
    obj.metadata.namespace = obj.metadata.namespace or "default"
    obj.metadata.uid = obj.metadata.uid or "uid-1"
    found.default(obj)
    found.prepare_create(obj, CONTEXT)
    return obj


def findings(text: str | dict[str, Any]) -> list[str]:
    """What is wrong with a new object."""
    found, _ = load(text)
    return [str(f) for f in found.validate(created(text))]


def update_findings(before: str | dict[str, Any], after: str | dict[str, Any]) -> list[str]:
    """What is wrong with a change."""
    found, new = load(after)
    old = created(before)
    new.metadata.namespace, new.metadata.uid = old.metadata.namespace, old.metadata.uid
    found.default(new)
    if found.has_status:
        new.status = old.status
    found.prepare_update(new, old, CONTEXT)
    return [str(f) for f in found.validate_update(new, old)]


def row(text: str | dict[str, Any]) -> dict[str, Any]:
    """The table row of an object as it is stored, by column name."""
    found, obj = load(text)
    cells = found.row(obj, NOW)
    assert len(cells) == len(found.columns)
    return dict(zip((c.name for c in found.columns), cells, strict=True))
