"""Metadata, which is alike in all kinds: what the server fills in, and what is wrong with what a client sent.

The rules and texts are upstream's (k8s.io/apimachinery pkg/api/validation).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime
from typing import Any

from podling.api import meta_v1, names, times
from podling.api.errors import FieldError, bad_request
from podling.apiserver.strategy import Strategy

_MAX_ANNOTATIONS = 256 * 1024
_FOREGROUND, _ORPHAN = "foregroundDeletion", "orphan"


def new_uid() -> str:
    """A random UUID; the same in every run of a simulation with the same seed."""
    n = f"{random.getrandbits(128):032x}"
    return f"{n[:8]}-{n[8:12]}-4{n[13:16]}-{'89ab'[int(n[16], 16) & 3]}{n[17:20]}-{n[20:]}"


def fill_system_fields(meta: meta_v1.ObjectMeta, now: datetime) -> None:
    """What only the server may say of a new object."""
    meta.creation_timestamp = times.format(now)
    meta.uid = new_uid()
    meta.deletion_timestamp = None
    meta.deletion_grace_period_seconds = None
    meta.generation = None
    meta.self_link = None
    meta.managed_fields = None
    meta.resource_version = None


def settle_namespace(meta: meta_v1.ObjectMeta, namespace: str, *, namespaced: bool) -> None:
    """The request's namespace goes into the object. StatusError 400 if it says another."""
    expected = namespace if namespaced else ""
    if not meta.namespace:
        meta.namespace = expected or None
    elif meta.namespace != expected:
        if not namespaced:
            meta.namespace = None
            return
        raise bad_request("the namespace of the provided object does not match the namespace sent on the request")


def check_name(meta: meta_v1.ObjectMeta, name: str, namespace: str) -> None:
    """StatusError 400 unless the object is the one of the URL."""
    if (meta.name or "") != name:
        if not meta.name:
            raise bad_request("the name of the object ( based on URL) was undeterminable: name must be provided")
        raise bad_request(f"the name of the object ({meta.name}) does not match the name on the URL ({name})")
    if namespace and meta.namespace and meta.namespace != namespace:
        raise bad_request(
            f"the namespace of the object ({meta.namespace}) does not match the namespace on the request ({namespace})"
        )


def dedupe_owners(meta: meta_v1.ObjectMeta, warn: Callable[[str], None], *, after_admission: bool = False) -> None:
    """Of equal owner references only the first stays."""
    owners = meta.owner_references
    if owners is None or len(owners) < 2:
        return
    kept: list[meta_v1.OwnerReference] = []
    twice = []
    for owner in owners:
        if owner in kept:
            twice.append(owner.uid)
        else:
            kept.append(owner)
    if twice:
        when = " after mutating admission happens" if after_admission else ""
        warn(
            f".metadata.ownerReferences contains duplicate entries{when}; API server dedups owner references in 1.20+, "
            f"and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: "
            f"{', '.join(twice)}"
        )
        meta.owner_references = kept


def _invalid(field: str, value: Any, why: str) -> FieldError:
    shown = f'"{value}"' if isinstance(value, str) else str(value)
    return FieldError("FieldValueInvalid", field, f"Invalid value: {shown}: {why}")


def _required(field: str, why: str) -> FieldError:
    return FieldError("FieldValueRequired", field, f"Required value: {why}" if why else "Required value")


def validate(meta: meta_v1.ObjectMeta, strategy: Strategy[Any]) -> list[FieldError]:
    """What is wrong with the metadata of a new object."""
    found: list[FieldError] = []
    if meta.generate_name:
        for why in strategy.validate_name(meta.generate_name, prefix=True):
            found.append(_invalid("metadata.generateName", meta.generate_name, why))
    if not meta.name:
        found.append(_required("metadata.name", "name or generateName is required"))
    else:
        for why in strategy.validate_name(meta.name, prefix=False):
            found.append(_invalid("metadata.name", meta.name, why))
    found += _common(meta, namespaced=strategy.resource.namespaced)
    return found


def _common(meta: meta_v1.ObjectMeta, *, namespaced: bool) -> list[FieldError]:
    found: list[FieldError] = []
    if namespaced:
        if not meta.namespace:
            found.append(_required("metadata.namespace", ""))
        else:
            for why in names.dns_label(meta.namespace):
                found.append(_invalid("metadata.namespace", meta.namespace, why))
    elif meta.namespace:
        found.append(FieldError("FieldValueForbidden", "metadata.namespace", "Forbidden: not allowed on this type"))
    if meta.labels:
        found += _labels(meta.labels)
    if meta.annotations:
        found += _annotations(meta.annotations)
    if meta.owner_references:
        found += _owners(meta.owner_references)
    if meta.finalizers:
        found += _finalizers(meta.finalizers)
    return found


def validate_update(new: meta_v1.ObjectMeta, old: meta_v1.ObjectMeta, strategy: Strategy[Any]) -> list[FieldError]:
    """What is wrong with the metadata of a changed object. Version and generation are the handler's business."""
    if new == old:
        return []
    found: list[FieldError] = []
    # Upstream checks an update as it checks a new object, and then what may not change.
    found += _common(new, namespaced=strategy.resource.namespaced)
    if old.deletion_timestamp:
        extra = sorted(set(new.finalizers or ()) - set(old.finalizers or ()))
        if extra:
            listed = ", ".join(f'"{e}"' for e in extra)
            why = (
                "no new finalizers can be added if the object is being deleted, found new finalizers "
                f"[]string{{{listed}}}"
            )
            found.append(FieldError("FieldValueForbidden", "metadata.finalizers", f"Forbidden: {why}"))
    for field, attribute in (
        ("name", "name"),
        ("namespace", "namespace"),
        ("uid", "uid"),
        ("creationTimestamp", "creation_timestamp"),
        ("deletionTimestamp", "deletion_timestamp"),
        ("deletionGracePeriodSeconds", "deletion_grace_period_seconds"),
    ):
        value = getattr(new, attribute)
        if value != getattr(old, attribute):
            found.append(_invalid(f"metadata.{field}", "null" if value is None else value, "field is immutable"))
    return found


def _labels(labels: dict[str, str]) -> list[FieldError]:
    found = []
    for key, value in labels.items():
        for why in names.qualified_name(key):
            found.append(_invalid("metadata.labels", key, why))
        for why in names.label_value(value):
            found.append(_invalid("metadata.labels", value, why))
    return found


def _annotations(annotations: dict[str, str]) -> list[FieldError]:
    found = []
    size = 0
    for key, value in annotations.items():
        size += len(key.encode()) + len(value.encode())
        for why in names.qualified_name(key.lower()):
            found.append(_invalid("metadata.annotations", key, why))
    if size > _MAX_ANNOTATIONS:
        body = f"Too long: may not be more than {_MAX_ANNOTATIONS} bytes"
        found.append(FieldError("FieldValueTooLong", "metadata.annotations", body))
    return found


def _owners(owners: list[meta_v1.OwnerReference]) -> list[FieldError]:
    found: list[FieldError] = []
    controller = ""
    for i, owner in enumerate(owners):
        path = f"metadata.ownerReferences[{i}]"
        for field, value in (
            ("apiVersion", owner.api_version),
            ("kind", owner.kind),
            ("name", owner.name),
            ("uid", owner.uid),
        ):
            if not value:
                found.append(_required(f"{path}.{field}", "must not be empty"))
        if owner.api_version.count("/") > 1:
            found.append(_invalid(f"{path}.apiVersion", owner.api_version, "must be <group>/<version> or <version>"))
        if (owner.api_version, owner.kind) == ("v1", "Event"):
            found.append(_invalid(path, "", "/v1, Kind=Event is disallowed from being an owner"))
        if owner.controller:
            this = f"{owner.kind}/{owner.name}"
            if controller:
                why = (
                    'Only one reference can have Controller set to true. Found "true" in references for '
                    f"{controller} and {this}"
                )
                found.append(_invalid("metadata.ownerReferences", "", why))
            controller = controller or this
    return found


def _finalizers(finalizers: list[str]) -> list[FieldError]:
    found = []
    for finalizer in finalizers:
        for why in names.qualified_name(finalizer):
            found.append(_invalid("metadata.finalizers", finalizer, why))
    if _FOREGROUND in finalizers and _ORPHAN in finalizers:
        why = f"finalizer {_ORPHAN} and {_FOREGROUND} cannot be both set"
        found.append(_invalid("metadata.finalizers", finalizers, why))
    return found
