from __future__ import annotations

from typing import Any

from podling.apiserver.openapi import merge

KIND = "x-kubernetes-group-version-kind"


def ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/definitions/{name}"}


def document(paths: dict[str, Any], definitions: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"paths": paths, "definitions": definitions, **more}


def get(name: str) -> dict[str, Any]:
    return {"get": {"responses": {"200": {"description": "OK", "schema": ref(name)}}}}


def test_only_what_is_below_the_path_and_what_it_needs() -> None:
    whole = document(
        {"/apis/a/v1/things": get("Thing"), "/apis/a/v1beta1/things": get("Old"), "/version": get("Info")},
        {
            "Thing": {"properties": {"part": ref("Part")}},
            "Part": {"properties": {"whole": ref("Thing"), "gone": ref("Missing")}},
            "Old": {},
            "Info": {},
        },
    )
    found = merge.only_below(whole, "/apis/a/v1/")
    assert found["paths"].keys() == {"/apis/a/v1/things"}
    assert found["definitions"].keys() == {"Thing", "Part"}


def test_shared_parameters_stand_where_they_are_used() -> None:
    pretty = {"name": "pretty", "in": "query", "type": "string"}
    item = {"get": {"parameters": [{"$ref": "#/parameters/pretty-1"}], "responses": {}}}
    whole = document({"/apis/a/v1/x": item}, {}, parameters={"pretty-1": pretty})
    found = merge.only_below(whole, "/apis/a/v1/")
    assert found["paths"]["/apis/a/v1/x"]["get"]["parameters"] == [pretty]


def test_paths_that_are_there_stay() -> None:
    into = document({"/a": get("Mine")}, {"Mine": {}})
    merge.merge(into, document({"/a": get("Other"), "/b": get("Other")}, {"Other": {"type": "object"}}))
    assert into["paths"] == {"/a": get("Mine"), "/b": get("Other")}


def test_equal_definitions_are_one_and_others_get_another_name() -> None:
    same = {"type": "object"}
    into = document({}, {"Same": {**same, KIND: ["one"]}, "Meta": {"description": "ours"}, "Meta_v2": {}})
    before = into["definitions"]["Same"]
    other = document(
        {"/b": get("Thing")},
        {
            "Same": {**same, KIND: ["one", "two"]},
            "Meta": {"description": "theirs"},
            "Thing": {"properties": {"metadata": ref("Meta"), "same": ref("Same")}},
        },
    )
    merge.merge(into, other)
    assert into["definitions"] == {
        "Same": {**same, KIND: ["one", "two"]},
        "Meta": {"description": "ours"},
        "Meta_v2": {},
        "Meta_v3": {"description": "theirs"},
        "Thing": {"properties": {"metadata": ref("Meta_v3"), "same": ref("Same")}},
    }
    assert before == {**same, KIND: ["one"]}


def test_v2_as_v3() -> None:
    operation = {
        "operationId": "create",
        "consumes": ["application/json"],
        "produces": ["application/json", "application/yaml"],
        "schemes": ["https"],
        "parameters": [
            {"name": "body", "in": "body", "required": True, "schema": ref("Thing")},
            {"name": "dryRun", "in": "query", "type": "string", "description": "Nothing is kept."},
        ],
        "responses": {"201": {"description": "Created", "schema": ref("Thing")}, "401": {"description": "No"}},
        KIND: "k",
    }
    path = {"post": operation, "parameters": [{"name": "namespace", "in": "path", "required": True, "type": "string"}]}
    found = merge.to_v3(document({"/a": path}, {"Thing": {"properties": {"part": ref("Part")}}}))
    thing = {"$ref": "#/components/schemas/Thing"}
    dry_run = {"name": "dryRun", "in": "query", "description": "Nothing is kept.", "schema": {"type": "string"}}
    namespace = {"name": "namespace", "in": "path", "required": True, "schema": {"type": "string"}}
    content = {"application/json": {"schema": thing}, "application/yaml": {"schema": thing}}
    assert found["openapi"] == "3.0.0"
    assert found["components"]["schemas"]["Thing"]["properties"]["part"] == {"$ref": "#/components/schemas/Part"}
    assert found["paths"]["/a"] == {
        "parameters": [namespace],
        "post": {
            "operationId": "create",
            KIND: "k",
            "parameters": [dry_run],
            "requestBody": {"content": {"application/json": {"schema": thing}}, "required": True},
            "responses": {"201": {"description": "Created", "content": content}, "401": {"description": "No"}},
        },
    }
