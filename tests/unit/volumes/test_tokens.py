"""Tokens are asked for once, renewed in time, and used to the end if they cannot be."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from podling import clock
from podling.api import core_v1
from podling.volumes.base import VolumeError
from podling.volumes.tokens import TokenCache, refresh_time
from tests.unit.volumes.fakes import FakeLookup, pod

SOURCE = core_v1.ServiceAccountTokenProjection(path="token", expiration_seconds=600, audience="me")
T0 = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(("seconds", "chance", "after"), [(600, 0.0, 480), (3600, 0.5, 2875), (7 * 86400, 0.0, 86400)])
def test_refresh_time(seconds: int, chance: float, after: int) -> None:
    assert refresh_time(T0 + timedelta(seconds=seconds), seconds, chance) == T0 + timedelta(seconds=after)


def test_a_token_is_bound_to_the_pod_and_kept() -> None:
    async def scenario() -> None:
        lookup, cache, mine = FakeLookup(), TokenCache(), pod(serviceAccountName="sa")
        first = await cache.get(lookup, mine, SOURCE)
        await asyncio.sleep(450)
        assert await cache.get(lookup, mine, SOURCE) == first
        await asyncio.sleep(60)
        assert (await cache.get(lookup, mine, SOURCE)).text == "token-2"
        spec = lookup.token_requests[0].spec
        assert spec.bound_object_ref is not None
        assert (spec.audiences, spec.expiration_seconds) == (["me"], 600)
        assert (spec.bound_object_ref.kind, spec.bound_object_ref.name, spec.bound_object_ref.uid) == (
            "Pod",
            "web",
            "u1",
        )

    clock.run_virtual(scenario())


def test_without_the_api_server_a_token_serves_until_it_expires() -> None:
    async def scenario() -> None:
        lookup, cache, mine = FakeLookup(), TokenCache(), pod()
        first = await cache.get(lookup, mine, SOURCE)
        lookup.tokens_fail = True
        await asyncio.sleep(590)
        again = await cache.get(lookup, mine, SOURCE)
        assert again.text == first.text and again.refresh_at > clock.now()
        await asyncio.sleep(20)
        with pytest.raises(VolumeError, match=r"^failed to fetch token: the API server is away$"):
            await cache.get(lookup, mine, SOURCE)

    clock.run_virtual(scenario())


def test_a_new_pod_gets_its_own() -> None:
    async def scenario() -> None:
        lookup, cache, mine = FakeLookup(), TokenCache(), pod()
        await cache.get(lookup, mine, SOURCE)
        cache.forget("u1")
        assert (await cache.get(lookup, mine, SOURCE)).text == "token-2"

    clock.run_virtual(scenario())
