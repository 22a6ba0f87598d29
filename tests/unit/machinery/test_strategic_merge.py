"""Strategic merge patches: merge keys from the types, all directives, order."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podling.api import apps_v1, core_v1
from podling.machinery import strategic_merge


def pod(*containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {"spec": {"containers": list(containers), **spec}}


A, B, C = ({"name": n, "image": n} for n in "abc")


@pytest.mark.parametrize(
    ("original", "patch", "expected"),
    [
        pytest.param(pod(A, B), pod({"name": "b", "image": "x"}), pod(A, {"name": "b", "image": "x"}), id="by name"),
        pytest.param(pod(A), pod(B), pod(B, A), id="new items come first"),
        pytest.param(pod(A, B), pod({"$patch": "delete", "name": "a"}), pod(B), id="delete item"),
        pytest.param(pod(A, B), pod({"$patch": "replace"}, C), pod(C), id="replace list"),
        pytest.param(
            pod(A, nodeName="n"), {"spec": {"$patch": "replace", "x": 1}}, {"spec": {"x": 1}}, id="replace map"
        ),
        pytest.param(pod(A), {"spec": {"$patch": "delete"}}, {"spec": {}}, id="delete map"),
        pytest.param(pod(A, nodeName="n"), {"spec": {"nodeName": None}}, pod(A), id="null removes"),
        pytest.param(
            {"metadata": {"labels": {"a": "1", "b": "2"}}},
            {"metadata": {"labels": {"a": None, "c": "3", "d": None}}},
            {"metadata": {"labels": {"b": "2", "c": "3"}}},
            id="labels merge",
        ),
        pytest.param(
            {"metadata": {"finalizers": ["a", "b"]}},
            {"metadata": {"finalizers": ["c", "a"]}},
            {"metadata": {"finalizers": ["c", "a", "b"]}},
            id="primitive lists unite",
        ),
        pytest.param(
            {"metadata": {"finalizers": ["a", "b", "c"]}},
            {"metadata": {"$deleteFromPrimitiveList/finalizers": ["b"]}},
            {"metadata": {"finalizers": ["a", "c"]}},
            id="delete from primitive list",
        ),
        pytest.param(
            {"metadata": {"finalizers": ["a", "b"]}},
            {"metadata": {"$setElementOrder/finalizers": ["c", "b", "a"], "finalizers": ["c"]}},
            {"metadata": {"finalizers": ["c", "b", "a"]}},
            id="order of primitives",
        ),
        pytest.param(
            pod(A, B, C),
            {"spec": {"$setElementOrder/containers": [{"name": "c"}, {"name": "a"}]}},
            pod(B, C, A),
            id="order of items, the server's own keep their place",
        ),
        pytest.param(
            pod(A, B),
            {"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "c"}], "containers": [C]}},
            pod(A, B, C),
            id="order with a new item",
        ),
        pytest.param(
            pod(A, tolerations=[{"key": "a"}]),
            {"spec": {"tolerations": [{"key": "b"}]}},
            pod(A, tolerations=[{"key": "b"}]),
            id="atomic lists are replaced",
        ),
        pytest.param(
            pod({**A, "command": ["a", "b"]}),
            pod({"name": "a", "command": ["c"]}),
            pod({**A, "command": ["c"]}),
            id="args",
        ),
        pytest.param(
            pod({**A, "ports": [{"containerPort": 80, "name": "x"}]}),
            pod({"name": "a", "ports": [{"containerPort": 80, "name": "y"}, {"containerPort": 81}]}),
            pod({**A, "ports": [{"containerPort": 80, "name": "y"}, {"containerPort": 81}]}),
            id="by another key",
        ),
        pytest.param(
            pod(A, volumes=[{"name": "v", "emptyDir": {}}]),
            {"spec": {"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/x"}}]}},
            pod(A, volumes=[{"name": "v", "hostPath": {"path": "/x"}}]),
            id="retain keys",
        ),
        pytest.param(
            pod(A), {"spec": {"x": {"a": None, "b": 1}}}, pod(A, x={"b": 1}), id="nulls in new parts are dropped"
        ),
        pytest.param(
            {}, {"spec": {"a": [{"$patch": "delete", "name": "x"}]}}, {"spec": {"a": []}}, id="no directives in data"
        ),
        pytest.param({"metadata": {"a": "x"}}, {"metadata": {"a": [1]}}, {"metadata": {"a": [1]}}, id="another kind"),
    ],
)
def test_patch(original: Any, patch: Any, expected: Any) -> None:
    before = copy.deepcopy((original, patch))
    assert strategic_merge.apply(original, patch, core_v1.Pod) == expected
    assert (original, patch) == before


def test_deployment_strategy_retains_keys() -> None:
    original = {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}
    patch = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}
    patched = strategic_merge.apply(original, patch, apps_v1.Deployment)
    assert patched == {"spec": {"strategy": {"type": "Recreate"}}}


@pytest.mark.parametrize(
    ("original", "patch", "error", "message"),
    [
        (
            pod(A),
            pod({"image": "x"}),
            strategic_merge.PatchError,
            "map: map[image:x] does not contain declared merge key: name",
        ),
        (pod(A), {"spec": {"$patch": "x"}}, strategic_merge.PatchError, "unknown patch type: x in map: map[$patch:x]"),
        (
            pod(A),
            pod({"$patch": "merge", "name": "a"}),
            strategic_merge.PatchError,
            "merging lists cannot yet be specified in the patch",
        ),
        (
            {"spec": {"strategy": {}}},
            {"spec": {"strategy": {"$retainKeys": "x"}}},
            strategic_merge.MalformedPatch,
            "invalid patch format of retainKeys",
        ),
        (
            {"metadata": {"finalizers": ["a"]}},
            {"metadata": {"$deleteFromPrimitiveListX": ["a"]}},
            strategic_merge.MalformedPatch,
            "invalid patch format of primitive list",
        ),
        (
            {"metadata": {"finalizers": ["a"]}},
            {"metadata": {"finalizers": [["a"]]}},
            strategic_merge.UnprocessablePatch,
            "lists of lists are not supported",
        ),
        (
            pod(A, B),
            {"spec": {"$setElementOrder/containers": [{"name": "b"}], "containers": [A]}},
            strategic_merge.PatchError,
            "The order in patch list:\n[map[image:a name:a]]\n doesn't match $setElementOrder list:\n[map[name:b]]\n",
        ),
    ],
)
def test_what_does_not_apply(original: Any, patch: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as found:
        strategic_merge.apply(original, patch, core_v1.Pod)
    assert str(found.value) == message


names = st.lists(st.sampled_from("abcdef"), unique=True, max_size=5)


@given(names, names)
def test_items_are_united_by_key_and_merging_twice_changes_nothing_more(before: list[str], changes: list[str]) -> None:
    original = pod(*({"name": n, "image": "old", "tty": True} for n in before))
    patch = pod(*({"name": n, "image": "new"} for n in changes))
    once = strategic_merge.apply(original, patch, core_v1.Pod)
    found = {c["name"]: c for c in once["spec"]["containers"]}
    assert set(found) == {*before, *changes} and len(found) == len(once["spec"]["containers"])
    assert all(found[n]["image"] == ("new" if n in changes else "old") for n in found)
    assert [n for n in found if n in changes] == changes
    assert strategic_merge.apply(once, patch, core_v1.Pod) == once
