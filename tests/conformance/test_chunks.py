"""Lists in pages: exact counts, one revision for all pages, and going on after compaction."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import pytest

from podling import clock
from podling.api import core_v1, meta_v1
from podling.api.errors import StatusError
from podling.client.base import ListResult
from tests.unit.apiserver.harness import Server, running

TOTAL = 400
Kind = core_v1.PodTemplate


def of_templates(test: Callable[[Server], Awaitable[None]]) -> Callable[[], None]:
    """A test of a server with 400 pod templates."""

    def run() -> None:
        async def main() -> None:
            async with running() as server:
                for n in range(TOTAL):
                    spec = core_v1.PodSpec(containers=[core_v1.Container(name="test", image="test2")])
                    meta = meta_v1.ObjectMeta(name=f"template-{n:04}", namespace="default")
                    await server.client.create(Kind(metadata=meta, template=core_v1.PodTemplateSpec(spec=spec)))
                await test(server)

        clock.run_virtual(main())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


def check(page: ListResult[core_v1.PodTemplate], found: int, limit: int) -> int:
    """A page after so many: in order, no longer than asked for, and it knows how many are left."""
    assert len(page.items) <= limit
    assert page.remaining + len(page.items) + found == TOTAL
    assert bool(page.continue_) == bool(page.remaining)
    for item in page.items:
        assert item.metadata.name == f"template-{found:04}"
        found += 1
    return found


@of_templates
async def test_pages_add_up(server: Server) -> None:
    for seed in range(3):
        dice = random.Random(seed)
        found, token, revision = 0, "", ""
        while True:
            limit = dice.randint(1, TOTAL // 10)
            page = await server.client.list(Kind, "default", limit=limit, continue_=token)
            revision = revision or page.resource_version
            assert page.resource_version == revision
            found = check(page, found, limit)
            token = page.continue_
            if not token:
                break
        assert found == TOTAL
    whole = await server.client.list(Kind, "default", limit=TOTAL + 1)
    assert len(whole.items) == TOTAL


@of_templates
async def test_a_list_goes_on_after_compaction(server: Server) -> None:
    """The token expires; the failure brings one that goes on from the same name at another revision."""
    limit = TOTAL // 10
    first = await server.client.list(Kind, "default", limit=limit)
    found = check(first, 0, limit)
    # What is written and forgotten meanwhile: the cache's ring and the store's history.
    for n in range(2):
        await server.client.create(
            core_v1.ConfigMap(metadata=meta_v1.ObjectMeta(name=f"c-{n}", namespace="default"), data={})
        )
    await server.store.compact(server.store.revision)
    with pytest.raises(StatusError) as caught:
        await server.client.list(Kind, "default", limit=limit, continue_=first.continue_)
    status = caught.value.status
    assert (status.code, status.reason) == (410, "Expired")
    assert status.message == (
        "The provided continue parameter is too old to display a consistent list result. You can start a new list "
        "without the continue parameter, or use the continue token in this response to retrieve the remainder of the "
        "results. Continuing with the provided token results in an inconsistent list - objects that were created, "
        "modified, or deleted between the time the first chunk was returned and now may show up in the list."
    )
    assert status.metadata is not None and status.metadata.continue_
    second = await server.client.list(Kind, "default", limit=limit, continue_=status.metadata.continue_)
    assert second.resource_version != first.resource_version
    assert len(second.items) == limit
    found = check(second, found, limit)
    token = second.continue_
    while token:
        page = await server.client.list(Kind, "default", limit=limit, continue_=token)
        assert page.resource_version == second.resource_version
        found, token = check(page, found, limit), page.continue_
    assert found == TOTAL
