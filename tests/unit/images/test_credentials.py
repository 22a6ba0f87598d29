"""Pull secrets are looked up as the kubelet's keyring does."""

import base64
import json

import pytest

from podling.api import core_v1, meta_v1
from podling.images.base import Credentials
from podling.images.credentials import InvalidPullSecret, Keyring, keyring_of_secrets


def _keyring(*locations: str) -> Keyring:
    return Keyring((location, Credentials(username=location)) for location in locations)


@pytest.mark.parametrize(
    ("locations", "repository", "found"),
    [
        (["registry.io"], "registry.io/a", ["registry.io"]),
        (["https://registry.io"], "registry.io/a", ["https://registry.io"]),
        (["https://registry.io/v2/"], "registry.io/a", ["https://registry.io/v2/"]),
        (["registry.io"], "other.io/a", []),
        (["registry.io:5000"], "registry.io/a", []),
        (["registry.io:5000"], "registry.io:5000/a", ["registry.io:5000"]),
        (["registry.io/team", "registry.io"], "registry.io/team/x", ["registry.io/team", "registry.io"]),
        (["registry.io/team"], "registry.io/other/x", []),
        (["*.io"], "registry.io/a", ["*.io"]),
        (["*.io"], "a.registry.io/a", []),
        (["*.*.io"], "a.registry.io/a", ["*.*.io"]),
        (["reg*.io/team"], "registry.io/team/x", ["reg*.io/team"]),
        (["https://index.docker.io/v1/"], "docker.io/library/nginx", ["https://index.docker.io/v1/"]),
        (["https://index.docker.io/v1/"], "quay.io/nginx", []),
        (["docker.io"], "docker.io/library/nginx", ["docker.io"]),
    ],
)
def test_lookup(locations: list[str], repository: str, found: list[str]) -> None:
    assert [c.username for c in _keyring(*locations).lookup(repository)] == found


def _secret(type_: str, key: str, content: object) -> core_v1.Secret:
    data = base64.b64encode(json.dumps(content).encode()).decode()
    return core_v1.Secret(metadata=meta_v1.ObjectMeta(name="pull"), type=type_, data={key: data})


def test_reads_both_forms_of_secrets() -> None:
    auth = base64.b64encode(b"me:pass:word").decode()
    secrets = [
        _secret("kubernetes.io/dockerconfigjson", ".dockerconfigjson", {"auths": {"a.io": {"auth": auth}}}),
        _secret("kubernetes.io/dockercfg", ".dockercfg", {"b.io": {"username": "you", "password": "secret"}}),
        _secret("Opaque", ".dockerconfigjson", {"auths": {"c.io": {"auth": auth}}}),
    ]
    keyring = keyring_of_secrets(secrets)
    assert keyring.lookup("a.io/x") == (Credentials(username="me", password="pass:word"),)
    assert keyring.lookup("b.io/x") == (Credentials(username="you", password="secret"),)
    assert keyring.lookup("c.io/x") == ()


def test_identity_tokens_are_kept() -> None:
    content = {"auths": {"a.io": {"identitytoken": "t", "registrytoken": "r"}}}
    keyring = keyring_of_secrets([_secret("kubernetes.io/dockerconfigjson", ".dockerconfigjson", content)])
    assert keyring.lookup("a.io/x") == (Credentials(identity_token="t", registry_token="r"),)


def test_a_broken_secret_is_named() -> None:
    secret = _secret("kubernetes.io/dockerconfigjson", ".dockerconfigjson", "no map")
    with pytest.raises(InvalidPullSecret, match=r"secret 'pull' holds no valid \.dockerconfigjson"):
        keyring_of_secrets([secret])
