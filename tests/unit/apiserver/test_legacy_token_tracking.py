"""The ConfigMap that says since when uses of legacy tokens are tracked, and the label that tells the last use."""

from __future__ import annotations

import asyncio
from typing import Any

from apiserver.harness import Server, virtual
from podling import clock
from podling.api import core_v1, meta_v1
from podling.api.struct import clone
from podling.apiserver.authn.legacy_token_uses import LAST_USED, LegacyTokenUses
from podling.apiserver.legacy_token_tracking import NAME, LegacyTokenTracking

NAMESPACE = "kube-system"


def today() -> str:
    return clock.now().strftime("%Y-%m-%d")


async def since(server: Server) -> str | None:
    maps = (await server.client.list(core_v1.ConfigMap, NAMESPACE)).items
    return next((m.data["since"] for m in maps if m.metadata.name == NAME), None)


async def tracking(server: Server) -> LegacyTokenTracking:
    tracked = LegacyTokenTracking(server.app)
    tracked.start()
    await asyncio.sleep(0.1)
    # There is no place for it yet.
    assert await since(server) is None
    await server.client.create(core_v1.Namespace(metadata=meta_v1.ObjectMeta(name=NAMESPACE)))
    await asyncio.sleep(0.1)
    assert await since(server) == today()
    return tracked


@virtual
async def test_it_is_made_with_its_namespace_and_keeps_its_day(server: Server) -> None:
    tracked = await tracking(server)
    first = today()
    await asyncio.sleep(3 * 86400)
    assert await since(server) == first
    found = clone(await server.client.get(core_v1.ConfigMap, NAME, NAMESPACE))
    found.data = {"since": "long ago", "other": "x"}
    await server.client.update(found)
    await asyncio.sleep(0.1)
    mended = await server.client.get(core_v1.ConfigMap, NAME, NAMESPACE)
    assert mended.data == {"since": today(), "other": "x"}
    await tracked.close()


@virtual
async def test_it_is_made_again_within_half_an_hour(server: Server) -> None:
    tracked = await tracking(server)
    await server.client.delete(core_v1.ConfigMap, NAME, NAMESPACE)
    await asyncio.sleep(1780)
    assert await since(server) is None
    await asyncio.sleep(30)
    assert await since(server) == today()
    await tracked.close()


@virtual
async def test_a_use_is_labelled_once_a_day(server: Server) -> None:
    uses = LegacyTokenUses(server.app)
    made: Any = await server.client.create(core_v1.Secret(metadata=meta_v1.ObjectMeta(name="s", namespace="default")))

    async def used() -> core_v1.Secret:
        secret = await server.client.get(core_v1.Secret, "s", "default")
        uses.used(secret)
        uses.used(secret)
        # Nobody has waited for it.
        assert (await server.client.get(core_v1.Secret, "s", "default")).metadata is secret.metadata
        await asyncio.sleep(0.1)
        return await server.client.get(core_v1.Secret, "s", "default")

    first = await used()
    assert first.metadata.labels == {LAST_USED: today()}
    assert int(first.metadata.resource_version or 0) == int(made.metadata.resource_version) + 1
    assert (await used()).metadata.resource_version == first.metadata.resource_version
    await asyncio.sleep(86400)
    assert (await used()).metadata.labels == {LAST_USED: today()} != first.metadata.labels
    await server.client.delete(core_v1.Secret, "s", "default")
    uses.used(first)
    await uses.close()
