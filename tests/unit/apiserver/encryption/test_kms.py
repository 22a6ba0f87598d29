from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from apiserver.encryption.fake_kms import Plugin
from podling import clock
from podling.apiserver.encryption import kms, kms_metrics, messages
from podling.apiserver.encryption.aes import Gcm
from podling.apiserver.encryption.kms import Kms
from podling.apiserver.encryption.kms_service import Service, socket_path
from podling.apiserver.encryption.messages import EncryptedObject
from podling.apiserver.encryption.metrics import IDENTITY
from podling.apiserver.encryption.transformer import TransformError

CONTEXT = b"/registry/core/secrets/default/a"


def made(plugin: Plugin, timeout: float = 3.0) -> Kms:
    return Kms("vault", Service("vault", plugin.endpoint, timeout))


@asynccontextmanager
async def running(plugin: Plugin) -> AsyncIterator[Kms]:
    provider = made(plugin)
    await provider.start()
    yield provider
    await provider.close()


async def asked_again(provider: Kms) -> None:
    """As if the last answer were too old."""
    provider._answered = None
    await provider.check()


async def test_values_are_encrypted_by_a_seed_that_the_plugin_has_encrypted(tmp_path: Path) -> None:
    async with Plugin(tmp_path / "s") as plugin, running(plugin) as provider:
        data = provider.seal(b"value", CONTEXT)
        obj = messages.read_encrypted_object(data)
        assert (obj.key_id, obj.source_type, obj.annotations) == ("key-1", messages.SEED, {"version.example.com": b"1"})
        assert b"value" not in data and len(obj.data) == 32 + 12 + len(b"value") + 16
        assert await provider.open(data, CONTEXT) == (b"value", provider.label)
        assert plugin.calls == ["Status", "Encrypt"]
        with pytest.raises(TransformError, match="message authentication failed"):
            await provider.open(data, CONTEXT + b"b")


async def test_another_process_asks_the_plugin_once_for_each_seed(tmp_path: Path) -> None:
    async with Plugin(tmp_path / "s") as plugin:
        async with running(plugin) as provider:
            stored = [provider.seal(b"%d" % n, CONTEXT) for n in range(3)]
        async with running(plugin) as provider:
            plugin.calls.clear()
            assert [(await provider.open(data, CONTEXT)).value for data in stored] == [b"0", b"1", b"2"]
            assert plugin.calls == ["Decrypt"]


async def test_what_the_plugin_does_is_counted(tmp_path: Path) -> None:
    def count(code: str) -> float:
        return sum(sum(row[:-1]) for labels, row in kms_metrics.OPERATIONS.values.items() if labels[2] == code)

    good, bad = count("OK"), count("PermissionDenied")
    async with Plugin(tmp_path / "s") as plugin, running(plugin) as provider:
        data = provider.seal(b"value", CONTEXT)
        await provider.open(data, CONTEXT)
        for direction in ("to_storage", "from_storage"):
            assert kms_metrics.KEY_IDS.values[direction, "vault", kms.hashed("key-1"), IDENTITY] >= 1
        assert ("vault", kms.hashed("key-1"), IDENTITY) in kms_metrics.LAST_KEY_ID.values
        assert kms_metrics.SEEDS.values["vault",] == 1 and count("OK") == good + 2
        plugin.refuses = "7"
        with pytest.raises(TransformError):
            await asked_again(provider)
        assert count("PermissionDenied") == bad + 1


async def test_values_of_a_plain_key_can_be_read(tmp_path: Path) -> None:
    async with Plugin(tmp_path / "s") as plugin, running(plugin) as provider:
        answer = await Service("vault", plugin.endpoint, 1).encrypt(b"k" * 32, "uid")
        obj = EncryptedObject(
            data=Gcm(b"k" * 32, "").seal(b"v", CONTEXT), key_id=answer.key_id, source=answer.ciphertext,
            annotations=answer.annotations,
        )  # fmt: skip
        value, label = await provider.open(messages.encrypted_object(obj), CONTEXT)
        assert value == b"v" and label != provider.label


async def test_a_new_key_of_the_plugin_brings_a_new_seed(tmp_path: Path) -> None:
    async with Plugin(tmp_path / "s") as plugin, running(plugin) as provider:
        old, label = provider.seal(b"v", CONTEXT), provider.label
        await asked_again(provider)
        assert provider.label == label and plugin.calls == ["Status", "Encrypt", "Status"]
        plugin.key_id = "key-2"
        await asked_again(provider)
        assert (
            provider.label != label and messages.read_encrypted_object(provider.seal(b"v", CONTEXT)).key_id == "key-2"
        )
        assert await provider.open(old, CONTEXT) == (b"v", label)


async def test_while_the_plugin_is_away_writing_goes_on_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Plugin(tmp_path / "s") as plugin, running(plugin) as provider:
        await plugin.close()
        (tmp_path / "s").unlink(missing_ok=True)
        with pytest.raises(
            TransformError, match="failed to perform status section of the healthz check for KMS Provider"
        ):
            await asked_again(provider)
        data = provider.seal(b"v", CONTEXT)
        later = clock.now() + kms.COASTING + timedelta(seconds=1)
        monkeypatch.setattr(clock, "_now", lambda: later)
        with pytest.raises(TransformError, match=r'encryptedDEKSource with keyID hash "sha256:.*" expired at 20'):
            provider.seal(b"v", CONTEXT)
        assert (await provider.open(data, CONTEXT)).value == b"v"


async def test_without_a_plugin_nothing_can_be_written(tmp_path: Path) -> None:
    plugin = Plugin(tmp_path / "s")
    async with running(plugin) as provider:
        with pytest.raises(TransformError, match="got unexpected nil transformer"):
            provider.seal(b"v", CONTEXT)
        with pytest.raises(TransformError, match="No such file or directory"):
            await provider.check()


async def test_answers_of_the_health_check_are_kept_for_a_while(tmp_path: Path) -> None:
    async with Plugin(tmp_path / "s") as plugin, running(plugin) as provider:
        await provider.check()
        await provider.check()
        assert plugin.calls.count("Status") == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"healthz": "tired"}, "got unexpected healthz status: tired"),
        ({"version": "v1"}, "expected KMSv2 API version v2, got v1"),
        ({"version": "v2beta1"}, "should not change after the initial status response version v2, got v2beta1"),
        ({"key_id": ""}, 'got invalid KMSv2 KeyID hash "": keyID is empty'),
        ({"key_id": "x" * 1025}, "keyID is 1025 bytes, which exceeds the max size of 1024"),
        ({"refuses": "7"}, "rpc error: code = PermissionDenied desc = locked"),
    ],
)
async def test_a_sick_plugin_is_told_of_in_upstreams_words(tmp_path: Path, change: dict[str, str], said: str) -> None:
    async with Plugin(tmp_path / "s") as plugin, running(plugin) as provider:
        for name, value in change.items():
            setattr(plugin, name, value)
        with pytest.raises(TransformError) as caught:
            await asked_again(provider)
        assert said in str(caught.value) and "vault" in str(caught.value)


async def test_a_plugin_that_does_not_answer_is_given_up(tmp_path: Path) -> None:
    release = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        writer.close()

    server = await asyncio.start_unix_server(silent, tmp_path / "s")
    with pytest.raises(TransformError, match="DeadlineExceeded"):
        await Service("vault", f"unix://{tmp_path / 's'}", 0.05).status()
    release.set()
    server.close()


@pytest.mark.parametrize(
    ("obj", "said"),
    [
        (EncryptedObject(key_id="k", source=b"s"), "encrypted data is empty"),
        (EncryptedObject(data=b"d", key_id="k"), "encrypted DEK source is empty"),
        (EncryptedObject(data=b"d", key_id="k", source=b"s" * 1025), "encrypted DEK source is 1025 bytes"),
        (EncryptedObject(data=b"d", source=b"s"), "failed to validate key id: keyID is empty"),
        (EncryptedObject(data=b"d", key_id="k", source=b"s", source_type=7), "unknown encryptedDEKSourceType: 7"),
        (EncryptedObject(data=b"d", key_id="k", source=b"s", annotations={"a": b""}), "failed to validate annotations"),
        (
            EncryptedObject(data=b"d", key_id="k", source=b"s", annotations={"a.b": b"x" * 33_000}),
            "total size of annotations is 33003, which exceeds the max size of 32768",
        ),
    ],
)
async def test_envelopes_are_checked(tmp_path: Path, obj: EncryptedObject, said: str) -> None:
    with pytest.raises(TransformError, match=said):
        await made(Plugin(tmp_path / "s")).open(messages.encrypted_object(obj), CONTEXT)


async def test_what_is_no_envelope_is_refused(tmp_path: Path) -> None:
    for data in (b"\x0a\x05ab", b"\xff", b"\x0b"):
        with pytest.raises(TransformError, match="proto: "):
            await made(Plugin(tmp_path / "s")).open(data, CONTEXT)


def test_messages_are_protobuf() -> None:
    obj = EncryptedObject(data=b"d", key_id="k", source=b"s", annotations={"a.b": b"c"}, source_type=messages.SEED)
    data = messages.encrypted_object(obj)
    assert data == b"\x0a\x01d\x12\x01k\x1a\x01s\x22\x08\x0a\x03a.b\x12\x01c\x28\x01"
    assert messages.read_encrypted_object(data) == obj
    # Fields that are not known are passed over.
    assert messages.read_plaintext(b"\x49" + b"x" * 8 + b"\x55" + b"y" * 4 + b"\x38\x80\x01" + b"\x0a\x01p") == b"p"


def test_endpoints_are_paths_or_abstract_names() -> None:
    assert socket_path("unix:///run/kms.sock") == "/run/kms.sock"
    assert socket_path("unix://@kms") == "\0kms"
