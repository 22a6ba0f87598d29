"""Decoding: canonical scalars, lenient nulls, Go's words for mismatches; unknown and duplicate fields."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podling.api import core_v1
from podling.machinery import schema


def decode(document: Any) -> core_v1.Pod:
    return schema.decode(json.dumps(document), core_v1.Pod)


def test_quantities_become_canonical() -> None:
    found = decode(
        {"spec": {"containers": [{"name": "a", "resources": {"limits": {"cpu": 0.5, "memory": "1024Mi", "x": 2}}}]}}
    )
    assert found.spec.containers[0].resources is not None
    assert found.spec.containers[0].resources.limits == {"cpu": "500m", "memory": "1Gi", "x": "2"}


def test_times_become_canonical() -> None:
    assert decode({"metadata": {"creationTimestamp": "2026-01-01T02:00:00+02:00"}}).metadata.creation_timestamp == (
        "2026-01-01T00:00:00Z"
    )


def test_null_stands_for_not_set() -> None:
    found = decode(
        {
            "metadata": {"creationTimestamp": None, "labels": {"a": None}},
            "spec": {"containers": None, "initContainers": [{"name": None, "image": "x", "env": None}]},
            "status": None,
        }
    )
    assert found.spec.containers == [] and found.spec.init_containers is not None
    assert found.spec.init_containers[0].image == "x" and found.metadata.labels == {"a": ""}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (
            {"spec": {"containers": [{"name": 5}]}},
            "json: cannot unmarshal number into Go struct field Container.spec.containers.name of type string",
        ),
        (
            {"spec": {"containers": [{"ports": [{"containerPort": "x"}]}]}},
            "json: cannot unmarshal string into Go struct field "
            "ContainerPort.spec.containers.ports.containerPort of type int32",
        ),
        (
            {"spec": {"containers": {}}},
            "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container",
        ),
        (
            {"spec": {"hostNetwork": "yes"}},
            "json: cannot unmarshal string into Go struct field PodSpec.spec.hostNetwork of type bool",
        ),
        (
            {"metadata": {"labels": {"a": 1}}},
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            {"spec": {"terminationGracePeriodSeconds": "x"}},
            "json: cannot unmarshal string into Go struct field "
            "PodSpec.spec.terminationGracePeriodSeconds of type int64",
        ),
        (
            {"spec": {"containers": [{"ports": [{"containerPort": 2**31}]}]}},
            "json: cannot unmarshal number 2147483648 into Go struct field "
            "ContainerPort.spec.containers.ports.containerPort of type int32",
        ),
        (
            {"spec": {"terminationGracePeriodSeconds": 2**70}},
            f"json: cannot unmarshal number {2**70} into Go struct field "
            "PodSpec.spec.terminationGracePeriodSeconds of type int64",
        ),
        (
            {"spec": {"priority": 1.5}},
            "json: cannot unmarshal number 1.5 into Go struct field PodSpec.spec.priority of type int32",
        ),
        (
            {"spec": {"containers": [{"livenessProbe": {"tcpSocket": {"port": -(2**40)}}}]}},
            "json: cannot unmarshal number -1099511627776 into Go value of type int32",
        ),
        ([1], "json: cannot unmarshal array into Go value of type Pod"),
        (
            {"spec": {"overhead": {"cpu": "1x"}}},
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        (
            {"metadata": {"creationTimestamp": "x"}},
            'parsing time "x" as "2006-01-02T15:04:05Z07:00": cannot parse "x" as "2006"',
        ),
    ],
)
def test_mismatches_in_gos_words(document: Any, message: str) -> None:
    with pytest.raises(schema.DecodeError) as error:
        decode(document)
    assert str(error.value) == message


def test_bad_base64() -> None:
    with pytest.raises(schema.DecodeError) as error:
        schema.decode('{"data": {"a": "x!"}}', core_v1.Secret)
    assert str(error.value) == "illegal base64 data at input byte 1"
    assert schema.decode('{"data": {"a": "eA=="}}', core_v1.Secret).data == {"a": "eA=="}


def test_broken_json() -> None:
    with pytest.raises(schema.DecodeError, match="unexpected end of JSON input"):
        schema.decode(b'{"spec":', core_v1.Pod)


def test_the_answer_to_a_document_that_does_not_fit() -> None:
    error = schema.cannot_be_handled("Pod", "v1", schema.StrictDecodeError(['unknown field "spec.x"']))
    assert error.code == 400
    assert str(error) == (
        'Pod in version "v1" cannot be handled as a Pod: strict decoding error: unknown field "spec.x"'
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "a"}, "spec": {"containers": []}}', []),
        ('{"foo": 1, "spec": {"bar": {"x": 1}}}', ['unknown field "foo"', 'unknown field "spec.bar"']),
        (
            '{"spec": {"containers": [{}, {"imagePullPolice": 1}]}}',
            ['unknown field "spec.containers[1].imagePullPolice"'],
        ),
        ('{"spec": {"nodeName": "a", "nodeName": "b"}}', ['duplicate field "spec.nodeName"']),
        ('{"metadata": {"labels": {"a": "1", "a": "2"}}}', ['duplicate field "metadata.labels.a"']),
        (
            '{"spec": {"containers": [{"name": "a", "name": "b", "name": "c"}]}}',
            ['duplicate field "spec.containers[0].name"'],
        ),
        ('{"Spec": {}}', ['unknown field "Spec"']),
        ('{"metadata": {"managedFields": [{"fieldsV1": {"f:x": {"a": 1}}}]}}', []),
        ('{"spec": null, "metadata": {"labels": null}}', []),
    ],
)
def test_unknown_and_duplicate_fields(text: str, expected: list[str]) -> None:
    assert schema.check(text, core_v1.Pod) == expected


keys = st.sampled_from(["spec", "metadata", "containers", "name", "labels", "x", "status", "volumes"])
documents = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)


@given(documents)
def test_any_document_is_decoded_or_refused_in_order(document: Any) -> None:
    text = json.dumps(document)
    schema.check(text, core_v1.Pod)
    try:
        found = schema.decode(text, core_v1.Pod)
    except schema.DecodeError:
        return
    assert isinstance(found, core_v1.Pod)
