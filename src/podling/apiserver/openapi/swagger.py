"""The v2 document: operations and definitions as Swagger 2.0, and parameters of many operations said once."""

from __future__ import annotations

import base64
import json
from typing import Any

from podling.apiserver.openapi import parameters, shapes
from podling.apiserver.openapi.paths import Operation, extensions
from podling.apiserver.openapi.schemas import Definitions

_BEARER = {"BearerToken": {"type": "apiKey", "description": "Bearer Token authentication",
                           "name": "authorization", "in": "header"}}  # fmt: skip
_BODY_OF_ALL = "#/definitions/io.k8s.apimachinery"


def document(
    operations: dict[str, list[Operation]], definitions: Definitions, info: dict[str, str], *, cbor: bool
) -> dict[str, Any]:
    """A document of these operations by path."""
    paths: dict[str, Any] = {}
    for path, found in operations.items():
        both = shapes.shared(path, found, 2)
        item = {o.method: _operation(o, both.own[o.id], definitions, cbor) for o in found}
        paths[path] = {**item, "parameters": both.path} if both.path else item
    shared = _share(paths)
    return {
        "swagger": "2.0",
        "info": info,
        "paths": dict(sorted(paths.items())),
        "definitions": dict(sorted(definitions.schemas.items())),
        "parameters": shared,
        "securityDefinitions": _BEARER,
        "security": [{"BearerToken": []}],
    }


def _operation(o: Operation, options: list[str], definitions: Definitions, cbor: bool) -> dict[str, Any]:
    found = [parameters.query(name, 2) for name in options]
    if o.body is not None:
        body: dict[str, Any] = {"name": "body", "in": "body", "schema": shapes.schema_of(o.body, definitions)}
        if o.method != "delete":
            body["required"] = True
        found = sorted([body, *found], key=lambda p: (p["name"], p["in"]))
    result: dict[str, Any] = {"description": o.summary, "operationId": o.id, "schemes": ["https"], "tags": [o.tag]}
    if types := shapes.reads(o, cbor):
        result["consumes"] = types
    result["produces"] = shapes.answers(o, cbor)
    if found:
        result["parameters"] = found
    answer = shapes.schema_of(o.answer, definitions)
    result["responses"] = {
        **{str(code): {"description": shapes.CODES[code], "schema": answer} for code in o.codes},
        "401": {"description": "Unauthorized"},
    }
    return {**result, **extensions(o)}


def _share(paths: dict[str, Any]) -> dict[str, Any]:
    """Moves out the parameters that are not one kind's own; answers them by name. Source: kube-openapi pkg/builder."""
    found: dict[str, Any] = {}
    for item in paths.values():
        holders = [item, *(operation for method, operation in item.items() if method != "parameters")]
        for holder in holders:
            if "parameters" in holder:
                holder["parameters"] = [_referred(p, found) for p in holder["parameters"]]
    return dict(sorted(found.items()))


def _referred(parameter: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    name, place = parameter["name"], parameter["in"]
    if name in ("name", "fieldValidation", "dryRun"):
        # The first has a kind in its description, by the others kubectl knew what a server can do.
        return parameter
    if place == "body" and not parameter["schema"].get("$ref", "").startswith(_BODY_OF_ALL):
        return parameter
    unique = f"{name}-{_hash(json.dumps(parameter, sort_keys=True, separators=(',', ':')))}"
    found[unique] = parameter
    return {"$ref": f"#/parameters/{unique}"}


def _hash(text: str) -> str:
    """FNV-1, 64 bits, of which six bytes are told."""
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = (value * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF) ^ byte
    return base64.urlsafe_b64encode(value.to_bytes(8, "big")[:6]).decode()
