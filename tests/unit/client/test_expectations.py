"""Expectations hold a controller back until its cache has caught up."""

from __future__ import annotations

import asyncio

from podling import clock
from podling.client.expectations import Expectations


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
