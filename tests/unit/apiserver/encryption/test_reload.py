from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from apiserver.encryption import harness
from apiserver.encryption.fake_kms import Plugin
from apiserver.encryption.harness import IDENTITY, keyed, rule
from podling.apiserver.encryption import metrics, reload
from podling.apiserver.encryption.reload import Reloader
from podling.apiserver.encryption.store import EncryptedStore
from podling.store.base import Put
from podling.store.memory import MemoryStore

SECRET = "/registry/core/secrets/default/a"
FIRST = rule("secrets", keyed("aescbc", "key1"))


class Setting:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.inner = MemoryStore()
        self.store = EncryptedStore(self.inner, harness.transformers(FIRST))
        self.write(FIRST)
        self.reloader = Reloader(str(path), self.store, path.read_bytes())

    def write(self, *rules: dict[str, Any]) -> None:
        self.path.write_text(harness.file(*rules))

    async def put(self) -> None:
        await self.store.commit([Put(SECRET, b"{}")])
        await self.store.list("/registry/")


@pytest.fixture
async def setting(tmp_path: Path) -> Setting:
    found = Setting(tmp_path / "enc.yaml")
    await found.inner.open()
    return found


def reloads(status: str) -> float:
    return sum(v for labels, v in metrics.RELOADS.values.items() if labels[0] == status)


async def test_a_file_that_has_not_changed_changes_nothing(setting: Setting) -> None:
    before = setting.store.transformers
    await setting.reloader.look()
    assert setting.store.transformers is before


async def test_a_new_key_is_written_with_and_the_old_one_still_read(setting: Setting) -> None:
    await setting.put()
    good = reloads("success")
    setting.write(rule("secrets", keyed("aescbc", "key2", "key1")))
    await setting.reloader.look()
    assert reloads("success") == good + 1 and setting.store.outdated(SECRET)
    assert (await setting.store.get(SECRET)).value == b"{}"  # type: ignore[union-attr]
    await setting.put()
    assert (await setting.inner.get(SECRET)).value.startswith(b"k8s:enc:aescbc:v1:key2:")  # type: ignore[union-attr]


async def test_a_key_that_is_in_use_is_not_let_go(setting: Setting, caplog: pytest.LogCaptureFixture) -> None:
    await setting.put()
    bad = reloads("failure")
    setting.write(rule("secrets", keyed("aescbc", "key2")))
    await setting.reloader.look()
    assert reloads("failure") == bad + 1
    said = 'one object is encrypted with the aescbc key "key1", which is no longer among the providers of secrets'
    assert said in caplog.text
    assert (await setting.store.get(SECRET)).value == b"{}"  # type: ignore[union-attr]
    setting.write(rule("secrets", keyed("aescbc", "key2", "key1")))
    await setting.reloader.look()
    await setting.put()
    setting.write(rule("secrets", keyed("aescbc", "key2")))
    await setting.reloader.look()
    assert "key1" not in "".join(setting.store.transformers.of(harness_secrets()).labels)


def harness_secrets() -> Any:
    from podling.apiserver.encryption.resource_names import parse

    return parse("secrets")


@pytest.mark.parametrize("text", ["", "kind: Nothing", "{"])
async def test_a_bad_file_changes_nothing_and_is_told_of(
    setting: Setting, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    before = setting.store.transformers
    setting.path.write_text(text)
    await setting.reloader.look()
    assert (
        setting.store.transformers is before
        and f"error processing encryption config file {setting.path}" in caplog.text
    )


async def test_a_file_that_is_gone_changes_nothing(setting: Setting) -> None:
    before = setting.store.transformers
    setting.path.unlink()
    await setting.reloader.look()
    assert setting.store.transformers is before


async def test_a_new_plugin_has_to_be_well(
    setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(reload, "PATIENCE", 0.0)
    monkeypatch.setattr(reload.healthy, "__defaults__", (0.0,))
    plugin = Plugin(tmp_path / "s")
    kms = {"kms": {"apiVersion": "v2", "name": "vault", "endpoint": plugin.endpoint}}
    await setting.put()
    setting.write(rule("secrets", kms, keyed("aescbc", "key1"), IDENTITY))
    await setting.reloader.look()
    assert "failed to perform status section" in caplog.text
    async with plugin:
        await setting.reloader.look()
        await setting.put()
        assert (await setting.inner.get(SECRET)).value.startswith(b"k8s:enc:kms:v2:vault:")  # type: ignore[union-attr]
        setting.write(rule("secrets", kms))
        await setting.reloader.look()
        assert len(setting.store.transformers.of(harness_secrets()).labels) == 1
        await setting.store.transformers.close()
