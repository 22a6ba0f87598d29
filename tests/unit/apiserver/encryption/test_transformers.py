from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from apiserver.encryption.harness import IDENTITY, keyed, rule, secret, transformers
from podling.apiserver.encryption.resource_names import parse
from podling.apiserver.encryption.transformer import TransformError
from podling.apiserver.encryption.transformers import described

SECRETS = parse("secrets")
CONTEXT = b"/registry/core/secrets/default/a"


@pytest.mark.parametrize("provider", ["aescbc", "aesgcm", "secretbox"])
@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 5000])
async def test_what_is_sealed_can_be_opened(provider: str, size: int) -> None:
    transformer = transformers(rule("secrets", keyed(provider, "key1"))).of(SECRETS)
    data = transformer.seal(b"x" * size, CONTEXT)
    assert data.startswith(f"k8s:enc:{provider}:v1:key1:".encode()) and (size < 15 or b"x" * size not in data)
    opened = await transformer.open(data, CONTEXT)
    assert opened.value == b"x" * size and opened.label == transformer.label
    assert transformer.seal(b"x" * size, CONTEXT) != data


async def test_gcm_is_a_nonce_and_a_ciphertext_that_holds_for_its_place_only() -> None:
    transformer = transformers(rule("secrets", keyed("aesgcm", "key1"))).of(SECRETS)
    body = b"n" * 12 + AESGCM(b"\1" * 32).encrypt(b"n" * 12, b"v", CONTEXT)
    assert (await transformer.open(b"k8s:enc:aesgcm:v1:key1:" + body, CONTEXT)).value == b"v"
    with pytest.raises(TransformError, match="cipher: message authentication failed"):
        await transformer.open(b"k8s:enc:aesgcm:v1:key1:" + body, b"/registry/core/secrets/default/b")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"aesgcm:v1:key1:short", "the stored data was shorter than the required size"),
        (b"aescbc:v1:key1:short", "the stored data was shorter than the required size"),
        (b"aescbc:v1:key1:" + b"x" * 17, "the stored data is not a multiple of the block size"),
        (b"aescbc:v1:key1:" + b"x" * 16, r"invalid PKCS7 data \(empty or not padded\)"),
        (b"secretbox:v1:key1:short", "the stored data was shorter than the required size"),
        (b"secretbox:v1:key1:" + b"x" * 50, "output array was not large enough for encryption"),
        (b"aescbc:v1:key2:", "no matching key was found for the provided AES transformer"),
        (b"secretbox:v1:key2:", "no matching key was found for the provided Secretbox transformer"),
        (b"other:v1:key1:", "no matching prefix found"),
    ],
)
async def test_what_can_not_be_opened_says_why_in_upstreams_words(data: bytes, said: str) -> None:
    providers = [keyed(p, "key1") for p in ("aescbc", "aesgcm", "secretbox")]
    with pytest.raises(TransformError, match=said):
        await transformers(rule("secrets", *providers)).of(SECRETS).open(b"k8s:enc:" + data, CONTEXT)


async def test_the_first_writes_and_all_read() -> None:
    old = transformers(rule("secrets", keyed("aescbc", "key1"))).of(SECRETS)
    new = transformers(rule("secrets", keyed("aescbc", "key2", "key1"), keyed("secretbox", "key3"), IDENTITY)).of(
        SECRETS
    )
    data = old.seal(b"v", CONTEXT)
    opened = await new.open(data, CONTEXT)
    assert opened.value == b"v" and opened.label == old.label != new.label
    assert new.seal(b"v", CONTEXT).startswith(b"k8s:enc:aescbc:v1:key2:")
    plain = await new.open(b'{"a":1}', CONTEXT)
    assert plain.value == b'{"a":1}' and plain.label != new.label


async def test_the_same_name_may_stand_for_two_keys() -> None:
    one = {"aesgcm": {"keys": [{"name": "key", "secret": secret(1)}]}}
    two = {"aesgcm": {"keys": [{"name": "key", "secret": secret(2)}]}}
    data = transformers(rule("secrets", two)).of(SECRETS).seal(b"v", CONTEXT)
    both = transformers(rule("secrets", one, two)).of(SECRETS)
    opened = await both.open(data, CONTEXT)
    assert opened.value == b"v" and opened.label != both.label


async def test_what_is_encrypted_is_not_taken_for_plain() -> None:
    identity_first = transformers(rule("secrets", IDENTITY, keyed("aesgcm", "key1"))).of(SECRETS)
    data = transformers(rule("secrets", keyed("aesgcm", "key1"))).of(SECRETS).seal(b"v", CONTEXT)
    assert (await identity_first.open(data, CONTEXT)).value == b"v"
    assert identity_first.seal(b"v", CONTEXT) == b"v"
    with pytest.raises(TransformError, match="identity transformer tried to read encrypted data"):
        await transformers(rule("configmaps", IDENTITY)).of(SECRETS).open(data, CONTEXT)


def test_resources_are_found_by_name_by_group_and_by_everything() -> None:
    found = transformers(
        rule("events", IDENTITY),
        rule("secrets", keyed("aesgcm", "key1")),
        rule("*.apps", keyed("aesgcm", "key2")),
        rule("*.", keyed("aesgcm", "key3")),
        rule("*.*", keyed("aesgcm", "key4")),
    )
    labels = {r: found.of(parse(r)).label for r in ("events", "secrets", "pods", "deployments.apps", "pandas.bears.io")}
    keys = {resource: label.split(":")[1] if ":" in label else label for resource, label in labels.items()}
    assert keys == {
        "events": "identity", "secrets": "key1", "pods": "key3", "deployments.apps": "key2", "pandas.bears.io": "key4",
    }  # fmt: skip
    assert transformers(rule("secrets", keyed("aesgcm", "key1"))).of(parse("pods")).label == "identity"


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ("*.", "secrets", 'resource "secrets" is masked by earlier rule "*."'),
        ("*.*", "*.apps", 'resource "*.apps" is masked by earlier rule "*.*"'),
        ("*.apps", "deployments.apps", 'resource "deployments.apps" is masked by earlier rule "*.apps"'),
    ],
)
def test_rules_that_others_mask_are_refused(first: str, second: str, said: str) -> None:
    with pytest.raises(TransformError) as caught:
        transformers(rule(first, IDENTITY), rule(second, IDENTITY))
    assert str(caught.value) == said


def test_a_plugin_of_the_first_version_is_refused_as_upstream_does_by_default() -> None:
    with pytest.raises(TransformError, match="KMSv1 is deprecated and will only receive security updates"):
        transformers(rule("secrets", {"kms": {"name": "k", "endpoint": "unix:///k"}}))


def test_a_value_says_by_what_it_is_encrypted() -> None:
    assert described(b"k8s:enc:aescbc:v1:key1:xyz") == 'the aescbc key "key1"'
    assert described(b"k8s:enc:kms:v2:vault:xyz") == 'the KMS v2 provider "vault"'
