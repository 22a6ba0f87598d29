"""What lists cost, under upstream's names.

`storage` is where their objects came from: the watch cache, or the store's log for a state that has passed.
"""

from __future__ import annotations

from podling.api.registry import Resource
from podling.metrics import PROCESS

CACHE, STORE = "watchcache", "store"

_LABELS = ("group", "resource", "storage")
_INDEXED = ("group", "index", "resource", "storage")

LISTS = PROCESS.counter("apiserver_storage_list_total", "[ALPHA] Number of LIST requests served from storage", _INDEXED)
FETCHED = PROCESS.counter(
    "apiserver_storage_list_fetched_objects_total",
    "[ALPHA] Number of objects read from storage in the course of serving a LIST request",
    _INDEXED,
)
EVALUATED = PROCESS.counter(
    "apiserver_storage_list_evaluated_objects_total",
    "[ALPHA] Number of objects tested in the course of serving a LIST request from storage",
    _LABELS,
)
RETURNED = PROCESS.counter(
    "apiserver_storage_list_returned_objects_total",
    "[ALPHA] Number of objects returned for a LIST request from storage",
    _LABELS,
)
CONSISTENT = PROCESS.counter(
    "apiserver_watch_cache_consistent_read_total",
    "[ALPHA] Counter for consistent reads from cache.",
    ("fallback", "group", "resource", "success"),
)
TERMINATED = PROCESS.counter(
    "apiserver_terminated_watchers_total",
    "[ALPHA] Counter of watchers closed due to unresponsiveness broken by resource type.",
    ("group", "resource"),
)


def listed(resource: Resource, storage: str, *, fetched: int, evaluated: int, returned: int) -> None:
    """A list was answered."""
    group, name = resource.group, resource.name
    LISTS.add(group, "", name, storage)
    FETCHED.add(group, "", name, storage, by=fetched)
    EVALUATED.add(group, name, storage, by=evaluated)
    RETURNED.add(group, name, storage, by=returned)


def consistent(resource: Resource) -> None:
    """A list waited until the cache had all that was there when it came."""
    CONSISTENT.add("false", resource.group, resource.name, "true")
