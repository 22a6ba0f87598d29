"""Expectations hold a controller back until its cache has caught up."""

from __future__ import annotations

import asyncio

from podling import clock
from podling.api import core_v1
from podling.api.meta_v1 import ObjectMeta
from podling.client.expectations import Expectations, OwnWrites


def test_creations_and_deletions_are_awaited_until_seen() -> None:
    async def main() -> None:
        expectations = Expectations()
        assert expectations.satisfied("a")
        expectations.expect("a", 2, ["x"])
        assert not expectations.satisfied("a")
        expectations.created("a")
        expectations.deleted("a", "other")
        assert expectations.awaits("a") == (1, 1)
        expectations.created("a")
        assert not expectations.satisfied("a")
        expectations.deleted("a", "x")
        expectations.deleted("a", "x")
        assert expectations.satisfied("a") and expectations.satisfied("b")

    clock.run_virtual(main())


def test_after_five_minutes_the_controller_acts_anyway() -> None:
    async def main() -> None:
        expectations = Expectations()
        expectations.expect_creations("a", 1)
        await asyncio.sleep(300)
        assert not expectations.satisfied("a")
        await asyncio.sleep(0.001)
        assert expectations.satisfied("a")

    clock.run_virtual(main())


def test_forgotten_expectations_bind_no_namesake() -> None:
    async def main() -> None:
        expectations = Expectations()
        expectations.expect_deletions("a", {"x", "y"})
        expectations.forget("a")
        assert expectations.satisfied("a")

    clock.run_virtual(main())


def test_own_writes_are_awaited_until_the_cache_shows_them() -> None:
    def version(number: int) -> core_v1.ConfigMap:
        return core_v1.ConfigMap(metadata=ObjectMeta(name="a", resource_version=str(number)))

    writes = OwnWrites()
    assert not writes.awaited("a", version(1))
    writes.note("a", version(10))
    assert writes.awaited("a", version(9)) and not writes.awaited("b", version(9))
    assert not writes.awaited("a", version(10))
    # An older one afterwards is the cache's business: it lists anew.
    assert not writes.awaited("a", version(9))
    writes.note("a", version(20))
    writes.forget("a")
    assert not writes.awaited("a", version(1))
