"""The shells around the API objects: made and kept by the producer, followed by the consumer, shown by the dumps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from apiserver.flowcontrol.test_levels import limited, schema
from apiserver.harness import Server, running
from podling import clock
from podling.api import flowcontrol_v1 as v1
from podling.api.errors import StatusError
from podling.api.request import User
from podling.api.struct import clone
from podling.apiserver.flowcontrol.gate import Gate
from podling.apiserver.flowcontrol.setup import FlowControl, check
from podling.apiserver.options import OptionError, Options
from podling.apiserver.request_info import resolve
from podling.metrics import Registry, text

ANN = User("ann", ("system:authenticated",))
GET = resolve("GET", "/api/v1/namespaces/default/pods/p", {})


class Flow:
    """A server with priority and fairness."""

    def __init__(self, server: Server, **options: Any) -> None:
        self.server = server
        self.client = server.client
        self.registry = Registry()
        self.passed: set[str] = set()
        self.control = FlowControl(
            server.app,
            Options(**options),
            self.registry,
            hook=lambda name: lambda: self.passed.add(name),
            now=asyncio.get_running_loop().time,
        )

    @property
    def gate(self) -> Gate:
        assert isinstance(self.control.limiter, Gate)
        return self.control.limiter

    async def dump(self, table: str, **query: str) -> list[list[str]]:
        path = f"/debug/api_priority_and_fairness/dump_{table}"
        answer = await self.server.ask("GET", path, query=query)
        assert answer.body is not None
        return [[cell.strip() for cell in line.split(",")] for line in answer.body.decode().splitlines()]


@asynccontextmanager
async def flowing(**options: Any) -> AsyncIterator[Flow]:
    async with running() as server:
        flow = Flow(server, **options)
        flow.control.start()
        await settle()
        yield flow
        await flow.control.close()


async def settle() -> None:
    await asyncio.sleep(0.5)


def dangling(obj: v1.FlowSchema) -> tuple[Any, ...]:
    [condition] = obj.status.conditions or []
    assert condition.type == "Dangling" and condition.last_transition_time
    return condition.status, condition.reason, condition.message


def test_every_server_has_its_objects_and_keeps_them() -> None:
    async def main() -> None:
        async with flowing() as flow:
            levels = await flow.client.list(v1.PriorityLevelConfiguration)
            schemas = await flow.client.list(v1.FlowSchema)
            assert len(levels.items) == 8 and len(schemas.items) == 11
            assert all(dangling(s)[0] == "False" for s in schemas.items)
            assert set(flow.gate.levels.levels) == {o.metadata.name for o in levels.items}
            assert flow.passed == {
                f"poststarthook/priority-and-fairness-{n}" for n in ("filter", "config-consumer", "config-producer")
            }
            managers = {m.manager for m in schemas.items[0].metadata.managed_fields or []}
            assert managers == {f"api-priority-and-fairness-config-{n}-v1" for n in ("producer", "consumer")}
            # What is deleted comes back, what is changed changes back, unless it is the administrator's.
            before = flow.server.store.revision
            await flow.client.delete(v1.FlowSchema, "probes")
            changed = clone(await flow.client.get(v1.PriorityLevelConfiguration, "system"))
            changed.spec.limited.nominal_concurrency_shares = 99
            await flow.client.update(changed)
            mine = clone(await flow.client.get(v1.PriorityLevelConfiguration, "node-high"))
            mine.spec.limited.nominal_concurrency_shares = 99
            mine.metadata.annotations = {"apf.kubernetes.io/autoupdate-spec": "false"}
            await flow.client.update(mine)
            await settle()
            assert dangling(await flow.client.get(v1.FlowSchema, "probes"))[0] == "False"
            shares = [
                (await flow.client.get(v1.PriorityLevelConfiguration, n)).spec.limited.nominal_concurrency_shares
                for n in ("system", "node-high")
            ]
            assert shares == [30, 99] and flow.gate.levels.levels["node-high"].shares == 99
            # And then there is peace.
            assert flow.server.store.revision - before < 10
            quiet = flow.server.store.revision
            await asyncio.sleep(3600)
            assert flow.server.store.revision == quiet

    clock.run_virtual(main())


def test_a_second_start_changes_nothing() -> None:
    async def main() -> None:
        async with flowing() as flow:
            before = flow.server.store.revision
            again = Flow(flow.server)
            again.control.start()
            await settle()
            assert flow.server.store.revision == before
            await again.control.close()

    clock.run_virtual(main())


def test_what_an_older_version_had_made_is_gone() -> None:
    async def main() -> None:
        async with running() as server:
            old = schema("endpoint-controller", "workload-high", "system:endpoints")
            old.metadata.uid = None
            old.metadata.annotations = {"apf.kubernetes.io/autoupdate-spec": "true"}
            await server.client.create(old)
            flow = Flow(server)
            flow.control.start()
            await settle()
            assert "endpoint-controller" not in [
                s.metadata.name for s in (await server.client.list(v1.FlowSchema)).items
            ]
            await flow.control.close()

    clock.run_virtual(main())


def test_schemas_and_levels_come_and_go() -> None:
    async def main() -> None:
        async with flowing() as flow:
            mine, anns = limited("mine", 5), schema("anns", "mine", "ann")
            mine.metadata.uid = anns.metadata.uid = None
            await flow.client.create(anns)
            await settle()
            said = 'This FlowSchema references the PriorityLevelConfiguration object named "mine"'
            found = dangling(await flow.client.get(v1.FlowSchema, "anns"))
            assert found == ("True", "NotFound", f"{said} but there is no such object")
            assert flow.gate.levels.flow(ANN, GET).schema == "global-default"
            await flow.client.create(mine)
            await settle()
            stored = await flow.client.get(v1.FlowSchema, "anns")
            assert dangling(stored) == ("False", "Found", f"{said} and it exists")
            using = flow.gate.levels.flow(ANN, GET)
            assert using.schema == "anns" and f"FlowSchema-UID: {stored.metadata.uid}\r\n" in using.headers
            await flow.client.delete(v1.PriorityLevelConfiguration, "mine")
            await settle()
            assert dangling(await flow.client.get(v1.FlowSchema, "anns"))[0] == "True"
            assert "mine" not in flow.gate.levels.levels

    clock.run_virtual(main())


def test_a_condition_is_not_fought_over_for_ever() -> None:
    async def main() -> None:
        async with flowing() as flow:
            for _ in range(20):
                other = clone(await flow.client.get(v1.FlowSchema, "probes"))
                other.status.conditions[0].status = "True"
                await flow.client.update_status(other)
                await asyncio.sleep(0.1)
            found = await flow.client.get(v1.FlowSchema, "probes")
            assert dangling(found)[0] == "True"
            # When the minute is over it is looked at again.
            await asyncio.sleep(150)
            assert dangling(await flow.client.get(v1.FlowSchema, "probes"))[0] == "False"

    clock.run_virtual(main())


def test_dumps() -> None:
    async def main() -> None:
        async with flowing() as flow:
            put = resolve("PUT", "/apis/apps/v1/namespaces/web/deployments/d/scale", {})
            admin = User("admin", ("system:masters",))
            flow.gate.enter(ANN, put, {})
            flow.gate.enter(admin, GET, {})
            levels = await flow.dump("priority_levels")
            assert levels[0][:5] == ["PriorityLevelName", "ActiveQueues", "IsIdle", "IsQuiescing", "WaitingRequests"]
            assert ["global-default", "0", "false", "false", "0", "1", "1", "0", "0", "0"] in levels
            assert [row[0] for row in levels[1:]] == sorted(row[0] for row in levels[1:])
            queues = await flow.dump("queues")
            assert len(queues) == 1 + 64 + 64 + 16 + 3 * 128
            [busy] = [row for row in queues[1:] if row[3] != "0"]
            assert busy == [
                "global-default", busy[1], "0", "1", "1", "0.00300000ss", "0", "0", "0.00000000ss"
            ]  # fmt: skip
            requests = await flow.dump("requests", includeRequestDetails="1")
            assert requests[0][-8:] == [
                "UserName", "Verb", "APIPath", "Namespace", "Name", "APIVersion", "Resource", "SubResource"
            ]  # fmt: skip
            [mine, exempt] = sorted(requests[1:], key=lambda row: row[0], reverse=True)
            assert mine[:2] + mine[3:5] == ["global-default", "global-default", "-1", "ann"]
            assert mine[5].startswith("2026-01-01T00:00:") and mine[6:9] == ["1", "0", "0s"]
            assert mine[10:] == ["ann", "update", put.path, "web", "d", "apps/v1", "deployments", "scale"]
            assert exempt[:5] == ["exempt", "exempt", "-1", "-1", ""]
            assert [len(row) for row in await flow.dump("requests")] == [10, 10, 10]

    clock.run_virtual(main())


def test_gauges() -> None:
    async def main() -> None:
        async with flowing() as flow:
            flow.gate.enter(ANN, GET, {})
            lines = text(flow.registry).splitlines()
            level = 'priority_level="global-default"'
            assert f"apiserver_flowcontrol_nominal_limit_seats{{{level}}} 49" in lines
            assert f"apiserver_flowcontrol_lower_limit_seats{{{level}}} 24" in lines
            flows = f'{{flow_schema="global-default",{level}}}'
            assert f"apiserver_flowcontrol_current_executing_requests{flows} 1" in lines
            assert f"apiserver_flowcontrol_current_executing_seats{flows} 1" in lines
            assert 'apiserver_current_inflight_requests{request_kind="readOnly"} 1' in lines
            assert 'apiserver_current_inqueue_requests{request_kind="readOnly"} 0' in lines

    clock.run_virtual(main())


def test_without_priorities_there_are_plain_limits() -> None:
    async def main() -> None:
        async with flowing(enable_priority_and_fairness=False, max_requests_inflight=1) as flow:
            assert flow.passed == {
                "poststarthook/max-in-flight-filter", "poststarthook/priority-and-fairness-config-producer"
            }  # fmt: skip
            # The objects are there all the same.
            assert (await flow.client.get(v1.FlowSchema, "probes")).status.conditions is None
            with pytest.raises(StatusError):
                await flow.dump("queues")

    clock.run_virtual(main())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_requests_inflight": 0, "max_mutating_requests_inflight": 0}, "both 0, .*: raise one of them"),
        ({"request_timeout": 0.0}, "request-timeout must be longer than 0s"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        check(Options(**options))
    check(Options(max_requests_inflight=0, max_mutating_requests_inflight=0, enable_priority_and_fairness=False))
