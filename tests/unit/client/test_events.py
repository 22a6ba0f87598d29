"""Events: repetition is folded, nobody waits."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from client.fake_api import FakeApi
from podling import clock
from podling.api import core_v1, errors
from podling.api.meta_v1 import ObjectMeta
from podling.client.client import ApiClient
from podling.client.events import NORMAL, WARNING, Recorder

POD = core_v1.Pod(metadata=ObjectMeta(name="web", namespace="shop", uid="u1", resource_version="5"))


def written(api: FakeApi) -> list[core_v1.Event]:
    return [o for (r, _, _), o in api.objects.items() if r == "events"]


def test_an_event_says_who_what_about_whom_and_when() -> None:
    async def main() -> None:
        api = FakeApi()
        recorder = Recorder(ApiClient(api), "replicaset-controller", "node-1")
        recorder.event(POD, NORMAL, "SuccessfulCreate", "Created pod: web", field_path="spec.containers{c}")
        await recorder.close()
        (event,) = written(api)
        assert event.metadata.name is not None and event.metadata.name.startswith("web.")
        int(event.metadata.name.removeprefix("web."), 16)
        assert event.metadata.namespace == "shop"
        about = event.involved_object
        assert (about.kind, about.api_version, about.name, about.uid) == ("Pod", "v1", "web", "u1")
        assert (about.resource_version, about.field_path) == ("5", "spec.containers{c}")
        assert (event.type, event.reason, event.message) == (NORMAL, "SuccessfulCreate", "Created pod: web")
        assert event.source == core_v1.EventSource(component="replicaset-controller", host="node-1")
        assert event.reporting_component == "replicaset-controller"
        assert event.first_timestamp == event.last_timestamp == "2026-01-01T00:00:00Z"
        assert event.count == 1

    clock.run_virtual(main())


def test_events_of_cluster_wide_objects_are_in_the_default_namespace() -> None:
    async def main() -> None:
        api = FakeApi()
        recorder = Recorder(ApiClient(api), "node-controller")
        recorder.event(core_v1.Node(metadata=ObjectMeta(name="n1")), NORMAL, "NodeReady", "x")
        await recorder.close()
        assert written(api)[0].metadata.namespace == "default"

    clock.run_virtual(main())


def test_the_same_event_again_counts_up() -> None:
    async def main() -> None:
        api = FakeApi()
        recorder = Recorder(ApiClient(api), "c")
        for _ in range(5):
            recorder.event(POD, WARNING, "BackOff", "Back-off restarting")
            await asyncio.sleep(10)
        await recorder.close()
        (event,) = written(api)
        assert event.count == 5
        assert (event.first_timestamp, event.last_timestamp) == ("2026-01-01T00:00:00Z", "2026-01-01T00:00:40Z")

    clock.run_virtual(main())


def test_ten_texts_of_one_reason_are_combined() -> None:
    async def main() -> None:
        api = FakeApi()
        recorder = Recorder(ApiClient(api), "c")
        for i in range(13):
            recorder.event(POD, WARNING, "Failed", f"text {i}")
        await recorder.close()
        events = written(api)
        assert len(events) == 10
        (combined,) = [e for e in events if (e.message or "").startswith("(combined from similar events): ")]
        assert combined.count == 4
        assert combined.message == "(combined from similar events): text 12"

    clock.run_virtual(main())


def test_more_than_twenty_five_about_one_object_are_dropped_but_for_one_in_five_minutes() -> None:
    async def main() -> None:
        api = FakeApi()
        recorder = Recorder(ApiClient(api), "c")
        for i in range(40):
            recorder.event(POD, NORMAL, f"Reason{i}", "x")
        await recorder.flush()
        assert len(written(api)) == 25
        await asyncio.sleep(301)
        for i in range(3):
            recorder.event(POD, NORMAL, f"Later{i}", "x")
        await recorder.close()
        assert len(written(api)) == 26

    clock.run_virtual(main())


def test_a_repetition_of_an_event_that_expired_is_written_anew() -> None:
    async def main() -> None:
        api = FakeApi()
        recorder = Recorder(ApiClient(api), "c")
        recorder.event(POD, NORMAL, "R", "x")
        await recorder.flush()
        for key in list(api.objects):
            del api.objects[key]
        recorder.event(POD, NORMAL, "R", "x")
        await recorder.close()
        assert [e.count for e in written(api)] == [2]

    clock.run_virtual(main())


@pytest.mark.parametrize(
    ("error", "count"), [(errors.unavailable("down"), 1), (errors.forbidden("events", "", "x", "no"), 0)]
)
def test_what_the_server_could_not_take_is_tried_again_what_it_refused_is_not(error: Any, count: int) -> None:
    async def main() -> None:
        api = FakeApi()
        api.fail = [error] * 3
        recorder = Recorder(ApiClient(api), "c")
        recorder.event(POD, NORMAL, "R", "x")
        await recorder.flush()
        assert len(written(api)) == count
        assert clock.elapsed() == (pytest.approx(25, abs=5) if count else 0)
        await recorder.close()

    clock.run_virtual(main())


def test_close_does_not_wait_for_a_server_that_is_down() -> None:
    async def main() -> None:
        api = FakeApi()
        api.fail = [errors.unavailable("down")] * 50
        recorder = Recorder(ApiClient(api), "c")
        recorder.event(POD, NORMAL, "R", "x")
        await recorder.close()
        assert clock.elapsed() == pytest.approx(1)
        recorder.event(POD, NORMAL, "R", "after close")
        assert written(api) == []

    clock.run_virtual(main())


def test_series_style_continues_a_series_for_six_minutes() -> None:
    async def main() -> None:
        api = FakeApi()
        recorder = Recorder(ApiClient(api), "default-scheduler", "h", series=True)
        for wait in (60, 60, 400, 0):
            recorder.event(POD, WARNING, "FailedScheduling", "0/1 nodes", action="Scheduling")
            await asyncio.sleep(wait)
        await recorder.close()
        first, second = written(api)
        assert first.series == core_v1.EventSeries(count=3, last_observed_time="2026-01-01T00:02:00.000000Z")
        assert first.event_time == "2026-01-01T00:00:00.000000Z" and first.count is None
        assert first.action == "Scheduling" and first.reporting_instance == "h"
        assert second.series is None

    clock.run_virtual(main())
