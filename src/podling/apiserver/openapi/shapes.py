"""What both flavours of OpenAPI say of an operation: its schemas, its media types, which parameters are its path's."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from podling.api import meta_v1, registry, version
from podling.api.registry import Resource
from podling.apiserver.negotiate import CBOR, JSON, PROTOBUF, STREAMS, YAML, supported
from podling.apiserver.openapi import parameters, schemas
from podling.apiserver.openapi.paths import PATCH, Kind, Operation
from podling.apiserver.openapi.routes import VERSION
from podling.apiserver.openapi.schemas import Definitions, Schema

CODES = {200: "OK", 201: "Created", 202: "Accepted"}
_PATCH_TYPES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_PATCH_NAME = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch"
_PATCH_TEXT = "Patch is provided to give a concrete name and type to the Kubernetes PATCH request body."


class Shared(NamedTuple):
    """The parameters that all operations of a path have, and those that only one has, by its identifier."""

    path: list[dict[str, Any]]
    own: dict[str, list[str]]


def shared(path: str, operations: list[Operation], flavour: int) -> Shared:
    """What all operations have is said once, of the path."""
    options = [(*o.options, *_pretty(o)) for o in operations]
    common = set(options[0]).intersection(*options[1:])
    kind = operations[0].kind[2]
    found = [parameters.in_path(name, kind, flavour) for name in _PLACEHOLDER.findall(path)]
    found += [parameters.query(name, flavour) for name in common]
    own = {o.id: sorted(set(names) - common) for o, names in zip(operations, options, strict=True)}
    return Shared(sorted(found, key=lambda p: (p["name"], p["in"])), own)


def _pretty(o: Operation) -> tuple[str, ...]:
    return ("pretty",) if o.action and o.action != "connect" else ()


def reads(o: Operation, cbor: bool) -> list[str]:
    """The media types of its body."""
    if not o.action:
        return list(o.reads)
    if o.body == PATCH:
        # Strategic merge patches are for built-in kinds: clients look here whether they may send one.
        types = [t for t in _PATCH_TYPES if not o.custom or "strategic" not in t]
        return [*types, "application/apply-patch+cbor"] if cbor and not o.custom else types
    return [JSON, YAML] if o.custom else ["*/*"]


def answers(o: Operation, cbor: bool) -> list[str]:
    """The media types of its answer."""
    if not o.action:
        return list(o.answers)
    if o.custom:
        return [JSON, YAML]
    if o.action == "connect":
        return ["*/*"]
    forms = list(supported(cbor))
    if o.action in ("list", "watch", "watchlist"):
        streams = [f"{JSON};stream=watch", f"{PROTOBUF};stream=watch", *([STREAMS[CBOR]] if cbor else [])]
        return [*forms, *streams]
    return ["text/plain", *forms] if o.answer is None else forms


def schema_of(kind: Kind | None, definitions: Definitions) -> Schema:
    """The schema of a body or an answer; without a kind it is text."""
    if kind is None:
        return {"type": "string"}
    group, number, name = kind
    if kind == PATCH:
        definitions.schemas.setdefault(_PATCH_NAME, {"type": "object", "description": _PATCH_TEXT})
        return definitions.ref(_PATCH_NAME)
    if kind == VERSION:
        return definitions.ref(definitions.add(version.Info))
    if kind in definitions.custom:
        return definitions.ref(definitions.custom[kind])
    module = registry.module_name(Resource(group=group, version=number, name="", kind=name))
    found = schemas.find(module, name)
    if found is None and not group:
        found = getattr(meta_v1, name, None)
    return {"type": "object"} if found is None else definitions.ref(definitions.add(found))
