"""CustomResourceDefinitions: their names, versions, schemas and conversion.

Whether the names are free and when the resource is served is for the controllers that set the status; expressions are
compiled by those who evaluate them.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from podling.api import apiextensions_v1 as v1
from podling.api import names, times
from podling.api.struct import clone, to_dict
from podling.apiserver.crd import definition
from podling.apiserver.resources import printing, webhookclient
from podling.apiserver.resources.apiextensions import schema
from podling.apiserver.strategy import Column, Context, Strategy
from podling.machinery.validation import (
    Findings,
    Path,
    duplicate,
    forbidden,
    immutable,
    invalid,
    not_supported,
    quote,
    required,
    too_many,
)

_SPEC = Path("spec")
_VERSIONS = _SPEC.child("versions")
_COLUMN_TYPES = ("boolean", "date", "integer", "number", "string")
_COLUMN_FORMATS = ("byte", "date", "date-time", "double", "float", "int32", "int64", "password")
_REVIEWS = ("v1", "v1beta1")
_MAX_SELECTABLE = 8
_APPROVAL = "api-approved.kubernetes.io"
_PULL = "see https://github.com/kubernetes/enhancements/pull/1111"


#: Holds a definition until all that it defines is gone.
CLEANUP_FINALIZER = "customresourcecleanup.apiextensions.k8s.io"


def set_condition(
    obj: v1.CustomResourceDefinition, type_: str, status: str, reason: str, message: str, now: str
) -> None:
    """Set a condition in place; its time changes with its status only."""
    conditions = obj.status.conditions = list(obj.status.conditions or ())
    for condition in conditions:
        if condition.type == type_:
            if condition.status != status or not condition.last_transition_time:
                condition.last_transition_time = now
            condition.status, condition.reason, condition.message = status, reason, message
            return
    conditions.append(
        v1.CustomResourceDefinitionCondition(
            type=type_, status=status, reason=reason, message=message, last_transition_time=now
        )
    )


def is_established(obj: v1.CustomResourceDefinition) -> bool:
    return any(c.type == "Established" and c.status == "True" for c in obj.status.conditions or ())


class CustomResourceDefinitionStrategy(Strategy[v1.CustomResourceDefinition]):
    has_status = True
    unconditional_update = False
    columns = (printing.NAME, Column("Created At", type="date"))

    def default(self, obj: v1.CustomResourceDefinition) -> None:
        spec = obj.spec
        spec.names.singular = spec.names.singular or spec.names.kind.lower()
        if not spec.names.list_kind and spec.names.kind:
            spec.names.list_kind = f"{spec.names.kind}List"
        if spec.conversion is None:
            spec.conversion = v1.CustomResourceConversion(strategy="None")
        config = spec.conversion.webhook.client_config if spec.conversion.webhook else None
        if config is not None and config.service is not None and config.service.port is None:
            config.service.port = 443
        if not obj.status.stored_versions:
            _store_storage_version(obj)

    def prepare_create(self, obj: v1.CustomResourceDefinition, context: Context) -> None:
        obj.status = v1.CustomResourceDefinitionStatus()
        _store_storage_version(obj)

    def prepare_update(
        self, new: v1.CustomResourceDefinition, old: v1.CustomResourceDefinition, context: Context
    ) -> None:
        new.status = clone(old.status)
        _store_storage_version(new)

    def validate(self, obj: v1.CustomResourceDefinition) -> Findings:
        found: Findings = []
        if obj.metadata.name != f"{obj.spec.names.plural}.{obj.spec.group}":
            at = Path("metadata").child("name")
            found.append(invalid(at, obj.metadata.name, 'must be spec.names.plural+"."+spec.group'))
        found += _spec(obj.spec) + _stored_versions(obj) + _approval(obj, None)
        return found + _preserving(obj, None)

    def validate_update(self, new: v1.CustomResourceDefinition, old: v1.CustomResourceDefinition) -> Findings:
        found = _spec(new.spec, old.spec)
        if is_established(old):
            found += immutable(new.spec.scope, old.spec.scope, _SPEC.child("scope"))
            found += immutable(new.spec.names.kind, old.spec.names.kind, _SPEC.child("names", "kind"))
        found += immutable(new.spec.group, old.spec.group, _SPEC.child("group"))
        found += immutable(new.spec.names.plural, old.spec.names.plural, _SPEC.child("names", "plural"))
        return found + _stored_versions(new) + _approval(new, old) + _preserving(new, old)

    def validate_status_update(self, new: v1.CustomResourceDefinition, old: v1.CustomResourceDefinition) -> Findings:
        accepted = new.status.accepted_names
        return _names(accepted, Path("status").child("acceptedNames")) if accepted is not None else []

    def delays_deletion(self, obj: v1.CustomResourceDefinition) -> bool:
        # The finalizer comes with the first request to delete.
        return bool(obj.metadata.finalizers) or not obj.metadata.deletion_timestamp

    def mark_deleting(self, obj: v1.CustomResourceDefinition) -> None:
        finalizers = obj.metadata.finalizers or []
        if CLEANUP_FINALIZER not in finalizers:
            obj.metadata.finalizers = [*finalizers, CLEANUP_FINALIZER]
        text = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon"
        set_condition(obj, "Terminating", "True", "InstanceDeletionPending", text, times.now())

    def warnings(self, new: v1.CustomResourceDefinition, old: v1.CustomResourceDefinition | None) -> list[str]:
        known = set(_format_warnings(old)) if old is not None else set()
        fresh = [text for text in _format_warnings(new) if text not in known]
        return fresh + sorted(_set_warnings(new) - (_set_warnings(old) if old is not None else set()))

    def row(self, obj: v1.CustomResourceDefinition, now: datetime) -> list[Any]:
        return [printing.name(obj.metadata), obj.metadata.creation_timestamp or printing.UNKNOWN]


def _format_warnings(obj: v1.CustomResourceDefinition) -> list[str]:
    schemas = [to_dict(found) for v in obj.spec.versions if (found := _schema(v)) is not None]
    return [f"unrecognized format {quote(name)}" for found in schemas for name in definition.unknown_formats(found)]


def _set_warnings(obj: v1.CustomResourceDefinition) -> set[str]:
    return {w for v in obj.spec.versions for w in schema.set_warnings(_schema(v))}


def _schema(version: v1.CustomResourceDefinitionVersion) -> v1.JSONSchemaProps | None:
    return version.schema.open_apiv3_schema if version.schema is not None else None


def _store_storage_version(obj: v1.CustomResourceDefinition) -> None:
    """Objects may be in the store in this version from now on."""
    storage = next((v.name for v in obj.spec.versions if v.storage), None)
    stored = obj.status.stored_versions or []
    if storage is not None and storage not in stored:
        obj.status.stored_versions = [*stored, storage]


def _spec(spec: v1.CustomResourceDefinitionSpec, old: v1.CustomResourceDefinitionSpec | None = None) -> Findings:
    found = _group(spec.group)
    at = _SPEC.child("scope")
    if not spec.scope:
        found.append(required(at))
    elif spec.scope not in ("Cluster", "Namespaced"):
        found.append(not_supported(at, spec.scope, ("Cluster", "Namespaced")))
    if old is None or all(_schema(v) is not None for v in old.versions):
        for index, version in enumerate(spec.versions):
            if _schema(version) is None:
                found.append(required(_VERSIONS.index(index).child("schema", "openAPIV3Schema")))
    found += _versions(spec)
    if len({v.name for v in spec.versions}) != len(spec.versions):
        found.append(invalid(_VERSIONS, spec.versions, "must contain unique version names"))
    if sum(v.storage for v in spec.versions) != 1:
        detail = "must have exactly one version marked as storage version"
        found.append(invalid(_VERSIONS, spec.versions, detail))
    for name, value in (
        ("plural", spec.names.plural),
        ("singular", spec.names.singular),
        ("kind", spec.names.kind),
        ("listKind", spec.names.list_kind),
    ):
        if not value:
            found.append(required(_SPEC.child("names", name)))
    found += _names(spec.names, _SPEC.child("names"))
    recognized = old is None or old.conversion is None or _has_review(old.conversion)
    return found + _conversion(spec.conversion, recognized)


def _group(group: str) -> Findings:
    at = _SPEC.child("group")
    if not group:
        return [required(at)]
    if problems := names.dns_subdomain(group):
        return [invalid(at, group, ",".join(problems))]
    return [] if "." in group else [invalid(at, group, "should be a domain with at least one dot")]


def _shared(versions: Sequence[v1.CustomResourceDefinitionVersion], part: Callable[[Any], Any]) -> bool:
    """Whether all versions say the same: findings then speak of the spec as a whole, as in v1beta1."""
    return bool(versions) and all(part(v) == part(versions[0]) for v in versions)


def _versions(spec: v1.CustomResourceDefinitionSpec) -> Findings:
    """Each version; what all versions have in common once."""
    found: Findings = []
    versions = spec.versions
    parts: tuple[tuple[Callable[[Any], Any], Callable[[Any, Path], Findings], str], ...] = (
        (lambda v: v.schema, lambda v, at: _validation(v, versions, at), "validation"),
        (lambda v: v.subresources, lambda v, at: _subresources(v.subresources, at), "subresources"),
        (lambda v: v.additional_printer_columns, _columns, "additionalPrinterColumns"),
        (lambda v: v.selectable_fields, _selectable, "selectableFields"),
    )
    shared = [_shared(versions, part) for part, _, _ in parts]
    for index, version in enumerate(versions):
        at = _VERSIONS.index(index)
        if problems := names.dns_1035_label(version.name):
            found.append(invalid(at.child("name"), version.name, ",".join(problems)))
        warning = version.deprecation_warning
        for problem in _deprecation_problems(bool(version.deprecated), warning):
            found.append(invalid(at.child("deprecationWarning"), warning, problem))
        for (_, check, name), common in zip(parts, shared, strict=True):
            if not common:
                found += check(version, at.child("schema" if name == "validation" else name))
    for (_, check, name), common in zip(parts, shared, strict=True):
        if common:
            found += check(versions[0], _SPEC.child(name))
    return found


def _deprecation_problems(deprecated: bool, warning: str | None) -> list[str]:
    if warning is None:
        return []
    if not deprecated:
        return ["can only be set for deprecated versions"]
    problems = ["must be <= 256 characters long"] if len(warning.encode()) > 256 else []
    if not warning:
        problems.append("must not be an empty string")
    for index, character in enumerate(warning):
        if not character.isprintable():
            detail = f"non-printable character found at index {index}"
            return [*problems, f"must only contain printable UTF-8 characters; {detail}"]
    return problems


def _validation(
    version: v1.CustomResourceDefinitionVersion, versions: Sequence[v1.CustomResourceDefinitionVersion], path: Path
) -> Findings:
    found = _schema(version)
    if found is None:
        return []
    any_status = any(v.subresources is not None and v.subresources.status is not None for v in versions)
    own_status = version.subresources is not None and version.subresources.status is not None
    has_status = any_status if _shared(versions, lambda v: v.schema) else own_status
    return schema.root(found, path.child("openAPIV3Schema"), has_status=has_status)


def _simple_path(text: str, path: Path) -> Findings:
    if not text.startswith("."):
        return [invalid(path, text, "must be a simple json path starting with .")]
    return []


def _subresources(subresources: v1.CustomResourceSubresources | None, path: Path) -> Findings:
    if subresources is None or subresources.scale is None:
        return []
    scale = subresources.scale
    found: Findings = []
    for name, value, start in (
        ("specReplicasPath", scale.spec_replicas_path, ".spec."),
        ("statusReplicasPath", scale.status_replicas_path, ".status."),
    ):
        at = path.child("scale", name)
        if not value:
            found.append(required(at))
        elif problems := _simple_path(value, at):
            found += problems
        elif not value.startswith(start):
            found.append(invalid(at, value, f"should be a json path under {start.removesuffix('.')}"))
    selector = scale.label_selector_path
    if selector:
        at = path.child("scale", "labelSelectorPath")
        if problems := _simple_path(selector, at):
            found += problems
        elif not selector.startswith((".spec.", ".status.")):
            found.append(invalid(at, selector, "should be a json path under either .spec or .status"))
    return found


def _columns(version: v1.CustomResourceDefinitionVersion, path: Path) -> Findings:
    found: Findings = []
    for index, column in enumerate(version.additional_printer_columns or ()):
        at = path.index(index)
        if not column.name:
            found.append(required(at.child("name")))
        detail = f"must be one of {','.join(_COLUMN_TYPES)}"
        if not column.type:
            found.append(required(at.child("type"), detail))
        elif column.type not in _COLUMN_TYPES:
            found.append(invalid(at.child("type"), column.type, detail))
        if column.format and column.format not in _COLUMN_FORMATS:
            detail = f"must be one of {','.join(_COLUMN_FORMATS)}"
            found.append(invalid(at.child("format"), column.format, detail))
        if not column.json_path:
            found.append(required(at.child("JSONPath")))
        else:
            found += _simple_path(column.json_path, at.child("JSONPath"))
    return found


def _selectable(version: v1.CustomResourceDefinitionVersion, path: Path) -> Findings:
    fields = version.selectable_fields or []
    if not fields:
        return []
    root = _schema(version)
    if root is None:
        detail = "may only be set when `version.schema.openAPIV3Schema` is not included"
        return [invalid(path, "", detail)]
    found: Findings = []
    seen: set[str] = set()
    for index, selectable in enumerate(fields):
        at, text = path.index(index).child("jsonPath"), selectable.json_path
        if not text:
            found.append(required(at))
            continue
        try:
            there = _field_at(root, text)
        except ValueError as error:
            found.append(invalid(at, text, f"is an invalid path: {error}"))
            continue
        if text.startswith(".metadata.") or text == ".metadata":
            found.append(invalid(at, text, "must not point to fields in metadata"))
        if there.type not in ("string", "boolean", "integer"):
            detail = (
                "must point to a field of type string, boolean or integer. "
                "Enum string fields and strings with formats are allowed."
            )
            found.append(invalid(at, text, detail))
        if text in seen:
            found.append(duplicate(at, text))
        seen.add(text)
    if len(seen) > _MAX_SELECTABLE:
        found.append(too_many(path, len(seen), _MAX_SELECTABLE))
    return found


def _field_at(root: v1.JSONSchemaProps, text: str) -> v1.JSONSchemaProps:
    """What `.spec.color` points to. Raises ValueError if that is nothing."""
    if not text.startswith("."):
        raise ValueError(f"expected [ or . but got: {text[:1]}")
    here = root
    for name in text[1:].split("."):
        field = (here.properties or {}).get(name)
        if field is None and isinstance(here.additional_properties, v1.JSONSchemaProps):
            field = here.additional_properties
        if field is None:
            raise ValueError("does not refer to a valid field")
        here = field
    return here


def _names(found_names: v1.CustomResourceDefinitionNames, path: Path) -> Findings:
    found: Findings = []
    for name, value in (("plural", found_names.plural), ("singular", found_names.singular)):
        if value and (problems := names.dns_1035_label(value)):
            found.append(invalid(path.child(name), value, ",".join(problems)))
    for name, value in (("kind", found_names.kind), ("listKind", found_names.list_kind)):
        if value and (problems := names.dns_1035_label(value.lower())):
            detail = f"may have mixed case, but should otherwise match: {','.join(problems)}"
            found.append(invalid(path.child(name), value, detail))
    for index, value in enumerate(found_names.short_names or ()):
        if problems := names.dns_1035_label(value):
            found.append(invalid(path.child("shortNames").index(index), value, ",".join(problems)))
    if found_names.kind and found_names.kind == found_names.list_kind:
        detail = "kind and listKind may not be the same"
        found.append(invalid(path.child("listKind"), found_names.list_kind, detail))
    for index, value in enumerate(found_names.categories or ()):
        if problems := names.dns_1035_label(value):
            found.append(invalid(path.child("categories").index(index), value, ",".join(problems)))
    return found


def _has_review(conversion: v1.CustomResourceConversion) -> bool:
    versions = conversion.webhook.conversion_review_versions if conversion.webhook else []
    return not versions or bool(set(_REVIEWS) & set(versions))


def _conversion(conversion: v1.CustomResourceConversion | None, recognized: bool) -> Findings:
    """`recognized`: one of the review versions must be one that the server speaks."""
    if conversion is None:
        return []
    path = _SPEC.child("conversion")
    found: Findings = []
    if not conversion.strategy:
        found.append(required(path.child("strategy")))
    elif conversion.strategy not in ("None", "Webhook"):
        found.append(not_supported(path.child("strategy"), conversion.strategy, ("None", "Webhook")))
    webhook = conversion.webhook
    config = webhook.client_config if webhook else None
    versions = webhook.conversion_review_versions if webhook else []
    at, reviews = path.child("webhookClientConfig"), path.child("conversionReviewVersions")
    if conversion.strategy != "Webhook":
        detail = "should not be set when strategy is not set to Webhook"
        if config is not None:
            found.append(forbidden(at, detail))
        if versions:
            found.append(forbidden(reviews, detail))
        return found
    if config is None:
        found.append(required(at, "required when strategy is set to Webhook"))
    elif (config.url is None) == (config.service is None):
        found.append(required(at, "exactly one of url or service is required"))
    elif config.url is not None:
        found += webhookclient.url(config.url, at.child("url"))
    elif (service := config.service) is not None:
        found += webhookclient.service(service.name, service.namespace, service.path, service.port, at.child("service"))
    return found + webhookclient.review_versions(versions, reviews, recognized=recognized, detail="")


def _stored_versions(obj: v1.CustomResourceDefinition) -> Findings:
    at = Path("status").child("storedVersions")
    stored = obj.status.stored_versions or []
    if not stored:
        return [invalid(at, stored, "must have at least one stored version")]
    found: Findings = []
    there = {v.name for v in obj.spec.versions}
    for version in obj.spec.versions:
        if version.storage and version.name not in stored:
            found.append(invalid(at, stored, f"must have the storage version {version.name}"))
    for index, name in enumerate(stored):
        if name not in there:
            detail = (
                f"missing from spec.versions; {name} was previously a storage version, and must remain in "
                f"spec.versions until a storage migration ensures no data remains persisted in {name} and removes "
                f"{name} from "
                "status.storedVersions"
            )
            found.append(invalid(at.index(index), name, detail))
    return found


def api_approval(obj: v1.CustomResourceDefinition) -> tuple[str, str, str] | None:
    """Status, reason and message of KubernetesAPIApprovalPolicyConformant; None for groups of other people."""
    group = f".{obj.spec.group}"
    if not group.endswith((".k8s.io", ".kubernetes.io")):
        return None
    value = (obj.metadata.annotations or {}).get(_APPROVAL, "")
    needed = f'protected groups must have approval annotation "{_APPROVAL}"'
    match _approval_state(obj):
        case "missing":
            return "False", "MissingAnnotation", f"{needed}, {_PULL}"
        case "bypassed":
            return "False", "UnapprovedAnnotation", f"not approved: {quote(value)}"
        case "approved":
            return "True", "ApprovedAnnotation", f"approved in {value}"
    return "False", "InvalidAnnotation", f'{needed} with either a URL or a reason starting with "unapproved", {_PULL}'


def _approval_state(obj: v1.CustomResourceDefinition) -> str:
    value = (obj.metadata.annotations or {}).get(_APPROVAL, "")
    if not value:
        return "missing"
    if value.startswith("unapproved"):
        return "bypassed"
    url = urllib.parse.urlsplit(value)
    return "approved" if url.scheme and url.netloc else "invalid"


def _approval(new: v1.CustomResourceDefinition, old: v1.CustomResourceDefinition | None) -> Findings:
    """Groups of Kubernetes itself need the word of its API reviewers."""
    group = f".{new.spec.group}"
    if not group.endswith((".k8s.io", ".kubernetes.io")):
        return []
    state = _approval_state(new)
    if old is not None and _approval_state(old) == state:
        return []
    at = Path("metadata").child("annotations").key(_APPROVAL)
    if state == "missing":
        return [required(at, f'protected groups must have approval annotation "{_APPROVAL}", {_PULL}')]
    if state == "invalid":
        detail = (
            f'protected groups must have approval annotation "{_APPROVAL}" with either a URL or a reason starting with '
            f'"unapproved", {_PULL}'
        )
        return [invalid(at, (new.metadata.annotations or {})[_APPROVAL], detail)]
    return []


def _preserving(new: v1.CustomResourceDefinition, old: v1.CustomResourceDefinition | None) -> Findings:
    if not new.spec.preserve_unknown_fields or (old is not None and old.spec.preserve_unknown_fields):
        return []
    detail = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead"
    return [invalid(_SPEC.child("preserveUnknownFields"), True, detail)]
