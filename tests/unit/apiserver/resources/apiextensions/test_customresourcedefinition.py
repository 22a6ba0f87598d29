from __future__ import annotations

from typing import Any

import pytest

from tests.unit.apiserver.resources.kinds import GONE, Kind, changed

CRD = Kind("apiextensions.k8s.io/v1", "CustomResourceDefinition")
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"spec": {"type": "object"}}}
TABS: dict[str, Any] = {
    "metadata": {"name": "crontabs.stable.example.com"},
    "spec": {
        "group": "stable.example.com",
        "scope": "Namespaced",
        "names": {"plural": "crontabs", "kind": "CronTab"},
        "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": SCHEMA}}],
    },
}
TWO = changed(
    TABS,
    spec__versions__1={
        "name": "v2",
        "served": True,
        "storage": False,
        "schema": {"openAPIV3Schema": {"type": "object", "description": "another"}},
    },
)
ROOT = "spec__versions__0__schema__openAPIV3Schema"
LABEL = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is "
    "'[a-z]([-a-z0-9]*[a-z0-9])?')"
)


def test_defaults() -> None:
    spec = CRD.defaulted(TABS)["spec"]
    assert spec["names"] == {"plural": "crontabs", "kind": "CronTab", "singular": "crontab", "listKind": "CronTabList"}
    assert spec["conversion"] == {"strategy": "None"}


def test_storage_version_is_remembered() -> None:
    assert CRD.created(TABS).status.stored_versions == ["v1"]
    new = CRD.make(changed(TWO, spec__versions__0__storage=False, spec__versions__1__storage=True))
    CRD.strategy.prepare_update(new, CRD.created(TWO), CRD.context())
    assert new.status.stored_versions == ["v1", "v2"]


@pytest.mark.parametrize("good", [TABS, TWO])
def test_valid(good: dict[str, Any]) -> None:
    assert CRD.create(good) == []
    assert CRD.update(good, good) == []


@pytest.mark.parametrize(
    ("changes", "findings"),
    [
        (
            {"metadata__name": "tabs.example.com"},
            ['metadata.name: Invalid value: "tabs.example.com": must be spec.names.plural+"."+spec.group'],
        ),
        (
            {"metadata__name": "crontabs.local", "spec__group": "local"},
            ['spec.group: Invalid value: "local": should be a domain with at least one dot'],
        ),
        ({"spec__scope": ""}, ["spec.scope: Required value"]),
        (
            {"spec__scope": "Galaxy"},
            ['spec.scope: Unsupported value: "Galaxy": supported values: "Cluster", "Namespaced"'],
        ),
        ({"spec__versions__0__schema": GONE}, ["spec.versions[0].schema.openAPIV3Schema: Required value"]),
        ({"spec__versions__0__name": "1"}, [f'spec.versions[0].name: Invalid value: "1": {LABEL}']),
        ({"spec__names__kind": ""}, ["spec.names.singular: Required value", "spec.names.kind: Required value",
                                     "spec.names.listKind: Required value"]),
        (
            {"spec__names__listKind": "CronTab"},
            ['spec.names.listKind: Invalid value: "CronTab": kind and listKind may not be the same'],
        ),
        ({"spec__names__shortNames": ["C"]}, [f'spec.names.shortNames[0]: Invalid value: "C": {LABEL}']),
        ({"spec__names__categories": ["C"]}, [f'spec.names.categories[0]: Invalid value: "C": {LABEL}']),
        (
            {"spec__preserveUnknownFields": True},
            [
                "spec.preserveUnknownFields: Invalid value: true: cannot set to true, set "
                "x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead"
            ],
        ),
        (
            {"spec__versions__0__deprecationWarning": "old"},
            [
                'spec.versions[0].deprecationWarning: Invalid value: "old": can only be set for deprecated versions'
            ],
        ),
        (
            {"spec__conversion": {"strategy": "Webhook"}},
            [
                "spec.conversion.webhookClientConfig: Required value: required when strategy is set to Webhook",
                "spec.conversion.conversionReviewVersions: Required value",
            ],
        ),
        (
            {"spec__conversion": {"strategy": "Webhook", "webhook": {
                "clientConfig": {"url": "http://u@example.com/?a#b"}, "conversionReviewVersions": ["v2", "v2"]}}},
            [
                'spec.conversion.webhookClientConfig.url: Invalid value: "http": \'https\' is the only allowed URL '
                'scheme;'
                " desired format: https://host[/path]",
                'spec.conversion.webhookClientConfig.url: Invalid value: "u": user information is not permitted in '
                'the URL',
                'spec.conversion.webhookClientConfig.url: Invalid value: "b": fragments are not permitted in the URL',
                'spec.conversion.webhookClientConfig.url: Invalid value: "a": query parameters are not permitted in '
                'the URL',
                'spec.conversion.conversionReviewVersions[1]: Invalid value: "v2": duplicate version',
                'spec.conversion.conversionReviewVersions: Invalid value: ["v2","v2"]: must include at least one of '
                'v1, v1beta1',
            ],
        ),
        (
            {"spec__versions__0__additionalPrinterColumns": [{"name": "", "type": "text", "jsonPath": "spec"}]},
            [
                "spec.additionalPrinterColumns[0].name: Required value",
                'spec.additionalPrinterColumns[0].type: Invalid value: "text": '
                "must be one of boolean,date,integer,number,string",
                'spec.additionalPrinterColumns[0].JSONPath: Invalid value: "spec": must be a simple json path '
                'starting with .',
            ],
        ),
        (
            {"spec__versions__0__subresources": {"scale": {"specReplicasPath": ".status.n", "statusReplicasPath": ""}}},
            [
                'spec.subresources.scale.specReplicasPath: Invalid value: ".status.n": should be a json path under '
                '.spec',
                "spec.subresources.scale.statusReplicasPath: Required value",
            ],
        ),
        (
            {"spec__versions__0__selectableFields": [{"jsonPath": ".spec"}, {"jsonPath": ".spec.x"}]},
            [
                'spec.selectableFields[0].jsonPath: Invalid value: ".spec": must point to a field of type string, '
                'boolean '
                "or integer. Enum string fields and strings with formats are allowed.",
                'spec.selectableFields[1].jsonPath: Invalid value: ".spec.x": is an invalid path: '
                "does not refer to a valid field",
            ],
        ),
    ],
)  # fmt: skip
def test_invalid(changes: dict[str, Any], findings: list[str]) -> None:
    assert CRD.create(changed(TABS, **changes)) == findings


def test_what_versions_do_not_share_is_reported_at_the_version() -> None:
    bad = changed(TWO, spec__versions__1__schema__openAPIV3Schema__type="array")
    assert CRD.create(bad) == [
        "spec.versions[1].schema.openAPIV3Schema.items: Required value: must be specified",
        'spec.versions[1].schema.openAPIV3Schema.type: Invalid value: "array": must be object at the root',
    ]


def test_versions_have_one_storage_version_and_names_of_their_own() -> None:
    found = CRD.create(changed(TWO, spec__versions__1__name="v1", spec__versions__1__storage=True))
    assert [f.rpartition(": ")[2] for f in found] == [
        "must contain unique version names",
        "must have exactly one version marked as storage version",
    ]


@pytest.mark.parametrize(
    ("annotation", "finding"),
    [
        ("https://github.com/kubernetes/kubernetes/pull/1", None),
        ("unapproved, an experiment", None),
        ("", "Required value: protected groups must have approval annotation"),
        ("yes", 'Invalid value: "yes": protected groups must have approval annotation'),
    ],
)
def test_groups_of_kubernetes_need_approval(annotation: str, finding: str | None) -> None:
    found = CRD.create(
        changed(
            TABS,
            metadata__name="crontabs.stable.k8s.io",
            metadata__annotations={"api-approved.kubernetes.io": annotation},
            spec__group="stable.k8s.io",
        )
    )
    if finding is None:
        assert found == []
    else:
        assert found[0].startswith(f"metadata.annotations[api-approved.kubernetes.io]: {finding}")


def test_names_stay_once_established() -> None:
    new = changed(TABS, spec__names__kind="Tab", spec__names__listKind="TabList", spec__scope="Cluster")
    assert CRD.update(new, TABS) == []
    established = changed(TABS, status={"conditions": [{"type": "Established", "status": "True"}]})
    assert CRD.update(new, established) == [
        'spec.scope: Invalid value: "Cluster": field is immutable',
        'spec.names.kind: Invalid value: "Tab": field is immutable',
    ]


def test_a_stored_version_stays() -> None:
    old = changed(TWO, status__storedVersions=["v1", "v2"])
    assert CRD.update(changed(TABS, status__storedVersions=["v1", "v2"]), old) == [
        'status.storedVersions[1]: Invalid value: "v2": missing from spec.versions; v2 was previously a storage '
        "version, "
        "and must remain in spec.versions until a storage migration ensures no data remains persisted in v2 and "
        "removes "
        "v2 from status.storedVersions"
    ]


@pytest.mark.parametrize(
    ("schema", "findings"),
    [
        ({"properties": {}}, ["type: Required value: must not be empty at the root"]),
        (
            {"type": "object", "properties": {"a": {}}},
            ["properties[a].type: Required value: must not be empty for specified object fields"],
        ),
        (
            {"type": "object", "properties": {"a": {"type": "array", "items": {}}}},
            ["properties[a].items.type: Required value: must not be empty for specified array items"],
        ),
        (
            {"type": "object", "nullable": True},
            ["nullable: Forbidden: nullable cannot be true at the root"],
        ),
        (
            {"type": "object", "additionalProperties": {"type": "string"}},
            ["additionalProperties: Forbidden: must not be used at the root"],
        ),
        (
            {"type": "object", "properties": {"metadata": {"type": "object", "description": "mine"}}},
            [
                "properties[metadata]: Forbidden: must not specify anything other than name and generateName, "
                "but metadata is implicitly specified"
            ],
        ),
        (
            {"type": "object", "properties": {"metadata": {"type": "object", "properties": {
                "name": {"type": "string", "pattern": "^a"}}}}},
            [],
        ),
        (
            {"type": "object", "anyOf": [{"properties": {"b": {"type": "string"}}}]},
            [
                "anyOf[0].properties[b].type: Forbidden: must be empty to be structural",
                'properties[b]: Required value: because it is defined in %s.anyOf[0].properties[b]',
            ],
        ),
        (
            {"type": "object", "properties": {"p": {
                "x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]}}},
            [],
        ),
        (
            {"type": "object", "properties": {"p": {"type": "null"}}},
            [
                'properties[p].type: Unsupported value: "null": supported values: "array", "boolean", "integer", '
                '"number", '
                '"object", "string"',
                "properties[p].type: Forbidden: type cannot be set to null, use nullable as an alternative",
            ],
        ),
        (
            {"type": "object", "properties": {"p": {
                "type": "array", "x-kubernetes-list-type": "map", "items": {"type": "object"}}}},
            [
                "properties[p].x-kubernetes-list-map-keys: Required value: "
                "must not be empty if x-kubernetes-list-type is map"
            ],
        ),
        (
            {"type": "object", "properties": {"p": {
                "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"],
                "items": {"type": "object", "properties": {"n": {"type": "string"}}}}}},
            [
                "properties[p].items.properties[n].default: Required value: this property is in "
                "x-kubernetes-list-map-keys, so it must have a default or be a required property"
            ],
        ),
        (
            {"type": "object", "x-kubernetes-validations": [{"rule": " "}, {"rule": "true", "reason": "Why"}]},
            [
                "x-kubernetes-validations[0].rule: Required value: rule is not specified",
                'x-kubernetes-validations[1].reason: Unsupported value: "Why": supported values: '
                '"FieldValueDuplicate", '
                '"FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"',
            ],
        ),
        (
            {"type": "object", "properties": {"p": {"type": "string", "uniqueItems": True}}},
            [
                "properties[p].uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity "
                "becomes quadratic"
            ],
        ),
    ],
)  # fmt: skip
def test_schema(schema: dict[str, Any], findings: list[str]) -> None:
    root = "spec.validation.openAPIV3Schema"
    assert CRD.create(changed(TABS, **{ROOT: schema})) == [f"{root}.{f}".replace("%s", root) for f in findings]


def test_a_schema_with_status_has_nothing_beside_its_properties() -> None:
    bad = changed(TABS, spec__versions__0__subresources={"status": {}}, **{f"{ROOT}__nullable": False})
    assert CRD.create(bad) == []
    found = CRD.create(changed(bad, **{f"{ROOT}__anyOf": [{"required": ["spec"]}]}))
    assert len(found) == 1
    assert found[0].endswith("fields are allowed at the root of the schema if the status subresource is enabled")


def test_sets_of_objects_are_warned_of_once() -> None:
    item = {"type": "object", "x-kubernetes-map-type": "atomic"}
    warned = changed(TABS, **{f"{ROOT}__properties__s": {
        "type": "array", "x-kubernetes-list-type": "set", "items": item}})  # fmt: skip
    assert CRD.create(warned) == []
    assert CRD.warnings(warned, TABS) == [
        'x-kubernetes-list-type: set for items of type "object" is not supported by server-side apply or CEL '
        "validation "
        "rules"
    ]
    assert CRD.warnings(warned, warned) == []


def test_row() -> None:
    assert CRD.row(changed(TABS, metadata__creationTimestamp="2026-01-01T00:00:00Z")) == {
        "Name": "crontabs.stable.example.com",
        "Created At": "2026-01-01T00:00:00Z",
    }
