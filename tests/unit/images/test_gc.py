"""Image garbage collection frees what is unused longest, and only as much as is needed."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podling import clock
from podling.images import gc
from podling.images.base import FilesystemUsage, Image, ImageError
from podling.images.gc import Candidate, Disk, GarbageCollectionFailed, ImageGarbageCollector, Policy

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def _candidate(name: str, unused_minutes: int, **attributes: object) -> Candidate:
    image = Image(id=name, size=10, pinned=bool(attributes.pop("pinned", False)))
    age = timedelta(minutes=int(str(attributes.pop("age", 60))))
    return Candidate(
        image=image,
        first_detected=NOW - age,
        last_used=NOW - timedelta(minutes=unused_minutes),
        in_use=bool(attributes.pop("in_use", False)),
    )


@pytest.mark.parametrize(
    ("used_percent", "amount"), [(0, 0), (84, 0), (85, 50), (90, 100), (100, 200)], ids=lambda v: str(v)
)
def test_amount_to_free(used_percent: int, amount: int) -> None:
    assert gc.amount_to_free(Disk(1000, 1000 - used_percent * 10), Policy()) == amount


def test_order_and_exceptions() -> None:
    candidates = [
        _candidate("young", 50, age=1),
        _candidate("recent", 10),
        _candidate("old", 50),
        _candidate("used", 50, in_use=True),
        _candidate("pinned", 50, pinned=True),
    ]
    assert [i.id for i in gc.eligible(candidates, NOW, Policy())] == ["old", "recent"]


def test_maximum_age() -> None:
    candidates = [_candidate("recent", 10), _candidate("old", 50), _candidate("used", 90, in_use=True)]
    assert gc.outdated(candidates, NOW, Policy()) == []
    assert [i.id for i in gc.outdated(candidates, NOW, Policy(max_age=timedelta(minutes=30)))] == ["old"]


@given(st.integers(1, 1 << 40), st.integers(0, 100))
def test_never_asks_for_more_than_is_used(capacity: int, percent: int) -> None:
    available = capacity * percent // 100
    assert 0 <= gc.amount_to_free(Disk(capacity, available), Policy()) <= capacity - available + capacity // 100 + 1


class _Images:
    """A store in memory whose disk fills as it does."""

    def __init__(self, sizes: dict[str, int], refused: frozenset[str] = frozenset()) -> None:
        self.sizes = sizes
        self.refused = refused

    async def list(self) -> list[Image]:
        return [Image(id=name, size=size) for name, size in self.sizes.items()]

    async def remove(self, reference: str) -> None:
        if reference in self.refused:
            raise ImageError(f"{reference} cannot be removed")
        del self.sizes[reference]

    async def usage(self) -> FilesystemUsage:
        return FilesystemUsage("/", sum(self.sizes.values()), 0)

    def last_used(self, image_id: str) -> datetime:
        return clock.EPOCH - timedelta(hours=ord(image_id[0]))

    def disk(self, path: str) -> Disk:
        return Disk(100, 100 - sum(self.sizes.values()))


def _collector(images: _Images, used: set[str]) -> ImageGarbageCollector:
    async def in_use() -> set[str]:
        return used

    return ImageGarbageCollector(images, in_use, disk=images.disk)


def test_frees_down_to_the_low_threshold() -> None:
    images = _Images({"a": 30, "b": 30, "c": 20, "d": 10})
    assert clock.run_virtual(_collector(images, {"d"}).collect()) == 20
    assert set(images.sizes) == {"a", "b", "d"}


def test_says_when_too_little_can_be_freed() -> None:
    images = _Images({"a": 80, "b": 10})
    with pytest.raises(GarbageCollectionFailed) as caught:
        clock.run_virtual(_collector(images, {"a", "b"}).collect())
    assert caught.value.reason == "FreeDiskSpaceFailed"
    assert str(caught.value) == (
        "Failed to garbage collect required amount of images. "
        "Attempted to free 10 bytes, but only found 0 bytes eligible to free."
    )


def test_goes_on_after_a_failure() -> None:
    images = _Images({"a": 5, "b": 5, "z": 85}, frozenset({"z"}))
    with pytest.raises(GarbageCollectionFailed, match="z cannot be removed") as caught:
        clock.run_virtual(_collector(images, set()).collect())
    assert caught.value.reason == "ImageGCFailed"
    assert set(images.sizes) == {"z"}


def test_images_that_arrive_later_must_reach_the_minimum_age() -> None:
    images = _Images({"a": 1})

    async def scenario() -> list[str]:
        import asyncio

        collector = _collector(images, set())
        await collector.candidates(clock.now())
        images.sizes["b"] = 1
        first = [i.id for i in gc.eligible(await collector.candidates(clock.now()), clock.now(), Policy())]
        await asyncio.sleep(120)
        then = [i.id for i in gc.eligible(await collector.candidates(clock.now()), clock.now(), Policy())]
        assert first == ["a"]
        return sorted(then)

    assert clock.run_virtual(scenario()) == ["a", "b"]
