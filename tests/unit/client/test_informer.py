"""Informers: what handlers hear, and what happens when watches break."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from client.fake_api import FakeApi
from podling import clock
from podling.api import core_v1, errors, registry
from podling.api.meta_v1 import ObjectMeta, OwnerReference
from podling.api.struct import clone
from podling.client import informer as informers
from podling.client.client import ApiClient
from podling.client.informer import CacheMutatedError, Informer, Informers


def pod(name: str, namespace: str = "default", node: str | None = None, owner: str = "") -> core_v1.Pod:
    refs = [OwnerReference(kind="ReplicaSet", name="rs", uid=owner, controller=True)] if owner else None
    return core_v1.Pod(
        metadata=ObjectMeta(name=name, namespace=namespace, owner_references=refs),
        spec=core_v1.PodSpec(node_name=node),
    )


class Heard:
    """What the handlers of an informer were told, as short texts."""

    def __init__(self, informer: Informer[Any]) -> None:
        self.events: list[str] = []
        informer.add_handler(
            on_add=lambda o: self.events.append(f"+{o.metadata.name}"),
            on_update=lambda a, b: self.events.append(f"~{b.metadata.name}"),
            on_delete=lambda o: self.events.append(f"-{o.metadata.name}"),
        )

    def take(self) -> list[str]:
        events, self.events = self.events, []
        return events


async def settle() -> None:
    """Let everything run that can, and a little time pass."""
    await asyncio.sleep(0.01)


def run(main: Any) -> None:
    clock.run_virtual(main)


def test_handlers_hear_every_change_in_order_and_the_store_follows() -> None:
    async def main() -> None:
        api = FakeApi()
        client = ApiClient(api)
        await client.create(pod("a"))
        informer = Informer(client, core_v1.Pod)
        heard = Heard(informer)
        informer.start()
        await informer.wait_synced()
        assert heard.take() == ["+a"]
        b = await client.create(pod("b"))
        changed = clone(b)
        changed.metadata.labels = {"x": "y"}
        await client.update(changed)
        await client.delete(core_v1.Pod, "a", "default")
        await settle()
        assert heard.take() == ["+b", "~b", "-a"]
        found = informer.get("default/b")
        assert found is not None and found.metadata.labels == {"x": "y"}
        assert informer.lookup("a", "default") is None
        late = Heard(informer)
        assert late.take() == ["+b"]
        await informer.close()

    run(main())


def test_a_broken_watch_goes_on_where_it_stopped_without_listing_again() -> None:
    async def main() -> None:
        api = FakeApi()
        client = ApiClient(api)
        informer = Informer(client, core_v1.Pod)
        heard = Heard(informer)
        informer.start()
        await informer.wait_synced()
        await client.create(pod("a"))
        await settle()
        await api.break_watches()
        await client.create(pod("b"))
        await asyncio.sleep(5)
        assert heard.take() == ["+a", "+b"]
        assert sum(1 for r in api.requests if r.method == "GET" and not r.query.get("watch")) == 1
        await informer.close()

    run(main())


def test_a_forgotten_revision_makes_it_list_again_and_tell_the_difference() -> None:
    async def main() -> None:
        api = FakeApi()
        client = ApiClient(api)
        kept, gone = await client.create(pod("kept")), await client.create(pod("gone"))
        changed = await client.create(pod("changed"))
        informer = Informer(client, core_v1.Pod)
        heard = Heard(informer)
        informer.start()
        await informer.wait_synced()
        heard.take()
        api.fail = [errors.unavailable("down")] * 2
        await api.break_watches()
        await asyncio.sleep(0)
        del api.objects["pods", "default", "gone"]
        api.objects["pods", "default", "changed"] = new = clone(changed)
        api.revision += 10
        new.metadata.resource_version = str(api.revision)
        api.oldest = api.revision
        await asyncio.sleep(60)
        assert heard.take() == ["~changed", "-gone"]
        assert informer.get("default/kept") is kept and gone is not None
        await informer.close()

    run(main())


def test_bookmarks_move_the_place_where_a_watch_goes_on() -> None:
    async def main() -> None:
        api = FakeApi()
        informer = Informer(ApiClient(api), core_v1.Pod)
        informer.start()
        await informer.wait_synced()
        await settle()
        await api.bookmark()
        await settle()
        assert informer.resource_version == str(api.revision)
        assert len(informer) == 0
        await informer.close()

    run(main())


def test_failures_back_off_to_thirty_seconds_and_jitter() -> None:
    async def main() -> None:
        api = FakeApi()
        api.fail = [errors.unavailable("down")] * 8
        informer = Informer(ApiClient(api), core_v1.Pod)
        began = clock.elapsed()
        informer.start()
        await informer.wait_synced()
        waited = clock.elapsed() - began
        least = 0.8 + 1.6 + 3.2 + 6.4 + 12.8 + 25.6 + 30 + 30
        assert least <= waited <= 2 * least
        await informer.close()

    run(main())


def test_pages_of_a_list_are_put_together() -> None:
    async def main() -> None:
        api = FakeApi()
        client = ApiClient(api)
        for i in range(7):
            await client.create(pod(f"p{i}"))
        api.page = 3
        informer = Informer(client, core_v1.Pod)
        informer.start()
        await informer.wait_synced()
        assert sorted(p.metadata.name or "" for p in informer.list()) == [f"p{i}" for i in range(7)]
        await informer.close()

    run(main())


def test_indexes_follow_changes() -> None:
    async def main() -> None:
        api = FakeApi()
        client = ApiClient(api)
        informer = Informer(client, core_v1.Pod)
        informer.add_index(informers.NODE, informers.node_name)
        await client.create(pod("a", "one"))
        await client.create(pod("b", "two", node="n1", owner="u1"))
        informer.start()
        await informer.wait_synced()
        informer.add_index(informers.CONTROLLER, informers.controller_uid)
        names = lambda pods: sorted(p.metadata.name for p in pods)  # noqa: E731
        assert names(informer.list("one")) == ["a"]
        assert names(informer.by_index(informers.NODE, "n1")) == ["b"]
        assert names(informer.by_index(informers.CONTROLLER, "u1")) == ["b"]
        a = clone(informer.list("one")[0])
        a.spec.node_name = "n1"
        await client.update(a)
        await client.delete(core_v1.Pod, "b", "two")
        await settle()
        assert names(informer.by_index(informers.NODE, "n1")) == ["a"]
        assert informer.by_index(informers.CONTROLLER, "u1") == []
        with pytest.raises(KeyError):
            informer.by_index("color", "blue")
        await informer.close()

    run(main())


def test_a_failing_handler_harms_nobody_else(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        api = FakeApi()
        client = ApiClient(api)
        informer = Informer(client, core_v1.Pod)

        def broken(_: Any) -> None:
            raise ValueError("boom")

        informer.add_handler(on_add=broken)
        heard = Heard(informer)
        informer.start()
        await client.create(pod("a"))
        await informer.wait_synced()
        await settle()
        assert heard.take() == ["+a"]
        await informer.close()

    run(main())
    assert "boom" in caplog.text


def test_who_changes_a_cached_object_is_found() -> None:
    async def main() -> None:
        client = ApiClient(FakeApi())
        shared = Informers(client, detect_mutations=True)
        informer = shared.of(core_v1.Pod)
        shared.start()
        await client.create(pod("a"))
        await shared.wait_synced()
        await settle()
        informer.check_mutations()
        cached = informer.get("default/a")
        assert cached is not None
        cached.spec.node_name = "changed-in-place"
        with pytest.raises(CacheMutatedError, match="default/a"):
            await shared.close()

    run(main())


def test_the_factory_shares_informers_and_starts_late_ones() -> None:
    async def main() -> None:
        client = ApiClient(FakeApi())
        shared = Informers(client)
        pods = shared.of(core_v1.Pod)
        assert shared.of(core_v1.Pod) is pods
        assert shared.of(core_v1.Pod, namespace="x") is not pods
        resource = registry.of(core_v1.Pod)
        assert shared.metadata_of(resource, core_v1.Pod) is pods
        shared.start()
        late = shared.of(core_v1.Node)
        await shared.wait_synced()
        assert pods.synced and late.synced
        await shared.drop(late)
        assert shared.of(core_v1.Node) is not late
        await shared.close()

    run(main())
