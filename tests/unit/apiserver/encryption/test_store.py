"""The store as the API server sees it, and as it is on the disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from apiserver.encryption.harness import IDENTITY, keyed, rule, transformers
from podling.api import core_v1, meta_v1
from podling.api.errors import StatusError
from podling.apiserver.app import ApiServer
from podling.apiserver.cache import Undecodable
from podling.apiserver.encryption import metrics
from podling.apiserver.encryption.resource_names import GroupResource
from podling.apiserver.encryption.store import EncryptedStore
from podling.client.client import ApiClient
from podling.store.base import Put, Store
from podling.store.memory import MemoryStore
from podling.store.sqlite import SqliteStore

SECRET = "/registry/core/secrets/default/a"
FIRST = rule("secrets", keyed("aesgcm", "key1"), IDENTITY)
ROTATED = rule("secrets", keyed("aesgcm", "key2", "key1"), IDENTITY)


def secret(name: str = "a", value: str = "topsecret") -> core_v1.Secret:
    meta = meta_v1.ObjectMeta(name=name, namespace="default")
    return core_v1.Secret(metadata=meta, data={"p": value}, type="Opaque")


@asynccontextmanager
async def serving(inner: Store, *rules: dict[str, Any]) -> AsyncIterator[tuple[ApiClient, EncryptedStore]]:
    """A server over what `inner` holds."""
    store = EncryptedStore(inner, transformers(*rules))
    app = ApiServer(store)
    app.hub.outdated = store.outdated
    await app.start()
    yield ApiClient(app), store
    await app.close()


async def raw(inner: Store, key: str = SECRET) -> bytes:
    found = await inner.get(key)
    assert found is not None
    return found.value


@pytest.fixture
async def inner() -> AsyncIterator[Store]:
    store = MemoryStore()
    await store.open()
    yield store
    await store.close()


async def test_only_what_is_named_is_encrypted_and_all_can_be_read(inner: Store) -> None:
    async with serving(inner, FIRST) as (client, _):
        made = await client.create(secret())
        await client.create(core_v1.ConfigMap(metadata=meta_v1.ObjectMeta(name="c", namespace="default")))
        assert (await raw(inner)).startswith(b"k8s:enc:aesgcm:v1:key1:")
        assert (await raw(inner, "/registry/core/configmaps/default/c")).startswith(b'{"kind":"ConfigMap"')
        assert (await client.get(core_v1.Secret, "a", "default")).data == {"p": "topsecret"}
    async with serving(inner, FIRST) as (client, _):
        found = await client.get(core_v1.Secret, "a", "default")
        assert (found.data, found.metadata.uid) == ({"p": "topsecret"}, made.metadata.uid)


async def test_own_writes_are_not_decrypted_when_they_come_back(inner: Store) -> None:
    before = {k: v for k, v in metrics.OPERATIONS.values.items() if k[1] == "from_storage"}
    async with serving(inner, FIRST) as (client, store):
        await client.create(secret())
        await client.get(core_v1.Secret, "a", "default")
        assert {k: v for k, v in metrics.OPERATIONS.values.items() if k[1] == "from_storage"} == before
        assert store._written == {}


async def test_watches_see_plain_objects(inner: Store) -> None:
    async with serving(inner, FIRST) as (client, _):
        seen = []

        async def watch() -> None:
            async for event in client.watch(core_v1.Secret, "default", send_initial_events=True):
                if event.type in ("ADDED", "MODIFIED", "DELETED"):
                    seen.append((event.type, (event.object.data or {}).get("p")))

        task = asyncio.create_task(watch())
        await asyncio.sleep(0)
        made = await client.create(secret())
        made = await client.update(core_v1.Secret(metadata=made.metadata, data={"p": "other"}, type="Opaque"))
        await client.delete(core_v1.Secret, "a", "default")
        await asyncio.sleep(0.01)
        task.cancel()
        assert seen == [("ADDED", "topsecret"), ("MODIFIED", "other"), ("DELETED", "other")]


async def test_a_write_that_changes_nothing_encrypts_anew_what_another_key_had_encrypted(inner: Store) -> None:
    async with serving(inner, FIRST) as (client, _):
        made = await client.create(secret())
        same = await client.update(await client.get(core_v1.Secret, "a", "default"))
        assert same.metadata.resource_version == made.metadata.resource_version
    async with serving(inner, ROTATED) as (client, store):
        assert (await raw(inner)).startswith(b"k8s:enc:aesgcm:v1:key1:") and store.outdated(SECRET)
        changed = await client.update(await client.get(core_v1.Secret, "a", "default"))
        assert changed.metadata.resource_version != made.metadata.resource_version
        assert (await raw(inner)).startswith(b"k8s:enc:aesgcm:v1:key2:")
        again = await client.update(await client.get(core_v1.Secret, "a", "default"))
        assert again.metadata.resource_version == changed.metadata.resource_version and not store.outdated(SECRET)


async def test_encryption_begins_and_ends_by_writing_anew(inner: Store) -> None:
    async with serving(inner, rule("configmaps", IDENTITY)) as (client, _):
        await client.create(secret())
    async with serving(inner, FIRST) as (client, store):
        assert store.outdated(SECRET) and (await raw(inner)).startswith(b"{")
        await client.update(await client.get(core_v1.Secret, "a", "default"))
        assert (await raw(inner)).startswith(b"k8s:enc:")
    async with serving(inner, rule("secrets", IDENTITY, keyed("aesgcm", "key1"))) as (client, store):
        assert store.outdated(SECRET)
        await client.update(await client.get(core_v1.Secret, "a", "default"))
        await client.get(core_v1.Secret, "a", "default")
        assert (await raw(inner)).startswith(b"{") and not store.outdated(SECRET) and not store.in_use()


async def test_it_is_known_which_keys_are_in_use(inner: Store) -> None:
    async with serving(inner, FIRST) as (client, store):
        await client.create(secret("a"))
        await client.create(secret("b"))
        await client.delete(core_v1.Secret, "b", "default")
        await client.get(core_v1.Secret, "a", "default")
        (((resource, label), count),) = store.in_use().items()
        assert resource == GroupResource("", "secrets") and label.startswith("aesgcm:key1:") and count == 1


async def test_a_key_that_is_gone_is_told_of_in_upstreams_words(inner: Store) -> None:
    async with serving(inner, FIRST) as (client, _):
        await client.create(secret())
    store = EncryptedStore(inner, transformers(rule("secrets", keyed("aesgcm", "key2"))))
    said = (
        f'Internal error occurred: unable to transform key "{SECRET}": no matching key was found for the provided AES '
        "transformer"
    )
    for attempt in (store.get(SECRET), store.list("/registry/")):
        with pytest.raises(StatusError) as caught:
            await attempt
        assert (str(caught.value), caught.value.code) == (said, 500)
    (why,) = await store.unreadable("/registry/")
    assert why.startswith('the aesgcm key "key1": ')


async def test_a_value_does_not_hold_in_another_place(inner: Store) -> None:
    async with serving(inner, FIRST) as (client, _):
        await client.create(secret())
    await inner.commit([Put("/registry/core/secrets/default/b", await raw(inner))])
    with pytest.raises(StatusError, match="cipher: message authentication failed"):
        await EncryptedStore(inner, transformers(FIRST)).get("/registry/core/secrets/default/b")


async def test_a_list_of_the_past_is_decrypted_and_notes_nothing(inner: Store) -> None:
    async with serving(inner, FIRST) as (client, _):
        await client.create(secret())
    old = inner.revision
    async with serving(inner, ROTATED) as (client, store):
        await client.update(await client.get(core_v1.Secret, "a", "default"))
        await client.get(core_v1.Secret, "a", "default")
        page = await store.list("/registry/core/secrets/", revision=old)
        assert page.items[0].value.startswith(b"{") and not store.outdated(SECRET)


async def test_without_the_configuration_the_server_does_not_start(inner: Store) -> None:
    async with serving(inner, FIRST) as (client, _):
        await client.create(secret())
    with pytest.raises(Undecodable, match=f"{SECRET} is encrypted: give the --encryption-provider-config"):
        await ApiServer(inner).start()


async def test_nothing_plain_is_on_the_disk(tmp_path: Path) -> None:
    inner = SqliteStore(tmp_path / "state.db", erase=True)
    await inner.open()
    async with serving(inner, FIRST) as (client, _):
        await client.create(secret(value="topsecret" * 100))
        await client.update(secret(value="othersecret" * 100))
        assert not held(tmp_path, b"secretothersecret", b"topsecrettop")
    await inner.close()


async def test_what_was_plain_is_erased_by_compaction(tmp_path: Path) -> None:
    inner = SqliteStore(tmp_path / "state.db", erase=True)
    await inner.open()
    async with serving(inner, rule("configmaps", IDENTITY)) as (client, _):
        await client.create(secret(value="topsecret" * 100))
        assert held(tmp_path, b"topsecrettop")
    async with serving(inner, FIRST) as (client, _):
        await client.update(await client.get(core_v1.Secret, "a", "default"))
        await inner.compact(inner.revision)
        assert not held(tmp_path, b"topsecrettop")
    await inner.close()


def held(folder: Path, *texts: bytes) -> list[str]:
    """The files that hold one of the texts."""
    return [p.name for p in folder.iterdir() if any(text in p.read_bytes() for text in texts)]
