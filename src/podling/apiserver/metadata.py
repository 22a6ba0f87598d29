"""Metadata, which is alike in all kinds: what the server fills in, and what must agree with the request."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime

from podling.api import meta_v1, times
from podling.api.errors import bad_request


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
    meta.resource_version = None


def drop_empty(meta: meta_v1.ObjectMeta) -> None:
    """An empty map or list of metadata is as good as none, and is not kept."""
    meta.labels = meta.labels or None
    meta.annotations = meta.annotations or None
    meta.finalizers = meta.finalizers or None
    meta.owner_references = meta.owner_references or None


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
