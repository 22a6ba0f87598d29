"""Built-in kinds: whatever is sent is taken or refused, wholly, and what is taken is stable."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podling.api.registry import Resource
from tests.fuzz.mutation import ANYTHING, NAMESPACE, STORED, minimal, mutated, structs
from tests.fuzz.server import APPLY, JSON, JSON_PATCH, MERGE, STRATEGIC, Fuzzed, examples, on_server

IDS = [f"{r.group_version}/{r.name}" for r in STORED]
#: What the server writes, or does not want to be told.
_SYSTEM = ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields", "selfLink",
           "deletionTimestamp", "deletionGracePeriodSeconds")  # fmt: skip

#: A Job's selector has its uid in it.
_NEVER_THE_SAME = ("Job",)


def collection(resource: Resource) -> str:
    return resource.collection_path(NAMESPACE)


async def make(fuzzed: Fuzzed, resource: Resource, obj: dict[str, Any]) -> str:
    """The path of the object, "" if it was refused."""
    status, made = await fuzzed.ask("POST", collection(resource), obj)
    return f"{collection(resource)}/{made.metadata.name}" if status == 201 else ""


def again(shown: dict[str, Any], name: str = "") -> dict[str, Any]:
    """What one would send to make the same object, under another name."""
    found = copy.deepcopy(shown)
    found.pop("status", None)
    for key in _SYSTEM:
        found["metadata"].pop(key, None)
    if name:
        found["metadata"]["name"] = name
    return found


@pytest.mark.parametrize("resource", STORED, ids=IDS)
def test_create(resource: Resource) -> None:
    @examples(8)
    @given(mutated(resource))
    def run(obj: dict[str, Any]) -> None:
        async def test(fuzzed: Fuzzed) -> None:
            path = await make(fuzzed, resource, obj)
            if not path:
                return
            # What follows of it by itself has followed.
            await asyncio.sleep(1)
            shown = await fuzzed.shown(path)
            before = fuzzed.revision
            status, _ = await fuzzed.ask("PUT", path, shown)
            assert status == 200 and fuzzed.revision == before, "writing back what was read changed it"
            # What was filled in stays as it is when it is said.
            await fuzzed.ask("DELETE", path, {"gracePeriodSeconds": 0, "propagationPolicy": "Background"})
            status, said = await fuzzed.ask("GET", path)
            if status == 404 and resource.kind not in _NEVER_THE_SAME:
                status, said = await fuzzed.ask("POST", collection(resource), again(shown))
                assert status == 201, said
                assert again(await fuzzed.shown(path)) == again(shown)

        on_server(test)

    run()


@pytest.mark.parametrize("resource", STORED, ids=IDS)
def test_apply(resource: Resource) -> None:
    @examples(5)
    @given(mutated(resource))
    def run(obj: dict[str, Any]) -> None:
        async def test(fuzzed: Fuzzed) -> None:
            meta = obj.get("metadata")
            name = meta.get("name") if isinstance(meta, dict) else None
            path = f"{collection(resource)}/{name if isinstance(name, str) and name else 'x'}"
            for _ in range(2):
                status, _said = await fuzzed.ask("PATCH", path, obj, APPLY, fieldManager="fuzz")
                if status not in (200, 201):
                    return
                before = fuzzed.revision
            status, _ = await fuzzed.ask("PATCH", path, obj, APPLY, fieldManager="fuzz")
            assert status == 200 and fuzzed.revision == before, "applying again changed something"

        on_server(test)

    run()


@st.composite
def patches(draw: st.DrawFn, resource: Resource) -> tuple[str, Any]:
    """A patch of any type, for the object that it is about or quite beside it."""
    kind = draw(st.sampled_from([JSON_PATCH, MERGE, STRATEGIC, APPLY, JSON]))
    if draw(st.integers(0, 5)) == 0:
        return kind, draw(ANYTHING)
    if kind == JSON_PATCH:
        parts = st.sampled_from(
            ["metadata", "spec", "status", "labels", "finalizers", "name", "0", "-", "-1", "", "~1"]
        )
        paths = st.lists(parts, max_size=4).map(lambda found: "".join(f"/{p}" for p in found))
        names = st.sampled_from(["add", "remove", "replace", "move", "copy", "test", "nothing"])
        operation = st.fixed_dictionaries({"op": names, "path": paths, "from": paths, "value": ANYTHING})
        return kind, draw(st.lists(operation, max_size=3))
    body = draw(structs(resource.type))
    if kind == STRATEGIC and draw(st.booleans()):
        directive = draw(st.sampled_from(["$patch", "$retainKeys", "$setElementOrder/x", "$deleteFromPrimitiveList/x"]))
        place = draw(st.sampled_from([body, *(v for v in body.values() if isinstance(v, dict))]))
        place[directive] = draw(st.sampled_from(["delete", "replace", "merge", ["a"], [{"name": "a"}]]) | ANYTHING)
    return kind, body


@pytest.mark.parametrize("resource", STORED, ids=IDS)
def test_patch(resource: Resource) -> None:
    @examples(6)
    @given(st.lists(patches(resource), min_size=1, max_size=4))
    def run(found: list[tuple[str, Any]]) -> None:
        async def test(fuzzed: Fuzzed) -> None:
            path = await make(fuzzed, resource, minimal(resource))
            assert path, "the minimal object is refused"
            for kind, body in found:
                query = {"fieldManager": "fuzz"} if kind == APPLY else {}
                await fuzzed.ask("PATCH", path, body, kind, **query)
                for subresource in resource.subresources:
                    if subresource in ("status", "scale", "resize", "ephemeralcontainers"):
                        await fuzzed.ask("PATCH", f"{path}/{subresource}", body, kind, **query)
                await fuzzed.ask("GET", path)
                await fuzzed.ask("GET", collection(resource))

        on_server(test)

    run()
