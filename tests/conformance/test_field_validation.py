"""Unknown and duplicate fields of built-in kinds; of custom resources: `test_crd_field_validation.py`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.conformance.web import MERGE, STRATEGIC, Web, over_http
from tests.conformance.whole import in_namespace, template

DEPLOYMENTS = in_namespace("apps/v1", "deployments")
STRICT = {"fieldManager": "field_validation_mgr", "fieldValidation": "Strict"}


def deployment(**spec: Any) -> dict[str, Any]:
    labels = {"app": "nginx"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "my-dep", "labels": labels},
        "spec": {**spec, "selector": {"matchLabels": labels}, "template": template(**labels)},
    }


@over_http
async def test_unknown_and_duplicate_fields(web: Web) -> None:
    text = json.dumps(deployment(unknownField="foo", replicas=2)).replace(
        '"replicas": 2', '"replicas": 2, "replicas": 3'
    )
    refused = await web.ask("POST", DEPLOYMENTS, text.encode(), params=STRICT, status=400)
    assert refused["message"] == (
        'Deployment in version "v1" cannot be handled as a Deployment: strict decoding error: '
        'unknown field "spec.unknownField", duplicate field "spec.replicas"'
    )


@over_http
async def test_unknown_fields_of_metadata(web: Web) -> None:
    raw = deployment()
    raw["metadata"]["unknownMeta"] = "foo"
    refused = await web.ask("POST", DEPLOYMENTS, raw, params=STRICT, status=400)
    assert 'strict decoding error: unknown field "metadata.unknownMeta"' in refused["message"]


@pytest.mark.parametrize("headers", [MERGE, STRATEGIC], ids=["merge", "strategic"])
@over_http
async def test_unknown_fields_of_patches(web: Web, headers: dict[str, str]) -> None:
    await web.ask("POST", DEPLOYMENTS, deployment())
    body = b'{"spec": {"foo": "bar", "replicas": 1, "replicas": 2}}'
    refused = await web.ask("PATCH", f"{DEPLOYMENTS}/my-dep", body, params=STRICT, headers=headers, status=422)
    assert 'unknown field "spec.foo"' in refused["message"]
    assert 'duplicate field "spec.replicas"' in refused["message"]
