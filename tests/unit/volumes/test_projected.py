"""Projected volumes put their sources together, and tell all that is wrong at once."""

import base64
from typing import Any

import pytest

from podling import clock
from podling.api import certificates_v1
from podling.volumes.atomic_writer import File
from podling.volumes.base import POD, Dependency, VolumeError
from podling.volumes.projected import ProjectedPlugin, common_user
from podling.volumes.tokens import TokenCache
from podling.volumes.trust_bundles import normalize
from tests.unit.volumes.fakes import FakeLookup, config_map, context, meta, pod, secret


def _volume(*sources: dict[str, Any]) -> dict[str, Any]:
    return {"name": "all", "projected": {"defaultMode": 0o644, "sources": list(sources)}}


def _payload(lookup: FakeLookup, *sources: dict[str, Any], **spec: Any) -> dict[str, File]:
    plugin = ProjectedPlugin(TokenCache())
    return clock.run_virtual(plugin.payload(context(pod(_volume(*sources), **spec), lookup)))[0]


CONFIG = {"configMap": {"name": "cm", "items": [{"key": "a", "path": "cm/a"}]}}
SECRET = {"secret": {"name": "s"}}
FIELDS = {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}}
TOKEN = {"serviceAccountToken": {"path": "token"}}


def test_all_sources_together() -> None:
    lookup = FakeLookup()
    lookup.config_maps["cm"], lookup.secrets["s"] = config_map(a="1", b="2"), secret(k="3")
    assert _payload(lookup, CONFIG, SECRET, FIELDS, TOKEN) == {
        "cm/a": File(b"1", 0o644),
        "k": File(b"3", 0o644),
        "labels": File(b'a="1"', 0o644),
        "token": File(b"token-1", 0o644),
    }


def test_errors_are_collected() -> None:
    with pytest.raises(VolumeError) as caught:
        _payload(FakeLookup(), CONFIG, SECRET, TOKEN)
    assert str(caught.value) == '[configmap "cm" not found, secret "s" not found]'


@pytest.mark.parametrize(
    ("spec", "mode", "user"),
    [
        ({}, 0o644, None),
        ({"securityContext": {"fsGroup": 5}}, 0o600, None),
        ({"securityContext": {"runAsUser": 7}}, 0o600, 7),
    ],
)
def test_tokens_are_private_where_their_owner_is_known(spec: dict[str, Any], mode: int, user: int | None) -> None:
    assert _payload(FakeLookup(), TOKEN, **spec) == {"token": File(b"token-1", mode, user)}


@pytest.mark.parametrize(
    ("general", "own", "user"), [(None, [None], None), (1, [None, None], 1), (1, [2, None], None), (1, [2, 2], 2)]
)
def test_the_user_of_all_containers(general: int | None, own: list[int | None], user: int | None) -> None:
    containers = [
        {"name": f"c{n}", "image": "i", "securityContext": {"runAsUser": u} if u is not None else {}}
        for n, u in enumerate(own)
    ]
    security = {"runAsUser": general} if general is not None else {}
    assert common_user(pod(containers=containers, securityContext=security)) == user


def test_dependencies() -> None:
    bundle = {"clusterTrustBundle": {"name": "b", "path": "ca"}}
    of = context(pod(_volume(CONFIG, SECRET, FIELDS, TOKEN, bundle)), FakeLookup())
    assert set(ProjectedPlugin(TokenCache()).dependencies(of)) == {
        Dependency("ConfigMap", "ns", "cm"),
        Dependency("Secret", "ns", "s"),
        POD,
        Dependency("ClusterTrustBundle"),
    }


def _pem(content: bytes) -> str:
    return f"-----BEGIN CERTIFICATE-----\n{base64.b64encode(content).decode()}\n-----END CERTIFICATE-----\n"


def _bundle(name: str, signer: str, text: str, **labels: str) -> certificates_v1.ClusterTrustBundle:
    spec = certificates_v1.ClusterTrustBundleSpec(signer_name=signer, trust_bundle=text)
    return certificates_v1.ClusterTrustBundle(metadata=meta(name=name, labels=labels), spec=spec)


def test_trust_bundles() -> None:
    lookup = FakeLookup()
    one, two = _pem(b"one"), _pem(b"two")
    lookup.bundles = [_bundle("b1", "s/x", one + two, a="1"), _bundle("b2", "s/x", two), _bundle("b3", "s/y", one)]

    def text(**source: Any) -> str:
        return _payload(lookup, {"clusterTrustBundle": {"path": "ca", **source}})["ca"].data.decode()

    assert text(name="b3") == one
    assert text(signerName="s/x", labelSelector={}) == normalize([two, one])
    assert text(signerName="s/x", labelSelector={"matchLabels": {"a": "1"}}) == normalize([one, two])
    assert text(signerName="s/x", optional=True) == ""
    with pytest.raises(VolumeError, match="matched zero ClusterTrustBundles"):
        text(signerName="s/x")
    with pytest.raises(VolumeError, match=r'clustertrustbundle\.certificates\.k8s\.io "none" not found'):
        text(name="none")
