"""Definitions: what upstream publishes of types and fields beside their names."""

from __future__ import annotations

from typing import Any

import pytest

from podling.api import (
    apiextensions_v1,
    apps_v1,
    authentication_v1,
    core_v1,
    flowcontrol_v1,
    meta_v1,
    networking_v1,
)  # fmt: skip
from podling.apiserver.openapi import facts, schemas
from podling.apiserver.openapi.schemas import Definitions
from podling.machinery import typeinfo


def definition(type_: type[Any], flavour: int = 3) -> dict[str, Any]:
    definitions = Definitions(flavour)
    return definitions.schemas[definitions.add(type_)]


@pytest.mark.parametrize("flavour", [2, 3])
def test_fields_with_a_few_values_list_them(flavour: int) -> None:
    policy = definition(core_v1.Container, flavour)["properties"]["imagePullPolicy"]
    assert policy["enum"] == ["Always", "IfNotPresent", "Never"]
    assert policy["description"].endswith('\n\nPossible enum values:\n - `"Always"`\n - `"IfNotPresent"`\n - `"Never"`')
    types = definition(networking_v1.NetworkPolicySpec, flavour)["properties"]["policyTypes"]
    assert types["items"]["enum"] == ["Egress", "Ingress"] and "Possible" not in types["description"]
    # Constants that are made of other packages' constants, and fields of embedded structs.
    assert facts.load().enums["discovery_v1.EndpointSlice.addressType"] == ["FQDN", "IPv4", "IPv6"]
    assert "core_v1.EphemeralContainer.terminationMessagePolicy" in facts.load().enums


def test_defaults_are_in_v3_alone() -> None:
    port = definition(core_v1.ServicePort)["properties"]
    assert port["protocol"]["default"] == "TCP" and port["protocol"]["enum"] == ["SCTP", "TCP", "UDP"]
    assert port["port"]["default"] == 0 and "default" not in port["nodePort"]
    assert port["targetPort"]["allOf"] and "default" not in port["targetPort"]
    assert "default" not in definition(core_v1.ServicePort, 2)["properties"]["protocol"]
    pod = definition(core_v1.PodSpec)["properties"]
    assert pod["containers"]["items"]["default"] == {} and pod["nodeSelector"]["additionalProperties"]["default"] == ""
    assert definition(apps_v1.Deployment)["properties"]["spec"]["default"] == {}
    limits = definition(core_v1.ResourceRequirements)["properties"]["limits"]["additionalProperties"]
    assert limits == {"$ref": "#/components/schemas/io.k8s.apimachinery.pkg.api.resource.Quantity"}
    data = definition(core_v1.ConfigMap)["properties"]["binaryData"]["additionalProperties"]
    assert data == {"type": "string", "format": "byte"}


def test_types_say_how_they_are_read() -> None:
    assert definition(core_v1.SecretKeySelector)["x-kubernetes-map-type"] == "atomic"
    assert definition(flowcontrol_v1.LimitResponse)["x-kubernetes-unions"] == [
        {"discriminator": "type", "fields-to-discriminateBy": {"queuing": "Queuing"}}
    ]
    assert definition(meta_v1.OwnerReference)["required"] == ["apiVersion", "kind", "name", "uid"]
    extra = definition(authentication_v1.UserInfo)["properties"]["extra"]["additionalProperties"]
    assert extra == {"type": "array", "items": {"type": "string", "default": ""}}
    groups = definition(core_v1.PodSecurityContext)["properties"]["supplementalGroups"]
    assert groups["items"] == {"type": "integer", "format": "int64", "default": 0}


def test_free_form_types_have_names() -> None:
    definitions = Definitions(2)
    props = definitions.schemas[definitions.add(apiextensions_v1.JSONSchemaProps)]["properties"]
    name = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool"
    assert props["additionalProperties"]["$ref"] == f"#/definitions/{name}"
    assert "type" not in definitions.schemas[name]


def test_events_of_watches_are_of_every_group() -> None:
    kinds = definition(meta_v1.WatchEvent)["x-kubernetes-group-version-kind"]
    assert {"group": "apps", "version": "v1", "kind": "WatchEvent"} in kinds


def test_descriptions_are_optional_but_values_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schemas, "_prose", dict)
    policy = definition(core_v1.PodSpec)["properties"]["restartPolicy"]
    assert policy == {
        "type": "string",
        "enum": ["Always", "Never", "OnFailure"],
        "description": '\n\nPossible enum values:\n - `"Always"`\n - `"Never"`\n - `"OnFailure"`',
    }


def test_tables_name_fields_that_exist() -> None:
    """A table that is older than the types would speak of fields that are gone."""
    found = facts.load()
    unknown = set()
    for name in [*found.enums, *found.defaults]:
        module, type_, wire = name.split(".", 2)
        class_ = schemas.find(module, type_) if module != "apidiscovery_v2" else None
        if class_ is not None and wire not in typeinfo.fields(class_):
            unknown.add(name)
    assert not unknown
