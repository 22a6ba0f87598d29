"""How many seats a request is worth, and for how long: lists by what they load, writes by who watches what they write.

KEP-1040, "width of requests"; the numbers are kube-apiserver's. Everything is worth at least one seat and at most
`MOST`, or less on a level that has few.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from podling.api.numbers import NumberError, parse_int
from podling.apiserver.cache import ResourceCache
from podling.apiserver.request_info import RequestInfo, truthy

#: Seats that one request may take.
MOST = 10
_BYTES_PER_SEAT = 100_000
#: What is answered from the cache is held in memory only in part.
_FROM_CACHE = 1_000_000
_WATCHERS_PER_SEAT = 10
#: Seconds that handing an event to the watchers of one seat takes.
_EVENT = 0.005

_WRITES = frozenset(("create", "update", "patch", "delete"))
#: Verbs that may be worth more than one seat.
ESTIMATED = _WRITES | {"list", "watch"}


class Work(NamedTuple):
    """Seats while it executes; seats after that, and for how many seconds."""

    initial: int = 1
    final: int = 0
    latency: float = 0.0


ONE = Work()


def max_seats(nominal: int, hand: int) -> int:
    """The seats that one request may take of a level with `nominal` ones whose flows have `hand` queues."""
    return max(1, min(math.ceil(nominal * 0.15), nominal // hand, MOST))


def estimate(info: RequestInfo, query: Mapping[str, str], cache: ResourceCache, most: int) -> Work:
    """Of a request for a resource that `cache` holds, with one of the verbs `ESTIMATED`."""
    if info.verb in _WRITES:
        return _write(info, cache, most)
    if info.verb == "watch" and not _begins_with_a_list(query):
        return ONE
    return Work(_list(info, query, cache, most))


def _begins_with_a_list(query: Mapping[str, str]) -> bool:
    return truthy(query.get("sendInitialEvents")) or query.get("resourceVersion", "") in ("", "0")


def _list(info: RequestInfo, query: Mapping[str, str], cache: ResourceCache, most: int) -> int:
    count = len(cache.entries)
    if not count:
        return 1
    limit = _limit(query.get("limit", "0"))
    loaded = min(limit, count) if limit else count
    from_cache = info.verb == "watch" or not (query.get("continue") or query.get("resourceVersionMatch") == "Exact")
    if info.name:
        loaded = 1
    elif not from_cache and (info.field_selector or info.label_selector):
        loaded = max(loaded, count // 2)
    size = loaded * cache.size / count
    if from_cache:
        size = min(size, _FROM_CACHE)
    return max(1, min(math.ceil(size / _BYTES_PER_SEAT), most))


def _limit(text: str) -> int:
    """What is no number is refused later."""
    try:
        return max(parse_int(text), 0)
    except NumberError:
        return 0


def _write(info: RequestInfo, cache: ResourceCache, most: int) -> Work:
    if info.resource == "serviceaccounts" and info.subresource == "token":
        # Nothing is written that could be watched.
        return ONE
    watchers = cache.watchers(info.namespace, info.name)
    if watchers < _WATCHERS_PER_SEAT:
        return ONE
    seats = math.ceil(watchers / _WATCHERS_PER_SEAT)
    final = min(seats, most)
    return Work(1, final, seats * _EVENT / final)
