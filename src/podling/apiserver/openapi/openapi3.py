"""A v3 document: the operations and definitions of one path of the index as OpenAPI 3.0."""

from __future__ import annotations

from typing import Any

from podling.apiserver.openapi import parameters, shapes
from podling.apiserver.openapi.paths import Operation, extensions
from podling.apiserver.openapi.schemas import Definitions

_BEARER = {"BearerToken": {"type": "apiKey", "description": "Bearer Token authentication",
                           "name": "authorization", "in": "header"}}  # fmt: skip


def document(
    operations: dict[str, list[Operation]], definitions: Definitions, info: dict[str, str], *, cbor: bool
) -> dict[str, Any]:
    """A document of these operations by path."""
    paths: dict[str, Any] = {}
    for path, found in operations.items():
        both = shapes.shared(path, found, 3)
        item = {o.method: _operation(o, both.own[o.id], definitions, cbor) for o in found}
        paths[path] = {"parameters": both.path, **item} if both.path else item
    components: dict[str, Any] = {"securitySchemes": _BEARER}
    if definitions.schemas:
        components = {"schemas": dict(sorted(definitions.schemas.items())), **components}
    return {"openapi": "3.0.0", "info": info, "paths": dict(sorted(paths.items())), "components": components}


def _operation(o: Operation, options: list[str], definitions: Definitions, cbor: bool) -> dict[str, Any]:
    result: dict[str, Any] = {"tags": [o.tag], "description": o.summary, "operationId": o.id}
    if options:
        result["parameters"] = [parameters.query(name, 3) for name in options]
    if o.body is not None:
        schema = shapes.schema_of(o.body, definitions)
        result["requestBody"] = {"content": {t: {"schema": schema} for t in shapes.reads(o, cbor)}}
        if o.method != "delete":
            result["requestBody"]["required"] = True
    content = {t: {"schema": shapes.schema_of(o.answer, definitions)} for t in shapes.answers(o, cbor)}
    result["responses"] = {
        **{str(code): {"description": shapes.CODES[code], "content": content} for code in o.codes},
        "401": {"description": "Unauthorized"},
    }
    return {**result, **extensions(o)}
