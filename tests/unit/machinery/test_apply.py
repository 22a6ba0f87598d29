"""Server-side apply: merging, ownership, conflicts."""

from __future__ import annotations

from typing import Any

import pytest

from podling.api import apps_v1, core_v1
from podling.machinery import apply as ssa
from podling.machinery.apply import ApplyConflict, Manager, Managers, SchemaMismatch
from podling.machinery.field_set import FieldSet
from podling.machinery.merge_schema import Node, of_openapi, of_type

NONE = FieldSet()
POD = of_type(core_v1.Pod)
KUBECTL, CONTROLLER = Manager("kubectl", "Apply"), Manager("controller", "Apply")


class Live:
    """An object under server-side apply."""

    def __init__(self, node: Node = POD) -> None:
        self.node, self.object, self.managers = node, {}, {}  # type: ignore[var-annotated]

    def apply(self, manager: Manager, intent: dict[str, Any], *, force: bool = False) -> dict[str, Any]:
        result = ssa.apply(self.object, intent, self.node, self.managers, manager, force=force, ignored=NONE)
        self.object, self.managers = result
        return self.object

    def update(self, manager: Manager, new: dict[str, Any]) -> Managers:
        self.managers = ssa.update(self.object, new, self.node, self.managers, manager, ignored=NONE)
        self.object = new
        return self.managers


def containers(*items: dict[str, Any]) -> dict[str, Any]:
    return {"spec": {"containers": list(items)}}


def test_fields_of_an_intent_in_upstreams_form() -> None:
    intent = {
        "metadata": {"labels": {"app": "x"}, "finalizers": ["f/x"]},
        "spec": {
            "containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}], "args": ["a"]}],
            "volumes": [{"name": "v", "emptyDir": {}}],
        },
    }
    assert ssa.fields_of(intent, POD).to_wire() == {
        "f:metadata": {"f:labels": {"f:app": {}}, "f:finalizers": {'v:"f/x"': {}}},
        "f:spec": {
            "f:containers": {
                'k:{"name":"c"}': {
                    ".": {},
                    "f:name": {},
                    "f:image": {},
                    "f:args": {},
                    "f:ports": {'k:{"containerPort":80,"protocol":"TCP"}': {".": {}, "f:containerPort": {}}},
                }
            },
            "f:volumes": {'k:{"name":"v"}': {".": {}, "f:name": {}, "f:emptyDir": {}}},
        },
    }


def test_two_managers_share_an_object() -> None:
    live = Live()
    live.apply(KUBECTL, {"metadata": {"labels": {"app": "x"}}, **containers({"name": "a", "image": "1"})})
    live.apply(CONTROLLER, containers({"name": "b", "image": "2"}))
    assert [c["name"] for c in live.object["spec"]["containers"]] == ["a", "b"]
    assert set(live.managers) == {KUBECTL, CONTROLLER}


def test_what_one_no_longer_says_goes_unless_another_says_it() -> None:
    live = Live()
    live.apply(KUBECTL, {"metadata": {"labels": {"mine": "1", "shared": "1"}}})
    live.apply(CONTROLLER, {"metadata": {"labels": {"shared": "1"}}})
    assert live.apply(KUBECTL, {"metadata": {"labels": {}}})["metadata"]["labels"] == {"shared": "1"}
    assert KUBECTL in live.managers
    assert live.apply(CONTROLLER, {"metadata": {}}) == {"metadata": {}}


def test_a_container_that_is_no_longer_said_goes_with_all_of_it() -> None:
    live = Live()
    live.apply(KUBECTL, containers({"name": "a", "image": "1"}, {"name": "b", "image": "2", "env": [{"name": "X"}]}))
    assert live.apply(KUBECTL, containers({"name": "a", "image": "1"}))["spec"]["containers"] == [
        {"name": "a", "image": "1"}
    ]


def test_another_value_of_anothers_field_is_a_conflict() -> None:
    live = Live()
    live.apply(KUBECTL, containers({"name": "a", "image": "1"}))
    before = dict(live.managers)
    with pytest.raises(ApplyConflict) as caught:
        live.apply(CONTROLLER, containers({"name": "a", "image": "2"}))
    assert [(c.manager, str(c)) for c in caught.value.conflicts] == [(KUBECTL, '.spec.containers[name="a"].image')]
    assert live.managers == before
    live.apply(CONTROLLER, containers({"name": "a", "image": "2"}), force=True)
    assert live.object["spec"]["containers"] == [{"name": "a", "image": "2"}]
    assert ("f:spec", "f:containers", 'k:{"name":"a"}', "f:image") not in live.managers[KUBECTL]
    assert ("f:spec", "f:containers", 'k:{"name":"a"}') in live.managers[KUBECTL]


def test_the_same_value_is_shared_without_conflict() -> None:
    live = Live()
    live.apply(KUBECTL, {"metadata": {"labels": {"a": "1"}}})
    live.apply(CONTROLLER, {"metadata": {"labels": {"a": "1"}}})
    path = ("f:metadata", "f:labels", "f:a")
    assert path in live.managers[KUBECTL] and path in live.managers[CONTROLLER]


def test_a_plain_write_takes_what_it_changes_and_what_it_removes_is_nobodys() -> None:
    live = Live()
    live.apply(KUBECTL, {"metadata": {"labels": {"a": "1", "b": "1", "c": "1"}}})
    editor = Manager("editor", "Update")
    managers = live.update(editor, {"metadata": {"labels": {"a": "1", "b": "2"}}})
    assert managers[KUBECTL].to_wire() == {"f:metadata": {"f:labels": {"f:a": {}}}}
    assert managers[editor].to_wire() == {"f:metadata": {"f:labels": {"f:b": {}}}}
    with pytest.raises(ApplyConflict):
        live.apply(KUBECTL, {"metadata": {"labels": {"a": "1", "b": "1"}}})


def test_a_new_map_belongs_to_its_writer_as_a_whole() -> None:
    live = Live()
    managers = live.update(Manager("e", "Update"), {"metadata": {"labels": {"a": "1"}}})
    assert managers[Manager("e", "Update")].to_wire() == {"f:metadata": {"f:labels": {".": {}, "f:a": {}}}}


def test_names_and_versions_are_nobodys() -> None:
    live = Live()
    live.apply(KUBECTL, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "n", "uid": "u"}})
    assert live.managers == {}


@pytest.mark.parametrize(
    ("old", "intent", "expected"),
    [
        (["a", "b", "c"], ["c", "a"], ["b", "c", "a"]),
        (["a", "b"], ["x", "b"], ["a", "x", "b"]),
        (["a"], ["a", "z"], ["a", "z"]),
        ([], ["b", "a"], ["b", "a"]),
    ],
)
def test_the_intents_order_wins_among_its_own(old: list[str], intent: list[str], expected: list[str]) -> None:
    live = {"spec": {"containers": [{"name": n} for n in old]}}
    merged = ssa.merge(live, containers(*({"name": n} for n in intent)), POD)
    assert sorted(c["name"] for c in merged["spec"]["containers"]) == sorted(expected)
    names = [c["name"] for c in merged["spec"]["containers"]]
    assert [n for n in names if n in intent] == intent


def test_atomic_lists_are_replaced() -> None:
    live = Live(of_type(apps_v1.Deployment))
    spec = {"template": {"spec": {"containers": [{"name": "c", "args": ["a", "b"]}]}}}
    live.apply(KUBECTL, {"spec": spec})
    spec["template"]["spec"]["containers"][0]["args"] = ["c"]  # type: ignore[index]
    assert live.apply(KUBECTL, {"spec": spec})["spec"]["template"]["spec"]["containers"][0]["args"] == ["c"]


@pytest.mark.parametrize("items", [[{"image": "x"}], [{"name": "a"}, {"name": "a"}]])
def test_items_without_a_key_or_with_the_same_are_refused(items: list[dict[str, Any]]) -> None:
    with pytest.raises(SchemaMismatch):
        Live().apply(KUBECTL, containers(*items))


def test_custom_resources_merge_by_their_schema() -> None:
    schema = {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "properties": {
                    "items": {
                        "type": "array",
                        "x-kubernetes-list-type": "map",
                        "x-kubernetes-list-map-keys": ["id"],
                        "items": {"type": "object", "properties": {"id": {"type": "integer"}}},
                    },
                    "list": {"type": "array", "items": {"type": "string"}},
                },
            }
        },
    }
    live = Live(of_openapi(schema))
    live.apply(KUBECTL, {"spec": {"items": [{"id": 1}], "list": ["a"]}})
    live.apply(CONTROLLER, {"spec": {"items": [{"id": 2}]}})
    assert live.object == {"spec": {"items": [{"id": 1}, {"id": 2}], "list": ["a"]}}


def test_without_a_schema_maps_merge_and_lists_are_replaced() -> None:
    live = Live(of_openapi({}))
    live.apply(KUBECTL, {"spec": {"a": 1, "l": [1]}})
    assert live.apply(CONTROLLER, {"spec": {"b": {"c": 2}}}) == {"spec": {"a": 1, "l": [1], "b": {"c": 2}}}
