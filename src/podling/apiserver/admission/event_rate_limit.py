"""EventRateLimit: not more events than the API server, a namespace, a user or a thing is allowed."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Literal

import msgspec

from podling import clock
from podling.api import core_v1, errors
from podling.apiserver.admission.base import CREATE, UPDATE, Attributes, Plugin
from podling.apiserver.core import Core
from podling.errors import PodlingError


class Limit(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """`qps` events a second in the long run, `burst` at once. `cache_size` keys are remembered."""

    type: Literal["Server", "Namespace", "User", "SourceAndObject"]
    qps: float
    burst: int
    cache_size: int = 4096


class Configuration(msgspec.Struct):
    """eventratelimit.admission.k8s.io/v1alpha1"""

    limits: list[Limit] = []


class Bucket:
    """Holds tokens that come back with time."""

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self._tokens = float(limit.burst)
        self._at = clock.elapsed()

    def take(self) -> bool:
        """Whether there was one."""
        now = clock.elapsed()
        self._tokens = min(float(self._limit.burst), self._tokens + (now - self._at) * self._limit.qps)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Enforcer:
    """One limit, with a bucket a key."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def accepts(self, key: str) -> bool:
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = Bucket(self.limit)
            if len(self._buckets) > self.limit.cache_size:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(key)
        return bucket.take()


class EventRateLimit(Plugin):
    name = "EventRateLimit"
    operations = frozenset((CREATE, UPDATE))
    resources = frozenset(("events", "events.events.k8s.io"))
    validates = True

    def __init__(self, app: Core, configuration: Configuration | None = None) -> None:
        super().__init__(app)
        if configuration is None:
            raise PodlingError("EventRateLimit needs limits: name them in the file of admission-control-config-file")
        self._enforcers = [Enforcer(limit) for limit in configuration.limits]

    @classmethod
    def parse(cls, document: dict[str, Any]) -> Configuration:
        found = msgspec.convert(document, Configuration)
        if not found.limits:
            raise ValueError("limits: Invalid value: []: must not be empty")
        for index, limit in enumerate(found.limits):
            for field, value in (("burst", limit.burst), ("qps", limit.qps)):
                if value <= 0:
                    raise ValueError(f"limits[{index}].{field}: Invalid value: {value}: must be positive")
        return found

    async def validate(self, attributes: Attributes) -> None:
        refusal = None
        # Each is charged, whatever the others say.
        for enforcer in self._enforcers:
            key = _key(enforcer.limit.type, attributes)
            if not enforcer.accepts(key):
                refusal = f"limit reached on type {enforcer.limit.type} for key {key}"
        if refusal is not None and not attributes.dry_run:
            raise errors.too_many_requests(f"Too many requests: {refusal}", 1)


def _key(type_: str, attributes: Attributes) -> str:
    if type_ == "Server":
        return ""
    if type_ == "Namespace":
        return attributes.namespace
    if type_ == "User":
        return attributes.user.name
    event = attributes.obj
    source = getattr(event, "source", None) or core_v1.EventSource()
    about = getattr(event, "involved_object", None) or getattr(event, "regarding", None) or core_v1.ObjectReference()
    parts = (source.component, source.host, about.kind, about.namespace, about.name, about.uid, about.api_version)
    return "".join(part or "" for part in parts)
