"""What is special about a custom kind: all of it from its definition."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from podling.api import errors, names, times
from podling.api.apiextensions_v1 import CustomResourceColumnDefinition, CustomResourceDefinitionVersion
from podling.api.errors import FieldError
from podling.api.registry import Resource
from podling.apiserver.crd import lists, rules
from podling.apiserver.crd.embedded import findings as embedded_findings
from podling.apiserver.crd.json_path import JsonPath, PathError
from podling.apiserver.crd.objects import CustomObject
from podling.apiserver.crd.structural import Node, compiled, settled
from podling.apiserver.crd.validation import NO_OLD, Validator, findings
from podling.apiserver.resources import printing
from podling.apiserver.strategy import Column, Context, Strategy
from podling.machinery.validation import Findings, Path, invalid

_AGE = CustomResourceColumnDefinition(
    name="Age", type="date", json_path=".metadata.creationTimestamp", description=printing.AGE.description
)
_INCOMPLETE = (
    "some validation rules were not checked because the object was invalid; correct the existing errors to complete "
    "validation"
)
#: Findings after which rules, which rely on types and sizes, are not asked.
_BLOCKING = frozenset(
    ("FieldValueNotSupported", "FieldValueRequired", "FieldValueTooLong", "FieldValueTooMany", "FieldValueTypeInvalid")
)
_STANDARD_FINALIZERS = ("orphan", "foregroundDeletion", "kubernetes")
_MAX_INT32 = (1 << 31) - 1


class CustomStrategy(Strategy[CustomObject]):
    """One version of a custom resource. `schema` is its structural schema in wire form, None if it has none."""

    unconditional_update = False
    #: Strategic merge patches need types: of custom resources there are none.
    merges_strategically = False

    def __init__(
        self, resource: Resource, version: CustomResourceDefinitionVersion, schema: dict[str, Any] | None,
        *, terminating: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(resource)
        self.has_generation = True
        self.node: Node | None = compiled(schema) if schema is not None else None
        self._schema = schema or {}
        self._validator = Validator(self._schema)
        status = (self._schema.get("properties") or {}).get("status")
        self._status_validator = Validator(status) if status is not None else None
        self._rules = rules.compiled(self._schema, root=True)
        self._terminating = terminating
        subresources = version.subresources
        self.has_status = subresources is not None and subresources.status is not None
        self.scale = subresources.scale if subresources is not None else None
        self._selectable = {
            field.json_path.removeprefix("."): JsonPath(field.json_path) for field in version.selectable_fields or ()
        }
        always = ("metadata.name", "metadata.namespace") if resource.namespaced else ("metadata.name",)
        self.selectable_fields = (*always, *self._selectable)
        self._columns = _columns(version)
        self.columns = (printing.NAME, *(column for column, _, _ in self._columns))

    # Writes

    def default(self, obj: CustomObject) -> None:
        """Also prunes: webhooks may have added what the schema does not have."""
        if self.node is None:
            return
        made = settled(obj, self.node, root=True)
        if made is not obj:
            obj.clear()
            obj.update(made)

    def prepare_create(self, obj: CustomObject, context: Context) -> None:
        if self._terminating:
            why = "create not allowed while custom resource definition is terminating"
            raise errors.forbidden(self.resource.name, self.resource.group, context.name, why)
        if self.has_status:
            obj.status = None

    def prepare_status_update(self, new: CustomObject, old: CustomObject, context: Context) -> None:
        """Nothing but the status, and who owns it."""
        status, owners = new.status, new.metadata.managed_fields
        new.content = old.content
        new.status = status
        new.metadata = msgspec.structs.replace(
            old.metadata, managed_fields=owners, resource_version=new.metadata.resource_version
        )

    def desired(self, obj: CustomObject) -> Any:
        """Everything but metadata: the status too, where it is not kept apart."""
        return {key: value for key, value in obj.content.items() if key != "status" or not self.has_status}

    def validate(self, obj: CustomObject) -> Findings:
        wire = self._wire(obj)
        found: Findings = [*findings(self._validator, wire), *self._scale_spec(obj), *self._scale_status(obj)]
        found += embedded_findings(obj.content, self.node)
        found += lists.findings(obj.content, self.node)
        return found + self._rule_findings(found, wire, None)

    def validate_update(self, new: CustomObject, old: CustomObject) -> Findings:
        wire, was = self._wire(new), self._wire(old)
        found: Findings = findings(self._validator, wire, was)
        if self.scale is not None:
            found += [*self._scale_spec(new), *self._scale_status(new)]
        found += embedded_findings(new.content, self.node)
        if not lists.findings(old.content, self.node):
            found += lists.findings(new.content, self.node)
        return found + self._rule_findings(found, wire, was)

    def validate_status_update(self, new: CustomObject, old: CustomObject) -> Findings:
        found: Findings = []
        if "status" in new and self._status_validator is not None:
            before = old.get("status", NO_OLD)
            found += findings(self._status_validator, new["status"], before, prefix="status")
        found += self._scale_status(new)
        changed = lists.findings(new.content, self.node)
        if changed and not lists.findings(old.content, self.node):
            found += changed
        return found + self._rule_findings(found, self._wire(new), self._wire(old))

    def _rule_findings(self, found: Findings, wire: dict[str, Any], old: dict[str, Any] | None) -> Findings:
        if self._rules is None:
            return []
        if any(f.type in _BLOCKING for f in found):
            return [invalid(Path("<nil>"), "null", _INCOMPLETE)]
        return self._rules.findings(wire) if old is None else self._rules.findings(wire, old)

    def _wire(self, obj: CustomObject) -> dict[str, Any]:
        """The object as schemas and rules see it: of metadata they can only speak of the names."""
        meta = obj.metadata
        said = {"name": meta.name, "generateName": meta.generate_name}
        return {**obj, "metadata": {key: value for key, value in said.items() if value is not None}}

    def _scale_spec(self, obj: CustomObject) -> Findings:
        scale = self.scale
        return _replicas(obj, scale.spec_replicas_path) if scale is not None else []

    def _scale_status(self, obj: CustomObject) -> Findings:
        scale = self.scale
        if scale is None:
            return []
        found = _replicas(obj, scale.status_replicas_path)
        path = scale.label_selector_path
        if path:
            value, problem = at_path(obj, path)
            if not problem and value is not None and not isinstance(value, str):
                problem = f"{path} accessor error: {shown(value)} is of the type {go_type(value)}, expected string"
            if problem:
                found.append(_at(path, invalid(Path(path), "", problem)))
        return found

    def warnings(self, new: CustomObject, old: CustomObject | None) -> list[str]:
        before = set(old.metadata.finalizers or ()) if old is not None else set()
        return [text for name in sorted(set(new.metadata.finalizers or ()) - before) for text in _finalizer(name)]

    # Reads

    def fields(self, obj: CustomObject) -> Mapping[str, str]:
        found = {}
        for name, path in self._selectable.items():
            value = path.first(obj)
            found[name] = "" if value is None else _go_text(value)
        return found

    def row(self, obj: CustomObject, now: datetime) -> list[Any]:
        meta: dict[str, Any] = {}
        cells: list[Any] = [obj.metadata.name or ""]
        for column, path, in_meta in self._columns:
            if in_meta:
                meta = meta or {
                    "metadata": msgspec.to_builtins(msgspec.structs.replace(obj.metadata, managed_fields=None))
                }
            cells.append(_cell(column.type, path.first(meta if in_meta else obj), now))
        return cells


def _columns(version: CustomResourceDefinitionVersion) -> list[tuple[Column, JsonPath, bool]]:
    """Columns with their paths, and whether these are of metadata."""
    found = []
    for said in version.additional_printer_columns or (_AGE,):
        text = said.description or f"Custom resource definition column (in JSONPath format): {said.json_path}"
        column = Column(said.name, said.type, said.format or "", said.priority or 0, text)
        try:
            path = JsonPath(said.json_path)
        except PathError:
            # As upstream: this column and those behind it are not shown.
            break
        found.append((column, path, said.json_path.startswith((".metadata", "['metadata']"))))
    return found


def _cell(kind: str, value: Any, now: datetime) -> Any:
    if value is None:
        return None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    match kind:
        case "string":
            return _go_text(value)
        case "integer":
            return int(value) if number else None
        case "number":
            return float(value) if number else None
        case "boolean":
            return value if isinstance(value, bool) else None
        case "date" if isinstance(value, str):
            try:
                times.parse(value)
            except ValueError:
                return "<invalid>"
            return times.age(value, now)
    return None


def _go_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict | list):
        return msgspec.json.encode(value, order="sorted").decode()
    return str(value)


# -- scale ------------------------------------------------------------------------------------------------------------


def at_path(obj: Mapping[str, Any], path: str) -> tuple[Any, str]:
    """What stands at `.spec.replicas` (None if nothing does), and what is wrong on the way there."""
    here: Any = obj
    parts = path.removeprefix(".").split(".")
    for index, part in enumerate(parts):
        if not isinstance(here, dict):
            so_far = ".".join(parts[:index])
            expected = "map[string]interface {}"
            why = f".{so_far} accessor error: {shown(here)} is of the type {go_type(here)}, expected {expected}"
            return None, why if here is not None else ""
        if part not in here:
            return None, ""
        here = here[part]
    return here, ""


def shown(value: Any) -> str:
    return "<nil>" if value is None else _go_text(value)


def go_type(value: Any) -> str:
    kinds = {bool: "bool", int: "int64", float: "float64", str: "string", dict: "map[string]interface {}"}
    return kinds.get(type(value), "<nil>" if value is None else "[]interface {}")


def replicas_at(obj: Mapping[str, Any], path: str) -> tuple[int | None, str]:
    """A number of replicas (None if there is none), and what is wrong with it."""
    value, problem = at_path(obj, path)
    if problem or value is None:
        return None, problem
    if isinstance(value, bool) or not isinstance(value, int):
        return None, f"{path} accessor error: {shown(value)} is of the type {go_type(value)}, expected int64"
    return value, ""


def _replicas(obj: CustomObject, path: str) -> Findings:
    value, problem = replicas_at(obj, path)
    at = Path(path)
    if problem:
        return [_at(path, invalid(at, 0, problem))]
    if value is not None and value < 0:
        return [_at(path, invalid(at, value, "should be a non-negative integer"))]
    if value is not None and value > _MAX_INT32:
        return [_at(path, invalid(at, value, f"should be less than or equal to {_MAX_INT32}"))]
    return []


def _at(path: str, finding: FieldError) -> FieldError:
    """Upstream shows these paths as the definition has them, with their first dot."""
    return msgspec.structs.replace(finding, field=path)


def _finalizer(name: str) -> list[str]:
    found = [f'metadata.finalizers: "{name}": {problem}' for problem in names.qualified_name(name)]
    if "/" not in name and name not in _STANDARD_FINALIZERS:
        path = " including a path (/)" if "." in name else ""
        found.append(
            f'metadata.finalizers: "{name}": prefer a domain-qualified finalizer name{path} to avoid accidental '
            "conflicts with other finalizer writers"
        )
    return found
