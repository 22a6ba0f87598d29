"""Events, in both of their groups."""

from __future__ import annotations

import copy
from typing import Any

from tests.conformance.whole import Api, in_namespace, virtual

CORE = in_namespace("v1", "events")
EVENTS = in_namespace("events.k8s.io/v1", "events")


def core(name: str, **labels: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "labels": labels},
        "message": f"This is {name}",
        "reason": "Test",
        "type": "Normal",
        "count": 1,
        "involvedObject": {"namespace": "default"},
        # As Go writes times that are not set.
        "firstTimestamp": None,
        "lastTimestamp": None,
        "eventTime": None,
        "source": {},
        "reportingComponent": "",
        "reportingInstance": "",
    }


def event(name: str, **labels: str) -> dict[str, Any]:
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": name, "labels": labels},
        "regarding": {"namespace": "default"},
        "eventTime": "2017-09-19T13:49:16.000000Z",
        "note": f"This is {name}",
        "action": "Do",
        "reason": "Test",
        "type": "Normal",
        "reportingController": "test-controller",
        "reportingInstance": "test-node",
    }


def bare(obj: Any) -> Any:
    found = copy.deepcopy(obj)
    for field in ("resourceVersion", "managedFields"):
        found["metadata"].pop(field, None)
    return found


@virtual
async def test_lifecycle_of_a_core_event(api: Api) -> None:
    await api.post(CORE, core("event-test", constant="true"))
    found = (await api.get("/api/v1/events", labelSelector="constant=true"))["items"]
    assert [e["metadata"]["name"] for e in found] == ["event-test"]
    await api.patch(f"{CORE}/event-test", {"message": "This is a test event - patched"})
    fetched = await api.get(f"{CORE}/event-test")
    assert fetched["message"] == "This is a test event - patched"
    before = bare(fetched)
    before["series"] = {"count": 100, "lastObservedTime": "2017-09-19T13:49:16.000000Z"}
    await api.put(f"{CORE}/event-test", before)
    assert bare(await api.get(f"{CORE}/event-test")) == before
    await api.delete(f"{CORE}/event-test")
    assert (await api.get("/api/v1/events", labelSelector="constant=true"))["items"] == []


@virtual
async def test_a_collection_of_core_events_is_deleted(api: Api) -> None:
    for n in (1, 2, 3):
        await api.post(CORE, core(f"test-event-{n}", set="true"))
    assert len((await api.get(CORE, labelSelector="set=true"))["items"]) == 3
    await api.delete(CORE, labelSelector="set=true")
    assert (await api.get(CORE, labelSelector="set=true"))["items"] == []


@virtual
async def test_lifecycle_of_an_event(api: Api) -> None:
    await api.post(EVENTS, event("event-test", constant="true"))
    for path in ("/apis/events.k8s.io/v1/events", EVENTS):
        found = (await api.get(path, labelSelector="constant=true"))["items"]
        assert [e["metadata"]["name"] for e in found] == ["event-test"]
    by_source = (await api.get(CORE, fieldSelector="source=test-controller"))["items"]
    assert [e["metadata"]["name"] for e in by_source] == ["event-test"]
    by_controller = (await api.get(EVENTS, fieldSelector="reportingController=test-controller"))["items"]
    assert [e["metadata"]["name"] for e in by_controller] == ["event-test"]
    before = bare(await api.get(f"{EVENTS}/event-test"))
    before["series"] = {"count": 2, "lastObservedTime": "2017-09-19T13:49:11.000000Z"}
    await api.patch(f"{EVENTS}/event-test", {"series": before["series"]})
    assert bare(await api.get(f"{EVENTS}/event-test")) == before
    before["series"] = {"count": 100, "lastObservedTime": "2017-09-19T13:49:16.000000Z"}
    await api.put(f"{EVENTS}/event-test", before)
    assert bare(await api.get(f"{EVENTS}/event-test")) == before
    await api.delete(f"{EVENTS}/event-test")
    for path in ("/apis/events.k8s.io/v1/events", EVENTS):
        assert (await api.get(path, labelSelector="constant=true"))["items"] == []


@virtual
async def test_a_collection_of_events_is_deleted(api: Api) -> None:
    for n in (1, 2, 3):
        await api.post(EVENTS, event(f"test-event-{n}", set="true"))
    assert len((await api.get(EVENTS, labelSelector="set=true"))["items"]) == 3
    await api.delete(EVENTS, labelSelector="set=true")
    assert (await api.get(EVENTS, labelSelector="set=true"))["items"] == []
