"""Protobuf: what is written is read as it was, and is what Go writes."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podling.api import core_v1, meta_v1, registry
from podling.apiserver.wire import fields, proto_writer, protobuf
from podling.apiserver.wire.proto_writer import delimited, varint
from podling.machinery import schema
from tests.unit.apiserver.harness import Server, virtual
from tests.unit.apiserver.wire import objects


@pytest.mark.parametrize("type_", objects.kinds(), ids=fields.name_of)
@settings(max_examples=10)
@given(seed=st.integers(0, 2**32))
def test_what_is_written_is_read(type_: type[Any], seed: int) -> None:
    obj = schema.convert(objects.make(type_, random.Random(seed)), type_)
    document = protobuf.encode(obj)
    assert schema.convert(protobuf.decode(document), type_) == obj


def test_every_kind_has_field_numbers() -> None:
    missing = [r.qualified for r in registry.BUILTIN if not fields.known(fields.name_of(r.type))]
    # What its clients ask for is JSON.
    assert missing == ["nodes.metrics.k8s.io", "pods.metrics.k8s.io"]


POD = {
    "kind": "Pod",
    "apiVersion": "v1",
    "metadata": {
        "name": "p",
        "labels": {"a": "b"},
        "creationTimestamp": "2026-01-02T03:04:05Z",
        "ownerReferences": [{"apiVersion": "v1", "kind": "X", "name": "x", "uid": "u", "controller": False}],
    },
    "spec": {
        "activeDeadlineSeconds": 0,
        "automountServiceAccountToken": False,
        "containers": [
            {
                "name": "c",
                "image": "i",
                "ports": [{"containerPort": 80}],
                "resources": {"requests": {"cpu": "100m"}},
                "livenessProbe": {"httpGet": {"path": "/", "port": "web"}, "periodSeconds": 3},
                "readinessProbe": {"tcpSocket": {"port": 8080}},
                "env": [{"name": "E", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": False}}}],
            }
        ],
        "volumes": [
            {"name": "v", "configMap": {"name": "m", "defaultMode": 420}},
            {"name": "w", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}},
        ],
        "tolerations": [{"key": "k", "tolerationSeconds": -1}],
    },
    "status": {},
}


SCHEMA = {
    "type": "object",
    "properties": {
        "a": {"type": "array", "items": {"type": "string", "enum": ["x", "y"], "maxLength": 0}, "default": ["x"]},
        "b": {"items": [{"type": "string"}, {"type": "integer", "minimum": 0.5}]},
        "c": {"additionalProperties": True, "example": {"n": None}},
        "d": {"additionalProperties": {"type": "string"}, "additionalItems": False},
        "e": {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]},
    },
    "dependencies": {"a": ["b", "c"], "b": {"required": ["c"]}},
    "x-kubernetes-validations": [{"rule": "has(self.a)"}],
}


@pytest.mark.parametrize(
    "document",
    [
        POD,
        {"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "s"}, "data": {"a": "AP8="}, "immutable": False},
        {
            "kind": "Lease",
            "apiVersion": "coordination.k8s.io/v1",
            "metadata": {"name": "l"},
            "spec": {"renewTime": "2026-01-02T03:04:05.678901Z", "leaseTransitions": 0},
        },
        {
            "kind": "ControllerRevision",
            "apiVersion": "apps/v1",
            "metadata": {"name": "r"},
            "data": {"spec": {"x": [1, 2]}},
            "revision": 3,
        },
        {
            "kind": "CertificateSigningRequest",
            "apiVersion": "certificates.k8s.io/v1",
            "metadata": {"name": "r"},
            "spec": {"request": "AAA=", "signerName": "s", "extra": {"k": ["a", "b"]}, "usages": ["x"]},
            "status": {},
        },
        {
            "kind": "CustomResourceDefinition",
            "apiVersion": "apiextensions.k8s.io/v1",
            "metadata": {"name": "c"},
            "spec": {
                "group": "g",
                "names": {"plural": "cs", "kind": "C"},
                "versions": [{"name": "v1", "schema": {"openAPIV3Schema": SCHEMA}}],
            },
            "status": {"acceptedNames": {"plural": "cs", "kind": "C"}, "storedVersions": ["v1"]},
        },
        {
            "kind": "APIService",
            "apiVersion": "apiregistration.k8s.io/v1",
            "metadata": {"name": "v1.g"},
            "spec": {"group": "g", "version": "v1", "caBundle": "AAA=", "service": {"name": "s", "port": 443}},
        },
        {"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0, "propagationPolicy": "Orphan"},
    ],
    ids=lambda d: d["kind"],
)
def test_protobuf_reads_as_json_does(document: dict[str, Any]) -> None:
    type_ = protobuf.type_of(document["apiVersion"], document["kind"])
    obj = schema.convert(document, type_)
    if document["kind"] == "DeleteOptions":
        obj.kind, obj.api_version = "DeleteOptions", "v1"
    assert schema.convert(protobuf.decode(protobuf.encode(obj)), type_) == obj


# Bytes as Go writes them


def hexed(text: str) -> bytes:
    return bytes.fromhex(text.replace(" ", ""))


def test_what_an_empty_object_looks_like() -> None:
    """All that is no pointer is there, empty."""
    meta = "0a00 1200 1a00 2200 2a00 3200 3800 4200"
    assert proto_writer.body(core_v1.ConfigMap()) == hexed(f"0a10 {meta}")
    assert proto_writer.body(core_v1.Secret()) == hexed(f"0a10 {meta} 1a00")
    assert proto_writer.body(meta_v1.DeleteOptions()) == b""
    assert proto_writer.body(meta_v1.Status()) == hexed("0a06 0a00 1200 1a00 1200 1a00 2200 3000")


@pytest.mark.parametrize(
    ("document", "type_", "text"),
    [
        # Entries of maps stand in the order of their keys; bytes are no text.
        ({"data": {"b": "AP8=", "a": ""}}, core_v1.Secret, "1205 0a01 6112 00 1207 0a01 6212 0200ff 1a00"),
        # A negative number takes ten bytes, one behind a pointer is written though it is 0.
        ({"key": "k", "tolerationSeconds": -1}, core_v1.Toleration, "0a016b 1200 1a00 2200 28ffffffffffffffffff01"),
        ({"tolerationSeconds": 0}, core_v1.Toleration, "0a00 1200 1a00 2200 2800"),
        # An amount, a port by number and by name.
        ({"resource": "cpu"}, core_v1.ResourceFieldSelector, "0a00 1203637075 1a03 0a0130"),
        ({"port": 80}, core_v1.TCPSocketAction, "0a06 0800 1050 1a00 1200"),
        ({"port": "web"}, core_v1.TCPSocketAction, "0a09 0801 1000 1a03776562 1200"),
        # Seconds; the kind of a volume's source stands in a message of its own.
        ({"startedAt": "2026-01-02T03:04:05Z"}, core_v1.ContainerStateRunning, "0a08 08a5ebdcca06 1000"),
        ({"name": "v", "emptyDir": {}}, core_v1.Volume, "0a0176 1204 1202 0a00"),
        # JSON as it is.
        ({"manager": "m", "fieldsV1": {"f:a": {}}}, meta_v1.ManagedFieldsEntry,
         "0a016d 1200 1a00 3200 3a0c 0a0a 7b22663a61223a7b7d7d 4200"),
    ],
)  # fmt: skip
def test_bytes_as_go_writes_them(document: dict[str, Any], type_: type[Any], text: str) -> None:
    body = proto_writer.body(schema.convert(document, type_))
    assert body.hex()[-len(text.replace(" ", "")) :] == text.replace(" ", "")


def test_the_envelope() -> None:
    found = protobuf.encode(schema.convert({"metadata": {"name": "a"}}, core_v1.ConfigMap))
    assert found == hexed("6b387300 0a0f 0a027631 1209436f6e6669674d6170 1213 0a11 0a0161 1200 1a00 2200 2a00 3200 3800"
                          "4200 1a00 2200")  # fmt: skip


def test_an_event() -> None:
    assert protobuf.event("ADDED", b"xyz") == hexed("0000000e 0a05 4144444544 1205 0a03 78797a")


# What can't be read


#: A ConfigMap that was created when the sun will be no more.
FAR_AWAY = (
    b"k8s\0"
    + delimited(1, delimited(1, b"v1") + delimited(2, b"ConfigMap"))
    + delimited(2, delimited(1, delimited(8, b"\x08" + varint(2**62))))
)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "empty data"),
        (b"k8s\0", "empty body"),
        (b"{}", "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"),
        (b"k8s\0\xff\xff", "unexpected EOF"),
        (b"k8s\0\x0a\x7f", "unexpected EOF"),
        (b"k8s\0" + b"\xff" * 11, "proto: integer overflow"),
        (b"k8s\0\x0a" + b"\xff" * 9 + b"\x01", "proto: negative length found during unmarshaling"),
        (b"k8s\0\x08\x01", "proto: wrong wireType = 0 for field TypeMeta"),
        (b"k8s\0\x06", "proto: illegal tag 0 (wire type 6)"),
        (b"k8s\0\x0e", "proto: illegal wireType 6"),
        (b"k8s\0" + delimited(1, delimited(1, b"v1") + delimited(2, b"Nope")), 'no kind "Nope" is registered for'),
        (b"k8s\0" + delimited(1, delimited(1, b"v1") + delimited(2, b"Any")), 'no kind "Any" is registered for'),
        (b"k8s\0" + delimited(1, delimited(1, b"../x") + delimited(2, b"Pod")), 'no kind "Pod" is registered for'),
        (FAR_AWAY, "proto: time out of range"),
        (b"k8s\0\x12\x00", "Object 'Kind' is missing in 'runtime.TypeMeta{APIVersion:\"\", Kind:\"\"}'"),
    ],
)
def test_broken_protobuf(data: bytes, text: str) -> None:
    with pytest.raises(schema.UnreadableError) as caught:
        protobuf.decode(data)
    assert text in str(caught.value)


@settings(max_examples=150)
@given(seed=st.integers(0, 2**32), data=st.data())
def test_hostile_bytes_are_refused_or_read(seed: int, data: st.DataObject) -> None:
    rng = random.Random(seed)
    obj = schema.convert(objects.make(core_v1.Pod, rng), core_v1.Pod)
    document = bytearray(protobuf.encode(obj))
    for _ in range(data.draw(st.integers(0, 5))):
        document[data.draw(st.integers(0, len(document) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(4, len(document)))
    try:
        found = protobuf.decode(bytes(document[:cut]))
    except schema.DecodeError:
        return
    assert found["kind"]


def test_a_bomb_of_schemas_is_refused() -> None:
    inner = b""
    for _ in range(20_000):
        inner = delimited(28, inner)
        if len(inner) > 400_000:
            break
    version = delimited(7, delimited(4, delimited(1, inner)))
    meta = delimited(1, b"apiextensions.k8s.io/v1") + delimited(2, b"CustomResourceDefinition")
    with pytest.raises(schema.UnreadableError, match="exceeded max depth"):
        protobuf.decode(b"k8s\0" + delimited(1, meta) + delimited(2, delimited(2, version)))


@virtual
async def test_a_protobuf_body_makes_an_object(server: Server) -> None:
    obj = schema.convert({"metadata": {"name": "a"}, "data": {"k": "v"}}, core_v1.ConfigMap)
    response = await server.ask(
        "POST",
        "/api/v1/namespaces/default/configmaps",
        protobuf.encode(obj),
        headers={"content-type": "application/vnd.kubernetes.protobuf"},
    )
    assert response.status == 201 and response.obj.data == {"k": "v"}
