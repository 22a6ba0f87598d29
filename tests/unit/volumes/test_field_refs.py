"""Fields of a pod as text."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podling.api import core_v1, struct
from podling.volumes import field_refs
from podling.volumes.field_refs import FieldRefError


def _pod(**container: Any) -> core_v1.Pod:
    document = {
        "metadata": {
            "name": "n",
            "namespace": "ns",
            "uid": "u",
            "labels": {"b": "2", "a": '1 "x"'},
            "annotations": {"example.com/Note": "line\nbreak"},
        },
        "spec": {
            "nodeName": "node",
            "serviceAccountName": "sa",
            "containers": [{"name": "c", "image": "i", **container}],
            "initContainers": [{"name": "init", "image": "i", "resources": {"limits": {"cpu": "3"}}}],
        },
        "status": {
            "hostIP": "10.0.0.1",
            "hostIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}],
            "podIP": "10.1.0.2",
            "podIPs": [{"ip": "10.1.0.2"}, {"ip": "fd00::2"}],
        },
    }
    return struct.from_dict(document, core_v1.Pod)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("metadata.name", "n"),
        ("metadata.namespace", "ns"),
        ("metadata.uid", "u"),
        ("metadata.labels", 'a="1 \\"x\\""\nb="2"'),
        ("metadata.annotations", 'example.com/Note="line\\nbreak"'),
        ("metadata.labels['b']", "2"),
        ("metadata.labels['none']", ""),
        ("metadata.annotations['example.com/Note']", "line\nbreak"),
        ("spec.nodeName", "node"),
        ("spec.serviceAccountName", "sa"),
        ("status.hostIP", "10.0.0.1"),
        ("status.hostIPs", "10.0.0.1,fd00::1"),
        ("status.podIP", "10.1.0.2"),
        ("status.podIPs", "10.1.0.2,fd00::2"),
    ],
)
def test_fields(path: str, text: str) -> None:
    assert field_refs.field_value(_pod(), path) == text


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("spec.image", "unsupported fieldPath: spec.image"),
        ("metadata.name['x']", "fieldPath \"metadata.name['x']\" does not support subscript"),
        ("metadata.labels['-x']", "invalid key subscript in metadata.labels['-x']: "),
    ],
)
def test_fields_that_are_none(path: str, words: str) -> None:
    with pytest.raises(FieldRefError) as caught:
        field_refs.field_value(_pod(), path)
    assert str(caught.value).startswith(words)


_RESOURCES = {
    "limits": {"cpu": "1500m", "memory": "64Mi", "hugepages-2Mi": "4Mi"},
    "requests": {"cpu": "250m", "memory": "100M"},
}


@pytest.mark.parametrize(
    ("resource", "divisor", "text"),
    [
        ("limits.cpu", None, "2"),
        ("limits.cpu", "1m", "1500"),
        ("requests.cpu", "0", "1"),
        ("requests.cpu", "100m", "3"),
        ("limits.memory", None, "67108864"),
        ("limits.memory", "1Mi", "64"),
        ("requests.memory", "1Mi", "96"),
        ("limits.hugepages-2Mi", "1Mi", "4"),
        ("limits.ephemeral-storage", "1Gi", "100"),
        ("requests.ephemeral-storage", None, "0"),
    ],
)
def test_resources(resource: str, divisor: str | None, text: str) -> None:
    selector = core_v1.ResourceFieldSelector(resource=resource, divisor=divisor)
    allocatable = {"cpu": "8", "memory": "32Gi", "ephemeral-storage": "100Gi"}
    pod = _pod(resources=_RESOURCES)
    assert field_refs.resource_value(pod, selector, container_name="c", allocatable=allocatable) == text


def test_limits_that_are_not_set() -> None:
    selector = core_v1.ResourceFieldSelector(resource="limits.memory", container_name="c")
    allocatable = {"memory": "32Gi"}
    assert field_refs.resource_value(_pod(), selector, allocatable=allocatable) == str(32 << 30)
    pod = _pod()
    pod.spec.resources = core_v1.ResourceRequirements(limits={"memory": "1Gi"})
    assert field_refs.resource_value(pod, selector, allocatable=allocatable) == str(1 << 30)
    init = core_v1.ResourceFieldSelector(resource="limits.cpu", container_name="init")
    assert field_refs.resource_value(_pod(), init, allocatable=allocatable) == "3"


@pytest.mark.parametrize(
    ("resource", "container", "words"),
    [
        ("limits.cpu", "other", "container other not found"),
        ("limits.gpu", "c", "unsupported container resource : limits.gpu"),
        ("cpu", "c", "unsupported container resource : cpu"),
    ],
)
def test_resources_that_are_none(resource: str, container: str, words: str) -> None:
    with pytest.raises(FieldRefError, match=f"^{words}$"):
        field_refs.resource_value(_pod(), core_v1.ResourceFieldSelector(resource=resource, container_name=container))


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("é", '"é"'),
        ("\x00", '"\\x00"'),
        ("\x7f", '"\\x7f"'),
        ("\u200b", '"\\u200b"'),
        ("a\tb", '"a\\tb"'),
        ("\\", '"\\\\"'),
    ],
)
def test_quotes_as_go_does(text: str, quoted: str) -> None:
    assert field_refs.quote(text) == quoted


@given(st.text())
def test_quoted_text_is_one_line(text: str) -> None:
    assert len(field_refs.quote(text).splitlines()) == 1
