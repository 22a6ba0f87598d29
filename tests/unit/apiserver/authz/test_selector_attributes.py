from __future__ import annotations

from typing import Any

import pytest

from podling.api import authorization_v1 as v1
from podling.api.struct import from_dict
from podling.apiserver.authz import selector_attributes
from podling.machinery.validation import Path


def labels(*requirements: dict[str, Any], **more: Any) -> v1.LabelSelectorAttributes:
    return from_dict({"requirements": list(requirements), **more}, v1.LabelSelectorAttributes)


def fields(*requirements: dict[str, Any], **more: Any) -> v1.FieldSelectorAttributes:
    return from_dict({"requirements": list(requirements), **more}, v1.FieldSelectorAttributes)


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        (None, ""),
        (labels(rawSelector="a=b"), "a=b"),
        (labels({"key": "a", "operator": "In", "values": ["x"]}), "a=x"),
        (labels({"key": "a", "operator": "In", "values": ["x", "y"]}), "a in (x,y)"),
        (labels({"key": "a", "operator": "NotIn", "values": ["x"]}, {"key": "b", "operator": "Exists"}), "a!=x,b"),
        (labels({"key": "b", "operator": "DoesNotExist"}, {"key": "c", "operator": "New"}), "!b"),
        (fields({"key": "spec.nodeName", "operator": "In", "values": ["n1"]}), "spec.nodeName=n1"),
        (fields({"key": "a", "operator": "NotIn", "values": ["x,y"]}), "a!=x\\,y"),
        (fields({"key": "a", "operator": "In", "values": ["x", "y"]}), ""),
    ],
)
def test_requirements_as_a_query_has_them(selector: Any, expected: str) -> None:
    assert selector_attributes.text(selector) == expected


@pytest.mark.parametrize(
    ("selector", "said"),
    [
        (labels(), "labelSelector.requirements: Required value: when labelSelector is specified, requirements or"),
        (
            labels({"key": "a", "operator": "Exists"}, rawSelector="a"),
            "may not specified at the same time as",
        ),
        (labels({"key": "", "operator": "Exists"}), "requirements[0].key: Required value: must be specified"),
        (labels({"key": "a", "operator": "In"}), "must be specified when `operator` is 'In' or 'NotIn'"),
        (labels({"key": "a", "operator": "Exists", "values": ["x"]}), "values: Forbidden: may not be specified when"),
    ],
)
def test_what_is_wrong_with_selectors(selector: Any, said: str) -> None:
    found = selector_attributes.findings(v1.ResourceAttributes(label_selector=selector), Path(""))
    assert any(said in str(f).replace("..", "") for f in found), [str(f) for f in found]
