"""Unused images go when the disk fills up, and the node says when that did not help."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from podling import clock
from podling.api import core_v1
from podling.api.struct import from_dict
from podling.images.base import ImageInUse
from podling.images.gc import Disk
from podling.kubelet.config import KubeletConfig
from podling.kubelet.image_gc import ImageCollector
from podling.runtime.fake_images import FakeImages
from tests.unit.kubelet.node import Node, pod


class Recorder:
    def __init__(self) -> None:
        self.told: list[tuple[str, str, str, str]] = []

    def event(self, about: core_v1.ObjectReference, type_: str, reason: str, message: str) -> None:
        self.told.append((about.name or "", type_, reason, message))


class Images(FakeImages):
    """On a disk of 1,000 bytes; what is in `stuck` cannot be removed."""

    stuck: frozenset[str] = frozenset()

    async def remove(self, reference: str) -> None:
        if reference in self.stuck:
            raise ImageInUse(f"{reference} is mounted")
        await super().remove(reference)

    def disk(self, path: str) -> Disk:
        return Disk(1000, 1000 - sum(image.size for image in self._by_id.values()))

    async def id(self, name: str) -> str:
        found = await self.status(name)
        assert found is not None
        return found.id


def _images(**sizes: int) -> Images:
    names = {f"{name}:1": size for name, size in sizes.items()}
    return Images(present=tuple(names), sizes=names)


def _collector(images: Images, recorder: Recorder, used: set[str], *pods: core_v1.Pod, **config: Any) -> ImageCollector:
    settings = KubeletConfig(node_name="n", **config)
    return ImageCollector(images, settings, recorder, lambda: set(used), lambda: pods, images.disk)  # type: ignore[arg-type]


def test_images_of_containers_and_volumes_stay() -> None:
    async def main() -> None:
        images, recorder = _images(a=300, b=300, c=300), Recorder()
        volume = {"name": "v", "image": {"reference": "c:1"}}
        mounting = from_dict({"metadata": {"name": "p"}, "spec": {"containers": [], "volumes": [volume]}}, core_v1.Pod)
        await _collector(images, recorder, {await images.id("a:1")}, mounting).collect()
        assert {i.repo_tags[0] for i in await images.list()} == {"docker.io/library/a:1", "docker.io/library/c:1"}
        assert recorder.told == []

    clock.run_virtual(main())


def test_too_little_to_free_is_an_event_each_time() -> None:
    async def main() -> None:
        images, recorder = _images(a=900), Recorder()
        collector = _collector(images, recorder, {await images.id("a:1")})
        text = (
            "Failed to garbage collect required amount of images. "
            "Attempted to free 100 bytes, but only found 0 bytes eligible to free."
        )
        own, again = ("n", "Warning", "FreeDiskSpaceFailed", text), ("n", "Warning", "ImageGCFailed", text)
        await collector.collect()
        assert recorder.told == [own]
        await collector.collect()
        assert recorder.told == [own, own, again]
        await images.remove("a:1")
        await collector.collect()
        assert len(recorder.told) == 3

    clock.run_virtual(main())


def test_other_failures_are_events_from_the_second_on() -> None:
    async def main() -> None:
        images, recorder = _images(a=900), Recorder()
        images.stuck = frozenset({await images.id("a:1")})
        collector = _collector(images, recorder, set())
        await collector.collect()
        assert recorder.told == []
        await collector.collect()
        ((name, type_, reason, message),) = recorder.told
        assert (name, type_, reason) == ("n", "Warning", "ImageGCFailed")
        assert message.startswith("wanted to free 100 bytes, but freed 0 bytes space with errors in image deletion: ")

    clock.run_virtual(main())


def test_images_go_at_their_maximum_age() -> None:
    async def main() -> None:
        images, recorder = Images(sizes={"a:1": 1, "b:1": 1}), Recorder()
        collector = _collector(images, recorder, set(), image_maximum_age=3600.0)
        await images.pull("a:1")
        await collector.collect()
        await asyncio.sleep(3599)
        await images.pull("b:1")
        await collector.collect()
        assert len(await images.list()) == 2
        await asyncio.sleep(2)
        await collector.collect()
        assert [i.repo_tags[0] for i in await images.list()] == ["docker.io/library/b:1"]

    clock.run_virtual(main())


def test_the_node_agent_removes_images_of_pods_that_are_gone(tmp_path: Path) -> None:
    async def main() -> None:
        async with Node(tmp_path, image_maximum_age=600.0, image_gc_period=60.0) as node:
            await node.create(pod("web"))
            await node.until_ready("web")
            await asyncio.sleep(1000)
            assert await node.images.list()
            await node.client.delete(core_v1.Pod, "web", "default")
            await asyncio.sleep(1000)
            assert await node.images.list() == []

    clock.run_virtual(main())
