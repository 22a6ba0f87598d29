"""Findings in upstream's words, and the rules of metadata."""

from typing import Any

import pytest

from podling.api import meta_v1, names
from podling.machinery import validation as v
from podling.machinery.validation import Path

HERE = Path("spec").child("containers").index(0).child("image")


def test_paths() -> None:
    assert str(HERE) == "spec.containers[0].image"
    assert str(Path("metadata").child("labels").key("a/b")) == "metadata.labels[a/b]"
    assert str(Path("a").child("b", "c")) == "a.b.c"


@pytest.mark.parametrize(
    ("finding", "type_", "body"),
    [
        (v.required(HERE), "FieldValueRequired", "Required value"),
        (v.required(HERE, "why"), "FieldValueRequired", "Required value: why"),
        (v.invalid(HERE, 'a"b', "must be x"), "FieldValueInvalid", 'Invalid value: "a\\"b": must be x'),
        (v.invalid(HERE, 5, "must be x"), "FieldValueInvalid", "Invalid value: 5: must be x"),
        (v.invalid(HERE, None, "no"), "FieldValueInvalid", "Invalid value: null: no"),
        (
            v.invalid(HERE, meta_v1.LabelSelector(match_labels={"a": "b"}), v.IMMUTABLE),
            "FieldValueInvalid",
            'Invalid value: {"matchLabels":{"a":"b"}}: field is immutable',
        ),
        (
            v.not_supported(HERE, "x", ["a", "b"]),
            "FieldValueNotSupported",
            'Unsupported value: "x": supported values: "a", "b"',
        ),
        (v.forbidden(HERE, "no"), "FieldValueForbidden", "Forbidden: no"),
        (v.duplicate(HERE, "a"), "FieldValueDuplicate", 'Duplicate value: "a"'),
        (v.not_found(HERE, "a"), "FieldValueNotFound", 'Not found: "a"'),
        (v.too_long(HERE, 1), "FieldValueTooLong", "Too long: may not be more than 1 byte"),
        (v.too_long(HERE, 5), "FieldValueTooLong", "Too long: may not be more than 5 bytes"),
        (v.too_many(HERE, 9, 5), "FieldValueTooMany", "Too many: 9: must have at most 5 items"),
        (v.type_invalid(HERE, 1, "must be string"), "FieldValueTypeInvalid", "Invalid value: 1: must be string"),
    ],
)
def test_bodies(finding: Any, type_: str, body: str) -> None:
    assert (finding.type, finding.field, finding.body) == (type_, "spec.containers[0].image", body)
    assert str(finding) == f"spec.containers[0].image: {body}"


def findings(**meta: Any) -> list[str]:
    meta = {"name": "a", "namespace": "default", **meta}
    return [str(f) for f in v.object_meta(meta_v1.ObjectMeta(**meta), names.dns_subdomain, namespaced=True)]


def test_good_metadata() -> None:
    assert findings(labels={"app": "web"}, annotations={"A/b": "x" * 1000}, finalizers=["example.com/x"]) == []


@pytest.mark.parametrize(
    ("meta", "expected"),
    [
        ({"name": None}, ["metadata.name: Required value: name or generateName is required"]),
        ({"namespace": None}, ["metadata.namespace: Required value"]),
        ({"generation": -1}, ["metadata.generation: Invalid value: -1: must be greater than or equal to 0"]),
        ({"annotations": {"a": "x" * 262144}}, ["metadata.annotations: Too long: may not be more than 262144 bytes"]),
        (
            {"finalizers": ["orphan", "foregroundDeletion"]},
            [
                'metadata.finalizers: Invalid value: ["orphan","foregroundDeletion"]: '
                "finalizer orphan and foregroundDeletion cannot be both set"
            ],
        ),
        (
            {"owner_references": [meta_v1.OwnerReference(api_version="a/b/c", kind="", name="x", uid="")]},
            [
                'metadata.ownerReferences[0].apiVersion: Invalid value: "a/b/c": '
                "must be <group>/<version> or <version>",
                "metadata.ownerReferences[0].kind: Required value: must not be empty",
                "metadata.ownerReferences[0].uid: Required value: must not be empty",
            ],
        ),
        (
            {"managed_fields": [meta_v1.ManagedFieldsEntry(operation="X", fields_type="Y")]},
            [
                'metadata.managedFields[0].operation: Unsupported value: "X": supported values: "Apply", "Update"',
                'metadata.managedFields[0].fieldsType: Invalid value: "Y": must be `FieldsV1`',
            ],
        ),
    ],
)
def test_bad_metadata(meta: dict[str, Any], expected: list[str]) -> None:
    assert findings(**meta) == expected


def test_one_controller_only() -> None:
    owners = [meta_v1.OwnerReference(api_version="v1", kind="A", name=n, uid=n, controller=True) for n in ("x", "y")]
    (found,) = findings(owner_references=owners)
    assert found.endswith('Found "true" in references for A/x and A/y')


def test_bad_label() -> None:
    (found,) = findings(labels={"a": "b c"})
    assert found.startswith(
        'metadata.labels: Invalid value: "b c": a valid label must be an empty string or consist of'
    )


def test_cluster_scoped_objects_have_no_namespace() -> None:
    meta = meta_v1.ObjectMeta(name="a", namespace="b")
    (found,) = v.object_meta(meta, names.dns_subdomain, namespaced=False)
    assert str(found) == "metadata.namespace: Forbidden: not allowed on this type"


def test_metadata_updates() -> None:
    old = meta_v1.ObjectMeta(
        name="a", uid="1", resource_version="1", generation=2, creation_timestamp="2026-01-01T00:00:00Z",
        deletion_timestamp="2026-01-02T00:00:00Z", finalizers=["x"],
    )  # fmt: skip
    assert v.object_meta_update(old, old) == []
    new = meta_v1.ObjectMeta(
        name="b", uid="2", generation=1, creation_timestamp="2026-01-01T00:00:00Z", finalizers=["x", "y"]
    )
    assert [str(f) for f in v.object_meta_update(new, old)] == [
        "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, "
        'found new finalizers []string{"y"}',
        'metadata.resourceVersion: Invalid value: "": must be specified for an update',
        "metadata.generation: Invalid value: 1: must not be decremented",
        'metadata.name: Invalid value: "b": field is immutable',
        'metadata.uid: Invalid value: "2": field is immutable',
        "metadata.deletionTimestamp: Invalid value: null: field is immutable",
    ]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (
            {"key": "a", "operator": "In"},
            "s.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
        ),
        (
            {"key": "a", "operator": "Exists", "values": ["x"]},
            "s.matchExpressions[0].values: Forbidden: "
            "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
        ),
        (
            {"key": "a", "operator": "Is"},
            's.matchExpressions[0].operator: Invalid value: "Is": not a valid selector operator',
        ),
    ],
)
def test_label_selectors(expression: dict[str, Any], expected: str) -> None:
    selector = meta_v1.LabelSelector(match_expressions=[meta_v1.LabelSelectorRequirement(**expression)])
    assert [str(f) for f in v.label_selector(selector, Path("s"))] == [expected]


@pytest.mark.parametrize(
    ("new", "old", "same"),
    [(None, None, True), (None, [], True), ({}, None, True), ("a", "a", True), ("a", "b", False), (None, 0, False)],
)
def test_immutable(new: Any, old: Any, same: bool) -> None:
    assert (v.immutable(new, old, HERE) == []) is same
