"""Findings of validation, in upstream's words, and the rules that many kinds share.

A rule is a function from a value and its path to a list of findings (`api.errors.FieldError`). The texts are interface:
kubectl shows them and people search for them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from podling.api import meta_v1, names
from podling.api.errors import FieldError

Findings = list[FieldError]


class Path:
    """Where a value stands: `Path("spec").child("containers").index(0)`, `spec.containers[0]`. Cheap until printed."""

    __slots__ = ("_parent", "_part")

    def __init__(self, part: str, parent: Path | None = None) -> None:
        self._part = part
        self._parent = parent

    def child(self, *names: str) -> Path:
        """A field of it; more names go deeper."""
        path = self
        for name in names:
            path = Path(f".{name}", path)
        return path

    def index(self, index: int) -> Path:
        """An item of a list."""
        return Path(f"[{index}]", self)

    def key(self, key: str) -> Path:
        """A value of a map."""
        return Path(f"[{key}]", self)

    def __str__(self) -> str:
        parts: list[str] = []
        path: Path | None = self
        while path is not None:
            parts.append(path._part)
            path = path._parent
        return "".join(reversed(parts)).removeprefix(".")


def quote(text: str) -> str:
    """`text` in double quotes as Go's %q writes it."""
    return json.dumps(text, ensure_ascii=False)


OMITTED = object()
"""For `invalid`: the value is not shown, since the finding is about a whole."""


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return quote(value)
    return msgspec.json.encode(value).decode()


def _finding(type_: str, path: Path, words: str, detail: str) -> FieldError:
    return FieldError(type_, str(path), f"{words}: {detail}" if detail else words)


def required(path: Path, detail: str = "") -> FieldError:
    return _finding("FieldValueRequired", path, "Required value", detail)


def invalid(path: Path, value: Any, detail: str) -> FieldError:
    if value is OMITTED:
        return _finding("FieldValueInvalid", path, "Invalid value", detail)
    return _finding("FieldValueInvalid", path, f"Invalid value: {_shown(value)}", detail)


def type_invalid(path: Path, value: Any, detail: str) -> FieldError:
    return _finding("FieldValueTypeInvalid", path, f"Invalid value: {_shown(value)}", detail)


def not_supported(path: Path, value: Any, supported: Iterable[str]) -> FieldError:
    """`supported` is shown in the order given."""
    listed = ", ".join(quote(s) for s in supported)
    return _finding(
        "FieldValueNotSupported",
        path,
        f"Unsupported value: {_shown(value)}",
        f"supported values: {listed}" if listed else "",
    )


def forbidden(path: Path, detail: str) -> FieldError:
    return _finding("FieldValueForbidden", path, "Forbidden", detail)


def duplicate(path: Path, value: Any) -> FieldError:
    return _finding("FieldValueDuplicate", path, f"Duplicate value: {_shown(value)}", "")


def not_found(path: Path, value: Any) -> FieldError:
    return _finding("FieldValueNotFound", path, f"Not found: {_shown(value)}", "")


def too_long(path: Path, limit: int) -> FieldError:
    unit = "byte" if limit == 1 else "bytes"
    return _finding("FieldValueTooLong", path, "Too long", f"may not be more than {limit} {unit}")


def too_long_characters(path: Path, limit: int) -> FieldError:
    unit = "character" if limit == 1 else "characters"
    return _finding("FieldValueTooLong", path, "Too long", f"may not be more than {limit} {unit}")


def too_many(path: Path, actual: int, limit: int) -> FieldError:
    unit = "item" if limit == 1 else "items"
    return _finding("FieldValueTooMany", path, f"Too many: {actual}", f"must have at most {limit} {unit}")


def too_few(path: Path, actual: int, limit: int) -> FieldError:
    unit = "item" if limit == 1 else "items"
    return _finding("FieldValueTooFew", path, f"Too few: {actual}", f"must have at least {limit} {unit}")


def internal(path: Path, detail: str) -> FieldError:
    return _finding("InternalError", path, "Internal error", detail)


def each(path: Path, value: Any, problems: Iterable[str]) -> Findings:
    """Every problem that a rule of `api.names` found, as an invalid value."""
    return [invalid(path, value, problem) for problem in problems]


NOT_NEGATIVE = "must be greater than or equal to 0"
IMMUTABLE = "field is immutable"


def nonnegative(value: int | None, path: Path) -> Findings:
    return [invalid(path, value, NOT_NEGATIVE)] if value is not None and value < 0 else []


def positive(value: int | None, path: Path) -> Findings:
    return [invalid(path, value, "must be greater than 0")] if value is not None and value <= 0 else []


def one_of(path: Path, value: str | None, supported: Sequence[str], *, needed: bool = False) -> Findings:
    """`value` is among `supported` (shown sorted); absent is fine unless `needed`."""
    if not value:
        return [required(path)] if needed else []
    return [] if value in supported else [not_supported(path, value, sorted(supported))]


def immutable(new: Any, old: Any, path: Path) -> Findings:
    """Unchanged; None, empty lists and empty maps count as the same."""
    if new == old or (not new and not old and new is not False and old is not False and new != 0 and old != 0):
        return []
    return [invalid(path, new, IMMUTABLE)]


# -- metadata ---------------------------------------------------------------------------------------------------------


class NameRule(Protocol):
    """What is wrong with a name, or with what a generated one starts with."""

    def __call__(self, name: str, *, prefix: bool) -> list[str]: ...


_METADATA = Path("metadata")
_ANNOTATION_LIMIT = 256 * 1024


_HTTP_PATH = r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+"


def domain_prefixed_path(value: str, path: Path) -> Findings:
    """`example.com/some/thing`."""
    if not value:
        return [required(path)]
    host, _, rest = value.partition("/")
    if not host or not rest:
        return [invalid(path, value, 'must be a domain-prefixed path (such as "acme.io/foo")')]
    findings = [invalid(path, host, why) for why in names.dns_subdomain(host)]
    if not re.fullmatch(_HTTP_PATH, rest):
        findings.append(invalid(path, rest, names.pattern_problem("Invalid path", _HTTP_PATH)))
    return findings


def label_name(name: str, path: Path) -> Findings:
    return each(path, name, names.qualified_name(name))


def labels(values: Mapping[str, str] | None, path: Path) -> Findings:
    found: Findings = []
    for key, value in (values or {}).items():
        found += label_name(key, path)
        found += each(path, value, names.label_value(value))
    return found


def annotations_(values: Mapping[str, str] | None, path: Path) -> Findings:
    found: Findings = []
    size = 0
    for key, value in (values or {}).items():
        found += each(path, key, names.qualified_name(key.lower()))
        size += len(key.encode()) + len(value.encode())
    if size > _ANNOTATION_LIMIT:
        found.append(too_long(path, _ANNOTATION_LIMIT))
    return found


def _owner_reference(reference: meta_v1.OwnerReference, path: Path) -> Findings:
    found: Findings = []
    if not reference.api_version:
        found.append(required(path.child("apiVersion"), "must not be empty"))
    elif reference.api_version.count("/") > 1 or reference.api_version.endswith("/"):
        what = "must be <group>/<version> or <version>"
        found.append(invalid(path.child("apiVersion"), reference.api_version, what))
    for name, value in (("kind", reference.kind), ("name", reference.name), ("uid", reference.uid)):
        if not value:
            found.append(required(path.child(name), "must not be empty"))
    if (reference.api_version, reference.kind) == ("v1", "Event"):
        found.append(invalid(path, reference, "/v1, Kind=Event is disallowed from being an owner"))
    return found


def owner_references(references: Sequence[meta_v1.OwnerReference] | None, path: Path) -> Findings:
    found: Findings = []
    controller = ""
    for index, reference in enumerate(references or ()):
        found += _owner_reference(reference, path.index(index))
        if not reference.controller:
            continue
        name = f"{reference.kind}/{reference.name}"
        if controller:
            detail = (
                "Only one reference can have Controller set to true. "
                f'Found "true" in references for {controller} and {name}'
            )
            found.append(invalid(path, references, detail))
        controller = controller or name
    return found


def finalizers(values: Sequence[str] | None, path: Path) -> Findings:
    found: Findings = []
    for value in values or ():
        found += each(path, value, names.qualified_name(value))
    if values and "orphan" in values and "foregroundDeletion" in values:
        detail = "finalizer orphan and foregroundDeletion cannot be both set"
        found.append(invalid(path, values, detail))
    return found


def field_manager(name: str | None, path: Path) -> Findings:
    """Who owns fields: at most 128 printable characters."""
    found: Findings = []
    if name and len(name.encode()) > 128:
        found.append(too_long(path, 128))
    for position, character in enumerate(name or ""):
        if not character.isprintable():
            detail = f"invalid character U+{ord(character):04X} (at position {position})"
            found.append(invalid(path, name, detail))
    return found


def managed_fields(entries: Sequence[meta_v1.ManagedFieldsEntry] | None, path: Path) -> Findings:
    found: Findings = []
    for index, entry in enumerate(entries or ()):
        at = path.index(index)
        if not entry.operation:
            found.append(required(at.child("operation"), "must not be empty"))
        elif entry.operation not in ("Apply", "Update"):
            found.append(not_supported(at.child("operation"), entry.operation, ("Apply", "Update")))
        if entry.fields_type and entry.fields_type != "FieldsV1":
            found.append(invalid(at.child("fieldsType"), entry.fields_type, "must be `FieldsV1`"))
        found += field_manager(entry.manager, at.child("manager"))
        if len(entry.subresource or "") > 256:
            found.append(too_long(at.child("subresource"), 256))
    return found


def object_meta(meta: meta_v1.ObjectMeta, name_rule: NameRule, *, namespaced: bool, path: Path = _METADATA) -> Findings:
    """Metadata of a new object, after its name was generated. `name_rule(name, prefix=...)` is the kind's own."""
    found: Findings = []
    if meta.generate_name:
        found += each(path.child("generateName"), meta.generate_name, name_rule(meta.generate_name, prefix=True))
    if not meta.name:
        found.append(required(path.child("name"), "name or generateName is required"))
    else:
        found += each(path.child("name"), meta.name, name_rule(meta.name, prefix=False))
    if namespaced and not meta.namespace:
        found.append(required(path.child("namespace")))
    elif namespaced and meta.namespace:
        found += each(path.child("namespace"), meta.namespace, names.dns_label(meta.namespace))
    elif meta.namespace:
        found.append(forbidden(path.child("namespace"), "not allowed on this type"))
    return found + _common_meta(meta, path) + finalizers(meta.finalizers, path.child("finalizers"))


def _common_meta(meta: meta_v1.ObjectMeta, path: Path) -> Findings:
    found = nonnegative(meta.generation, path.child("generation"))
    if meta.labels:
        found += labels(meta.labels, path.child("labels"))
    if meta.annotations:
        found += annotations_(meta.annotations, path.child("annotations"))
    if meta.owner_references:
        found += owner_references(meta.owner_references, path.child("ownerReferences"))
    if meta.managed_fields:
        found += managed_fields(meta.managed_fields, path.child("managedFields"))
    return found


def object_meta_update(new: meta_v1.ObjectMeta, old: meta_v1.ObjectMeta, *, path: Path = _METADATA) -> Findings:
    """What is wrong with a change of metadata."""
    found: Findings = []
    if old.deletion_timestamp:
        added = sorted(set(new.finalizers or ()) - set(old.finalizers or ()))
        if added:
            listed = ", ".join(quote(a) for a in added)
            detail = (
                "no new finalizers can be added if the object is being deleted, "
                f"found new finalizers []string{{{listed}}}"
            )
            found.append(forbidden(path.child("finalizers"), detail))
    if not new.resource_version:
        found.append(invalid(path.child("resourceVersion"), "", "must be specified for an update"))
    if (new.generation or 0) < (old.generation or 0):
        found.append(invalid(path.child("generation"), new.generation or 0, "must not be decremented"))
    for name, now, before in (
        ("name", new.name, old.name),
        ("namespace", new.namespace, old.namespace),
        ("uid", new.uid, old.uid),
    ):
        found += immutable(now or "", before or "", path.child(name))
    for name, now, before in (
        ("creationTimestamp", new.creation_timestamp, old.creation_timestamp),
        ("deletionTimestamp", new.deletion_timestamp, old.deletion_timestamp),
    ):
        found += immutable(now, before, path.child(name))
    if new.deletion_grace_period_seconds != old.deletion_grace_period_seconds:
        at = path.child("deletionGracePeriodSeconds")
        found.append(invalid(at, new.deletion_grace_period_seconds, IMMUTABLE))
    return found + _common_meta(new, path)


def label_selector(selector: meta_v1.LabelSelector | None, path: Path) -> Findings:
    if selector is None:
        return []
    found = labels(selector.match_labels, path.child("matchLabels"))
    for index, expression in enumerate(selector.match_expressions or ()):
        at = path.child("matchExpressions").index(index)
        match expression.operator:
            case "In" | "NotIn":
                if not expression.values:
                    detail = "must be specified when `operator` is 'In' or 'NotIn'"
                    found.append(required(at.child("values"), detail))
            case "Exists" | "DoesNotExist":
                if expression.values:
                    detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                    found.append(forbidden(at.child("values"), detail))
            case _:
                found.append(invalid(at.child("operator"), expression.operator, "not a valid selector operator"))
        found += label_name(expression.key, at.child("key"))
        for position, value in enumerate(expression.values or ()):
            found += each(at.child("values").index(position), value, names.label_value(value))
    return found
