"""Structural schemas: the part of OpenAPI in which it is clear what every field of an object is.

The outer schema says the types; what stands under allOf, anyOf, oneOf and not may only narrow what the outer one says.
"""

from __future__ import annotations

from podling.api.apiextensions_v1 import JSONSchemaProps
from podling.machinery.validation import Findings, Path, forbidden, invalid, required

_NO_TYPE = {
    "root": "must not be empty at the root",
    "item": "must not be empty for specified array items",
    "field": "must not be empty for specified object fields",
}
_META = ("kind", "apiVersion")


def structural(schema: JSONSchemaProps, path: Path) -> Findings:
    """What keeps the schema of a whole object from being structural, sorted by message."""
    found = _invariants(schema, "root", path) + _completeness(schema, schema, path, path)
    return sorted(found, key=str)


def _items(schema: JSONSchemaProps | None) -> JSONSchemaProps | None:
    return schema.items if schema is not None and isinstance(schema.items, JSONSchemaProps) else None


def _additional(schema: JSONSchemaProps | None) -> JSONSchemaProps | None:
    more = schema.additional_properties if schema is not None else None
    return more if isinstance(more, JSONSchemaProps) else None


def _allows_more(schema: JSONSchemaProps) -> bool:
    return schema.additional_properties is not None and schema.additional_properties is not False


def _invariants(schema: JSONSchemaProps, level: str, path: Path) -> Findings:
    found: Findings = []
    items = _items(schema)
    if schema.type == "array" and items is None:
        found.append(required(path.child("items"), "must be specified"))
    if items is not None:
        found += _invariants(items, "item", path.child("items"))
    for name, field in (schema.properties or {}).items():
        found += _invariants(field, "field", path.child("properties").key(name))
    if _allows_more(schema):
        if level == "root":
            found.append(forbidden(path.child("additionalProperties"), "must not be used at the root"))
        more = _additional(schema)
        if more is not None:
            found += _invariants(more, "field", path.child("additionalProperties"))
    found += _extensions(schema, path)
    found += _junctions(schema, _has_int_or_string(schema.any_of), _starts_int_or_string(schema), path)
    found += _type(schema, level, path)
    return found + _object_meta(schema, level, path)


def _extensions(schema: JSONSchemaProps, path: Path) -> Findings:
    found: Findings = []
    if schema.x_kubernetes_int_or_string:
        detail = "must be false if x-kubernetes-int-or-string is true"
        if schema.x_kubernetes_preserve_unknown_fields:
            found.append(invalid(path.child("x-kubernetes-preserve-unknown-fields"), True, detail))
        if schema.x_kubernetes_embedded_resource:
            found.append(invalid(path.child("x-kubernetes-embedded-resource"), True, detail))
    return found


def _type(schema: JSONSchemaProps, level: str, path: Path) -> Findings:
    found: Findings = []
    at = path.child("type")
    if schema.x_kubernetes_embedded_resource and schema.type != "object":
        detail = "must be object if x-kubernetes-embedded-resource is true"
        found.append(invalid(at, schema.type, detail) if schema.type else required(at, detail))
    elif not schema.type and not schema.x_kubernetes_int_or_string and not schema.x_kubernetes_preserve_unknown_fields:
        found.append(required(at, _NO_TYPE[level]))
    if schema.x_kubernetes_embedded_resource and _allows_more(schema):
        detail = "must not be used if x-kubernetes-embedded-resource is set"
        found.append(forbidden(path.child("additionalProperties"), detail))
    if level == "root" and schema.type and schema.type != "object":
        found.append(invalid(at, schema.type, "must be object at the root"))
    return found


def _object_meta(schema: JSONSchemaProps, level: str, path: Path) -> Findings:
    """Of a whole object kind, apiVersion and metadata are known already."""
    found: Findings = []
    properties = schema.properties or {}
    embedded = bool(schema.x_kubernetes_embedded_resource)
    if level == "root" or embedded:
        for name in _META:
            if name in properties and properties[name].type != "string":
                at = path.child("properties").key(name).child("type")
                found.append(invalid(at, properties[name].type or "", "must be string"))
        metadata = properties.get("metadata")
        at = path.child("properties").key("metadata")
        if metadata is not None and metadata.type != "object":
            found.append(invalid(at.child("type"), metadata.type or "", "must be object"))
        if metadata is not None and level == "root" and not _names_only(metadata):
            detail = "must not specify anything other than name and generateName, but metadata is implicitly specified"
            found.append(forbidden(at, detail))
    if embedded and not schema.x_kubernetes_preserve_unknown_fields and not properties:
        detail = (
            "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields"
        )
        found.append(required(path.child("properties"), detail))
    return found


def _names_only(metadata: JSONSchemaProps) -> bool:
    """Whether nothing but the type and (rules for) the names is said."""
    rest = JSONSchemaProps(type=metadata.type, default=metadata.default)
    if set(metadata.properties or {}) <= {"name", "generateName"}:
        rest.properties = metadata.properties
    return metadata == rest


def _has_int_or_string(schemas: list[JSONSchemaProps] | None) -> bool:
    return schemas == [JSONSchemaProps(type="integer"), JSONSchemaProps(type="string")]


def _starts_int_or_string(schema: JSONSchemaProps) -> bool:
    return bool(schema.all_of) and _has_int_or_string((schema.all_of or [])[0].any_of)


def _junctions(schema: JSONSchemaProps, skip_any_of: bool, skip_first_any_of: bool, path: Path) -> Findings:
    """allOf, anyOf, oneOf and not; `skip_*` where they spell int-or-string."""
    found: Findings = []
    if not skip_any_of:
        for index, part in enumerate(schema.any_of or ()):
            found += _nested(part, False, path.child("anyOf").index(index))
    for index, part in enumerate(schema.all_of or ()):
        found += _nested(part, skip_first_any_of and index == 0, path.child("allOf").index(index))
    for index, part in enumerate(schema.one_of or ()):
        found += _nested(part, False, path.child("oneOf").index(index))
    if schema.not_ is not None:
        found += _nested(schema.not_, False, path.child("not"))
    return found


def _nested(schema: JSONSchemaProps, skip_any_of: bool, path: Path) -> Findings:
    """What stands under a junction."""
    found = _junctions(schema, skip_any_of, False, path)
    items = _items(schema)
    if items is not None:
        found += _nested(items, False, path.child("items"))
    for name, field in (schema.properties or {}).items():
        found += _nested(field, False, path.child("properties").key(name))
    for name, value, what in (
        ("type", schema.type, "empty"),
        ("additionalProperties", schema.additional_properties is not None, "undefined"),
        ("default", schema.default is not None, "undefined"),
        ("title", schema.title, "empty"),
        ("description", schema.description, "empty"),
        ("nullable", schema.nullable, "false"),
        ("x-kubernetes-preserve-unknown-fields", schema.x_kubernetes_preserve_unknown_fields, "false"),
        ("x-kubernetes-embedded-resource", schema.x_kubernetes_embedded_resource, "false"),
        ("x-kubernetes-int-or-string", schema.x_kubernetes_int_or_string, "false"),
        ("x-kubernetes-list-map-keys", schema.x_kubernetes_list_map_keys, "empty"),
        ("x-kubernetes-list-type", schema.x_kubernetes_list_type is not None, "undefined"),
        ("x-kubernetes-map-type", schema.x_kubernetes_map_type is not None, "undefined"),
        ("x-kubernetes-validations", schema.x_kubernetes_validations, "empty"),
    ):
        if value:
            found.append(forbidden(path.child(name), f"must be {what} to be structural"))
    if "metadata" in (schema.properties or {}):
        at = path.child("properties").key("metadata")
        found.append(forbidden(at, "must not be specified in a nested context"))
    return found


def _completeness(schema: JSONSchemaProps, outer: JSONSchemaProps | None, at: Path, path: Path) -> Findings:
    """That all that junctions speak of is there outside of them: `schema` at `path` narrows `outer` at `at`."""
    found: Findings = []
    if schema.not_ is not None:
        found += _nested_completeness(schema.not_, outer, at, path.child("not"))
    for name, parts in (("allOf", schema.all_of), ("anyOf", schema.any_of), ("oneOf", schema.one_of)):
        for index, part in enumerate(parts or ()):
            found += _nested_completeness(part, outer, at, path.child(name).index(index))
    return found


def _nested_completeness(schema: JSONSchemaProps, outer: JSONSchemaProps | None, at: Path, path: Path) -> Findings:
    if outer is None:
        return [required(at, f"because it is defined in {path}")]
    found = _completeness(schema, outer, at, path)
    items = _items(schema)
    if items is not None:
        found += _nested_completeness(items, _items(outer), at.child("items"), path.child("items"))
    for name, field in (schema.properties or {}).items():
        there, here = at.child("properties").key(name), path.child("properties").key(name)
        found += _nested_completeness(field, (outer.properties or {}).get(name), there, here)
    return found
