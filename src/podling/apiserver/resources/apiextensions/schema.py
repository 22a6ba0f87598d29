"""Which of OpenAPI's keywords a custom resource's schema may use, and how the Kubernetes extensions go together."""

from __future__ import annotations

from podling.api.apiextensions_v1 import JSONSchemaProps, ValidationRule
from podling.api.struct import to_dict
from podling.apiserver.crd import definition
from podling.apiserver.resources.apiextensions.structural import structural
from podling.machinery.validation import Findings, Path, forbidden, invalid, not_supported, required

_TYPES = ("array", "boolean", "integer", "number", "object", "string")
_META = ("metadata", "kind", "apiVersion")
_REASONS = ("FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired")
#: As upstream's Go fields are called: its message shows them so.
_AT_ROOT = (
    "Description", "Type", "Format", "Title", "Maximum", "ExclusiveMaximum", "Minimum", "ExclusiveMinimum", "MaxLength",
    "MinLength", "Pattern", "MaxItems", "MinItems", "UniqueItems", "MultipleOf", "Required", "Items", "Properties",
    "ExternalDocs", "Example", "XPreserveUnknownFields", "XValidations",
)  # fmt: skip
_EXTENSIONS_AT_ROOT = ("x_kubernetes_preserve_unknown_fields", "x_kubernetes_validations")
_AT_ROOT_FIELDS = frozenset(name.lower() for name in _AT_ROOT)


def root(schema: JSONSchemaProps, path: Path, *, has_status: bool) -> Findings:
    """The schema of a version; `has_status` if that has a /status."""
    found: Findings = []
    if has_status:
        found += _root_with_status(schema, path)
    if schema.nullable:
        found.append(forbidden(path.child("nullable"), "nullable cannot be true at the root"))
    shape = structural(schema, path)
    keywords = _keywords(schema, path, is_root=True)
    found += shape
    if not shape:
        # What follows relies on the schema being structural, rules even on its being right.
        found += definition.default_findings(to_dict(schema), path)
    found += keywords
    return found or definition.rule_findings(to_dict(schema), path)


def _root_with_status(schema: JSONSchemaProps, path: Path) -> Findings:
    """A write of /status is checked by properties.status alone: nothing beside it may speak of the status."""
    empty = JSONSchemaProps()
    for name in schema.__struct_fields__:
        value = getattr(schema, name)
        if not value or value == getattr(empty, name):
            continue
        if name == "type":
            if value != "object":
                detail = 'only "object" is allowed as the type at the root of the schema'
                detail += " if the status subresource is enabled"
                return [invalid(path.child("type"), value, detail)]
        elif name not in _EXTENSIONS_AT_ROOT and name.replace("_", "") not in _AT_ROOT_FIELDS:
            listed = " ".join(_AT_ROOT)
            detail = (
                f"only [{listed}] fields are allowed at the root of the schema if the status subresource is enabled"
            )
            return [invalid(path, schema, detail)]
    return []


def _keywords(schema: JSONSchemaProps, path: Path, *, is_root: bool = False, in_meta: bool = False) -> Findings:
    found = _plain(schema, path, in_meta)
    if schema.unique_items:
        detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
        found.append(forbidden(path.child("uniqueItems"), detail))
    more = schema.additional_properties
    if schema.properties and (more is False or isinstance(more, JSONSchemaProps)):
        detail = "additionalProperties and properties are mutual exclusive"
        found.append(forbidden(path.child("additionalProperties"), detail))
    if isinstance(more, JSONSchemaProps):
        found += _keywords(more, path.child("additionalProperties"), in_meta=in_meta)
    for name, field in sorted((schema.properties or {}).items()):
        meta = in_meta or ((is_root or bool(schema.x_kubernetes_embedded_resource)) and name in _META)
        at = path.child("properties").key(name)
        if is_root and name in _META and field.default is not None:
            found.append(forbidden(at.child("default"), f"must not be set in top-level {name}"))
        found += _keywords(field, at, in_meta=meta)
    if schema.not_ is not None:
        found += _keywords(schema.not_, path.child("not"), in_meta=in_meta)
    for keyword, parts in (("allOf", schema.all_of), ("oneOf", schema.one_of), ("anyOf", schema.any_of)):
        for index, part in enumerate(parts or ()):
            found += _keywords(part, path.child(keyword).index(index), in_meta=in_meta)
    if isinstance(schema.items, JSONSchemaProps):
        found += _keywords(schema.items, path.child("items"), in_meta=in_meta)
    found += _map_type(schema, path) + _list_type(schema, path) + _list_map(schema, path)
    for index, rule in enumerate(schema.x_kubernetes_validations or ()):
        found += _rule(rule, path.child("x-kubernetes-validations").index(index))
    return found


def _plain(schema: JSONSchemaProps, path: Path, in_meta: bool) -> Findings:
    found: Findings = []
    if schema.type and schema.type not in _TYPES:
        found.append(not_supported(path.child("type"), schema.type, _TYPES))
    for name, value in (
        ("id", schema.id),
        ("additionalItems", schema.additional_items is not None),
        ("patternProperties", schema.pattern_properties),
        ("definitions", schema.definitions),
        ("dependencies", schema.dependencies is not None),
        ("$ref", schema.ref is not None),
    ):
        if value:
            found.append(forbidden(path.child(name), f"{name} is not supported"))
    if schema.type == "null":
        detail = "type cannot be set to null, use nullable as an alternative"
        found.append(forbidden(path.child("type"), detail))
    if isinstance(schema.items, list) and schema.items:
        found.append(forbidden(path.child("items"), "items must be a schema object and not an array"))
    if in_meta and schema.x_kubernetes_embedded_resource:
        at = path.child("x-kubernetes-embedded-resource")
        found.append(forbidden(at, "must not be used inside of resource meta"))
    if schema.x_kubernetes_preserve_unknown_fields is False:
        at = path.child("x-kubernetes-preserve-unknown-fields")
        found.append(invalid(at, False, "must be true or undefined"))
    return found


def _needs_type(schema: JSONSchemaProps, wanted: str, because: str, path: Path) -> Findings:
    if schema.type == wanted:
        return []
    detail = f"must be {wanted} if {because} is specified"
    return [invalid(path, schema.type, detail) if schema.type else required(path, detail)]


def _map_type(schema: JSONSchemaProps, path: Path) -> Findings:
    kind = schema.x_kubernetes_map_type
    if kind is None:
        return []
    found = _needs_type(schema, "object", "x-kubernetes-map-type", path.child("type"))
    if kind not in ("atomic", "granular"):
        found.append(not_supported(path.child("x-kubernetes-map-type"), kind, ("atomic", "granular")))
    return found


def _list_type(schema: JSONSchemaProps, path: Path) -> Findings:
    kind = schema.x_kubernetes_list_type
    at = path.child("x-kubernetes-list-type")
    items = schema.items if isinstance(schema.items, JSONSchemaProps) else None
    found: Findings = []
    if kind is not None:
        found += _needs_type(schema, "array", "x-kubernetes-list-type", path.child("type"))
        if not found and kind == "set" and items is not None:
            detail = "must be atomic as item of a list with x-kubernetes-list-type=set"
            if items.type == "array" and items.x_kubernetes_list_type not in (None, "atomic"):
                where = path.child("items", "x-kubernetes-list-type")
                found.append(invalid(where, items.x_kubernetes_list_type, detail))
            elif items.type == "object" and items.x_kubernetes_map_type != "atomic":
                where = path.child("items", "x-kubernetes-map-type")
                found.append(invalid(where, items.x_kubernetes_list_type, detail))
        if kind not in ("atomic", "set", "map"):
            found.append(not_supported(at, kind, ("atomic", "set", "map")))
    if schema.x_kubernetes_list_map_keys and kind != "map":
        detail = "must be map if x-kubernetes-list-map-keys is non-empty"
        found.append(required(at, detail) if kind is None else invalid(at, kind, detail))
    return found


def _list_map(schema: JSONSchemaProps, path: Path) -> Findings:
    """A list that is merged by keys of its items, or a set."""
    kind = schema.x_kubernetes_list_type
    items = schema.items
    if kind not in ("map", "set"):
        return []
    found: Findings = []
    keys = schema.x_kubernetes_list_map_keys or []
    at = path.child("x-kubernetes-list-map-keys")
    if kind == "map":
        if not keys:
            found.append(required(at, "must not be empty if x-kubernetes-list-type is map"))
        if items is None:
            found.append(required(path.child("items"), "must have a schema if x-kubernetes-list-type is map"))
        elif not isinstance(items, JSONSchemaProps):
            detail = "must only have a single schema if x-kubernetes-list-type is map"
            found.append(invalid(path.child("items"), items, detail))
        elif items.type != "object":
            detail = "must be object if parent array's x-kubernetes-list-type is map"
            found.append(invalid(path.child("items", "type"), items.type or "", detail))
        else:
            found += _keys(keys, items, path.child("items", "properties"), at)
    if isinstance(items, JSONSchemaProps):
        found += _items_of(kind, keys, items, path.child("items"))
    return found


def _keys(keys: list[str], items: JSONSchemaProps, properties: Path, path: Path) -> Findings:
    found: Findings = []
    for index, key in enumerate(keys):
        field = (items.properties or {}).get(key)
        if field is None:
            found.append(invalid(path, keys, "entries must all be names of item properties"))
        elif field.type in ("array", "object"):
            detail = "must be a scalar type if parent array's x-kubernetes-list-type is map"
            found.append(invalid(properties.key(key).child("type"), items.type, detail))
        if key in keys[:index]:
            found.append(invalid(path, keys, "must not contain duplicate entries"))
    return found


def _items_of(kind: str, keys: list[str], items: JSONSchemaProps, path: Path) -> Findings:
    found: Findings = []
    if items.nullable:
        detail = f"cannot be nullable when x-kubernetes-list-type is {kind}"
        found.append(forbidden(path.child("nullable"), detail))
    for key in keys if kind == "map" else ():
        field = (items.properties or {}).get(key)
        if field is None:
            continue
        at = path.child("properties").key(key)
        reason = "this property is in x-kubernetes-list-map-keys, so it"
        if key not in (items.required or ()) and field.default is None:
            found.append(required(at.child("default"), f"{reason} must have a default or be a required property"))
        if field.nullable:
            found.append(forbidden(at.child("nullable"), f"{reason} cannot be nullable"))
    return found


def _rule(rule: ValidationRule, path: Path) -> Findings:
    """A CEL rule, but for whether its expression compiles."""
    found: Findings = []
    message = rule.message or ""
    if not rule.rule.strip():
        found.append(required(path.child("rule"), "rule is not specified"))
    elif message and not message.strip():
        found.append(invalid(path.child("message"), message, "must be non-empty if specified"))
    elif _breaks(message.strip()):
        found.append(invalid(path.child("message"), message, "must not contain line breaks"))
    elif _breaks(rule.rule.strip()) and not message.strip():
        detail = "message must be specified if rule contains line breaks"
        found.append(required(path.child("message"), detail))
    if rule.message_expression and not rule.message_expression.strip():
        detail = "messageExpression must be non-empty if specified"
        found.append(required(path.child("messageExpression"), detail))
    if rule.reason is not None and rule.reason not in _REASONS:
        found.append(not_supported(path.child("reason"), rule.reason, _REASONS))
    where = rule.field_path or ""
    if where and not where.strip():
        found.append(invalid(path.child("fieldPath"), where, "must be non-empty if specified"))
    if _breaks(where):
        found.append(invalid(path.child("fieldPath"), where, "must not contain line breaks"))
    return found


def _breaks(text: str) -> bool:
    return "\n" in text or "\r" in text


def set_warnings(schema: JSONSchemaProps | None) -> set[str]:
    """Warnings of lists of type set whose items are no scalars, anywhere in the schema."""
    if schema is None:
        return set()
    found: set[str] = set()
    todo = [schema]
    while todo:
        here = todo.pop()
        items = here.items
        is_set = here.x_kubernetes_list_type == "set"
        if is_set and isinstance(items, JSONSchemaProps) and items.type in ("object", "array"):
            found.add(
                f'x-kubernetes-list-type: set for items of type "{items.type}" is not supported by '
                "server-side apply or CEL validation rules"
            )
        todo += _children(here)
    return found


def _children(schema: JSONSchemaProps) -> list[JSONSchemaProps]:
    lists = (schema.all_of, schema.any_of, schema.one_of)
    single = (schema.items, schema.additional_properties, schema.not_)
    return [
        *(part for parts in lists for part in parts or ()),
        *(part for part in single if isinstance(part, JSONSchemaProps)),
        *(schema.properties or {}).values(),
    ]
