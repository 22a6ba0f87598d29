from __future__ import annotations

from typing import Any

import pytest

from apiserver.encryption.harness import IDENTITY, file, keyed, rule, secret
from podling.api.struct import from_dict
from podling.apiserver.config_file import ConfigFileError
from podling.apiserver.encryption import config
from podling.apiserver.encryption.config import EncryptionConfiguration

KMS = {"apiVersion": "v2", "name": "k", "endpoint": "unix:///k.sock"}


def findings(*rules: dict[str, Any], reload: bool = False) -> list[str]:
    loaded = from_dict({"resources": list(rules)}, EncryptionConfiguration)
    return [str(f) for f in config.validate(loaded, reload=reload)]


def test_a_good_file_is_read() -> None:
    text = file(rule("secrets *.apps", keyed("aescbc", "key1"), {"kms": KMS}, IDENTITY))
    loaded = config.load(text.encode(), "f")
    first, second, third = loaded.resources[0].providers
    assert loaded.resources[0].resources == ["secrets", "*.apps"]
    assert first.aescbc is not None and config.decoded(first.aescbc.keys[0]) == b"\1" * 32
    assert second.kms is not None and second.kms.seconds == 3.0 and third.identity is not None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kind: EncryptionConfiguration", "f says no apiVersion, EncryptionConfiguration: write apiVersion: apiserver"),
        (file(rule("secrets", IDENTITY)) + "colour: red\n", 'decoding encryption provider configuration file "f": '),
        (file(rule("secrets")), "f: resources[0].providers: Required value: at least one"),
        ("a: [", "f is no EncryptionConfiguration: error converting YAML to JSON"),
    ],
)
def test_a_bad_file_is_named(text: str, said: str) -> None:
    with pytest.raises(ConfigFileError) as caught:
        config.load(text.encode(), "f")
    assert said in str(caught.value)


PROVIDERS = "resources[0].providers"


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ([], ["resources: Required value: at least one resources is required"]),
        (
            [{"resources": [], "providers": []}],
            [
                "resources[0].resources: Required value: at least one resources[0].resources is required",
                f"{PROVIDERS}: Required value: at least one {PROVIDERS} is required",
            ],
        ),
        (
            [rule("a", {})],
            [
                f"{PROVIDERS}[0]: Invalid value: {{}}: provider does not contain any of the expected providers: KMS, "
                "AESGCM, AESCBC, Secretbox, Identity"
            ],
        ),
        (
            [rule("a", {"aescbc": {}})],
            [f"{PROVIDERS}[0].aescbc.keys: Required value: at least one keys is required"],
        ),
        (
            [rule("a", {"secretbox": {"keys": [{"secret": secret(1, 16)}, {"name": "b"},
                                               {"name": "c", "secret": "?"}]}})],
            [
                f"{PROVIDERS}[0].secretbox.keys[0].name: Required value: name is a mandatory field for a key",
                f'{PROVIDERS}[0].secretbox.keys[0].secret: Invalid value: "REDACTED": secret is not of the expected '
                "length, got 16, expected one of [32]",
                f"{PROVIDERS}[0].secretbox.keys[1].secret: Required value: secret is a mandatory field for a key",
                f'{PROVIDERS}[0].secretbox.keys[2].secret: Invalid value: "REDACTED": secrets must be base64 encoded',
            ],
        ),
        (
            [rule("a", {"aesgcm": {"keys": [{"name": "k", "secret": secret(1, 5)}]}})],
            [
                f'{PROVIDERS}[0].aesgcm.keys[0].secret: Invalid value: "REDACTED": secret is not of the expected '
                "length, got 5, expected one of [16 24 32]"
            ],
        ),
        (
            [rule("a", {"kms": {"apiVersion": "v3", "name": "a:b", "endpoint": "tcp://x", "timeout": "0s",
                                "cachesize": 1}})],
            [
                f'{PROVIDERS}[0].kms.name: Invalid value: "a:b": invalid KMS provider name a:b, must not contain \':\'',
                f'{PROVIDERS}[0].kms.timeout: Invalid value: "0s": timeout should be a positive value',
                f'{PROVIDERS}[0].kms.endpoint: Invalid value: "tcp://x": unsupported scheme "tcp" for KMS provider, '
                "only unix is supported",
                f"{PROVIDERS}[0].kms.cachesize: Invalid value: 1: cachesize is not supported in v2",
                f'{PROVIDERS}[0].kms.apiVersion: Invalid value: "v3": unsupported apiVersion apiVersion for KMS '
                "provider, only v1 and v2 are supported",
            ],
        ),
        (
            [rule("a", {"kms": {"cachesize": 0, "timeout": "soon"}})],
            [
                f"{PROVIDERS}[0].kms.name: Required value: name is a mandatory field for a provider",
                f'{PROVIDERS}[0].kms.timeout: Invalid value: "soon": time: invalid duration "soon"',
                f'{PROVIDERS}[0].kms.endpoint: Invalid value: "": endpoint is a mandatory field for a kms',
                f"{PROVIDERS}[0].kms.cachesize: Invalid value: 0: cachesize should be a positive value, or negative "
                "to disable",
            ],
        ),
        (
            [rule("a", {"kms": KMS}), rule("b", {"kms": KMS})],
            [
                'resources[1].providers[0].kms.name: Invalid value: "k": duplicate KMS provider name k, names must be '
                "unique"
            ],
        ),
    ],
)  # fmt: skip
def test_findings_are_in_upstreams_words(rules: list[dict[str, Any]], said: list[str]) -> None:
    assert findings(*rules) == said


def test_two_providers_in_one_place_are_refused_without_showing_them() -> None:
    (found,) = findings(rule("a", {**keyed("aescbc", "key1"), **IDENTITY}))
    assert "more than one provider specified in a single element, should split into different list elements" in found
    assert secret(1) not in found


def test_old_plugins_need_names_of_their_own_when_the_file_is_read_again() -> None:
    old = {"kms": {**KMS, "apiVersion": "v1"}}
    rules = [rule("a", old), rule("b", old)]
    assert findings(*rules) == [] and len(findings(*rules, reload=True)) == 1
