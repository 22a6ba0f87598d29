"""Leader election: never two, and soon another when one goes."""

from __future__ import annotations

import asyncio

from client.fake_api import FakeApi
from podling import clock
from podling.api import coordination_v1, errors
from podling.client.client import ApiClient
from podling.client.leader import LeaderElector
from tests.unit.measured import count


class Instance:
    """A candidate that notes when it leads."""

    leading: list[str]

    def __init__(self, api: FakeApi, name: str, leading: list[str]) -> None:
        self.name, self.leading = name, leading
        self.elector = LeaderElector(ApiClient(api), "kcm", name, self.lead)
        self.task = asyncio.create_task(self.elector.run())

    async def lead(self) -> None:
        self.leading.append(self.name)
        assert len(self.leading) == 1, "two leaders"
        try:
            await asyncio.Event().wait()
        finally:
            self.leading.remove(self.name)

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


def lease(api: FakeApi) -> coordination_v1.LeaseSpec:
    found: coordination_v1.Lease = api.objects["leases.coordination.k8s.io", "kube-system", "kcm"]
    return found.spec


def test_one_leads_and_a_released_lease_is_taken_at_once() -> None:
    async def main() -> None:
        api, leading = FakeApi(), list[str]()
        a = Instance(api, "a", leading)
        await asyncio.sleep(1)
        b = Instance(api, "b", leading)
        await asyncio.sleep(60)
        assert leading == ["a"] and lease(api).holder_identity == "a" and lease(api).lease_transitions == 0
        assert count("leader_election_master_status", name_="kcm") == 0, "the last one made waits"
        await a.stop()
        assert lease(api).holder_identity == ""
        await asyncio.sleep(5)
        assert leading == ["b"] and lease(api).lease_transitions == 1
        assert count("leader_election_master_status", name_="kcm") == 1
        await b.stop()
        assert count("leader_election_master_status", name_="kcm") == 0

    clock.run_virtual(main())


def test_a_leader_that_cannot_renew_stops_before_another_takes_over() -> None:
    async def main() -> None:
        api, leading = FakeApi(), list[str]()
        cut_off = FakeApi()
        cut_off.__dict__ = dict(api.__dict__)
        cut_off.fail = []
        a = Instance(cut_off, "a", leading)
        await asyncio.sleep(3)
        b = Instance(api, "b", leading)
        await asyncio.sleep(20)
        assert leading == ["a"]
        cut_off.fail += [errors.unavailable("cut off")] * 100
        began = clock.elapsed()
        while leading:
            await asyncio.sleep(0.1)
        assert clock.elapsed() - began <= 10.5
        while not leading:
            await asyncio.sleep(0.1)
        assert leading == ["b"] and clock.elapsed() - began >= 12
        assert a.task.done()
        await b.stop()

    clock.run_virtual(main())


def test_run_ends_with_the_work() -> None:
    async def main() -> None:
        done = []

        async def work() -> None:
            done.append(1)

        await LeaderElector(ApiClient(FakeApi()), "x", "a", work).run()
        assert done == [1]

    clock.run_virtual(main())
