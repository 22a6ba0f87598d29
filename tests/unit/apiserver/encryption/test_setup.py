from __future__ import annotations

import sys
from pathlib import Path

import pytest

from apiserver.encryption import harness
from apiserver.encryption.fake_kms import Plugin
from apiserver.encryption.harness import IDENTITY, keyed, rule
from podling.api import core_v1, meta_v1
from podling.apiserver import assembly, options
from podling.apiserver.assembly import Assembly, Settings
from podling.apiserver.encryption import setup
from podling.apiserver.encryption.setup import Unreadable
from podling.apiserver.options import OptionError, Options
from podling.client.client import ApiClient
from podling.store.memory import MemoryStore

FLAG = "encryption-provider-config"


def given(path: Path) -> Options:
    return Options(encryption_provider_config=str(path))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "enc.yaml"
    found.write_text(harness.file(rule("secrets", keyed("aescbc", "key1"))))
    return found


def test_a_good_file_is_accepted(path: Path) -> None:
    assembly.check(given(path))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([f"{FLAG}=/nowhere"], "--encryption-provider-config: error while parsing file: /nowhere can't be read"),
        ([f"{FLAG}=enc.yaml"], "--encryption-provider-config=enc.yaml: write an absolute path"),
        ([f"{FLAG}-automatic-reload=true"], "must be set when --encryption-provider-config-automatic-reload is set"),
    ],
)
def test_wrong_flags_say_what_is_right(arguments: list[str], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        assembly.check(options.parse(arguments))


def test_the_file_is_named_with_what_is_wrong_in_it(path: Path) -> None:
    path.write_text(harness.file(rule("secrets", {"aescbc": {}})))
    with pytest.raises(OptionError) as caught:
        assembly.check(given(path))
    assert f"error while parsing file: {path}: resources[0].providers[0].aescbc.keys: Required value" in str(
        caught.value
    )
    path.write_text(harness.file(rule("*.*", IDENTITY), rule("secrets", IDENTITY)))
    with pytest.raises(OptionError, match=r"error while building transformers: resource .* is masked"):
        assembly.check(given(path))


def test_secretbox_says_what_to_install(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nacl.secret", None)
    path.write_text(harness.file(rule("secrets", keyed("secretbox", "key1"))))
    with pytest.raises(OptionError, match=r"secretbox needs PyNaCl: pip install podling\[secretbox\]"):
        assembly.check(given(path))


async def test_a_server_does_not_start_without_its_keys(path: Path) -> None:
    store = MemoryStore()
    await store.open()
    first = Assembly(store, Settings(options=given(path)))
    await first.start()
    await ApiClient(first.app).create(core_v1.Namespace(metadata=meta_v1.ObjectMeta(name="default")))
    for name in ("a", "b", "c"):
        meta = meta_v1.ObjectMeta(name=name, namespace="default")
        await ApiClient(first.app).create(core_v1.Secret(metadata=meta, data={"k": "dg=="}))
    await first.close()
    path.write_text(harness.file(rule("secrets", keyed("aescbc", "key2"), IDENTITY)))
    second = Assembly(store, Settings(options=given(path)))
    with pytest.raises(Unreadable) as caught:
        await second.start()
    said = "can't decrypt /registry/core/secrets/default/a and 2 other objects, encrypted with the aescbc key"
    assert str(caught.value).startswith(f'{path} {said} "key1"')
    await second.close()


async def test_a_server_over_a_plugin_has_a_health_check_of_it(path: Path, tmp_path: Path) -> None:
    plugin = Plugin(tmp_path / "s")
    kms = {"kms": {"apiVersion": "v2", "name": "vault", "endpoint": plugin.endpoint}}
    path.write_text(harness.file(rule("secrets", kms)))
    store = MemoryStore()
    await store.open()
    async with plugin:
        server = Assembly(store, Settings(options=given(path)))
        await server.start()
        assert (await ApiClient(server.app).transport.send(_get("/healthz/kms-providers"))).body == b"ok"
        plugin.healthz = "tired"
        server._at_rest.store.transformers.plugins[0]._answered = None  # type: ignore
        assert (await ApiClient(server.app).transport.send(_get("/healthz"))).status == 500
        await server.close()


async def test_a_server_without_its_plugin_does_not_start(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup, "PATIENCE", 0.0)
    kms = {"kms": {"apiVersion": "v2", "name": "vault", "endpoint": f"unix://{tmp_path}/s"}}
    path.write_text(harness.file(rule("secrets", kms)))
    store = MemoryStore()
    await store.open()
    server = Assembly(store, Settings(options=given(path)))
    with pytest.raises(Unreadable, match=r"KMS Provider vault, error: .*No such file or directory; start the plugin"):
        await server.start()
    await server.close()


def test_without_the_flag_nothing_is_loaded() -> None:
    assert f"--{FLAG}" == setup.FLAG
    assert assembly._at_rest(MemoryStore(), Options()) is None


def _get(path: str) -> object:
    from podling.api.request import Request

    return Request("GET", path)
