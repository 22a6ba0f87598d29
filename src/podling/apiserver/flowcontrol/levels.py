"""All priority levels: which there are, how the server's seats are shared out, and what idle levels lend to busy ones.

`digest` takes the API objects as a whole, whenever one of them changes; `rebalance` is called every `PERIOD` seconds
and moves seats to where they were asked for (KEP-1040, "dispatching among priority levels"). The mandatory levels and
schemas are there even when their objects are not.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from podling.api import flowcontrol_v1 as v1
from podling.api import meta_v1
from podling.api.request import User
from podling.apiserver.flowcontrol import classify, sharding, work
from podling.apiserver.flowcontrol.allocation import Claim, allocate
from podling.apiserver.flowcontrol.demand import Demand
from podling.apiserver.flowcontrol.dropped import Dropped
from podling.apiserver.flowcontrol.metrics import Measures
from podling.apiserver.flowcontrol.queueset import QueueSet, Shape, Stats
from podling.apiserver.request_info import RequestInfo
from podling.apiserver.resources.flowcontrol import mandatory

#: Seconds between two adjustments of what levels lend.
PERIOD = 10.0
#: How much of the smoothed demand a period keeps: it is halved in five minutes.
_SMOOTHING = 0.977
#: Classifications that are remembered.
_REMEMBERED = 10_000


class Level:
    """One priority level. `nominal` seats are its own, between `lowest` and `highest` it may have, `limit` it has."""

    def __init__(self, name: str, now: float) -> None:
        self.name = name
        self.uid = ""
        self.exempt = False
        self.set = QueueSet(now)
        self.nominal = self.lowest = self.highest = self.limit = 0
        #: Its object is gone, but not all of its requests.
        self.quiescing = False
        self.max_seats = work.MOST
        self.dropped = Dropped()
        self.stats: dict[str, Stats] = {}
        self.demand = Demand(0.0, 0.0, 0.0, 0.0)
        self.smoothed = self.target = 0.0
        self.shape = Shape(0)
        self.shares = self.lendable = 0
        self.borrowing: int | None = None

    def take(self, obj: v1.PriorityLevelConfiguration) -> None:
        """It is to be as this object says."""
        spec = obj.spec
        self.uid = obj.metadata.uid or ""
        self.exempt = spec.type == "Exempt"
        common = spec.exempt if self.exempt else spec.limited
        assert common is not None
        self.shares = common.nominal_concurrency_shares or 0
        self.lendable = common.lendable_percent or 0
        self.borrowing = spec.limited.borrowing_limit_percent if spec.limited is not None else None
        queuing = spec.limited.limit_response.queuing if spec.limited is not None else None
        if self.exempt:
            self.shape = Shape(-1)
        elif queuing is None:
            self.shape = Shape(0)
        else:
            self.shape = Shape(queuing.queues or 0, queuing.hand_size or 0, queuing.queue_length_limit or 0)
        self.quiescing = False

    def share(self, total: int, shares: int) -> None:
        """Its part of the server's `total` seats, of which all levels together hold `shares`."""
        self.nominal = math.ceil(total * self.shares / shares) if shares else 0
        lent = _rounded(self.nominal * self.lendable / 100)
        borrowed = total if self.borrowing is None else _rounded(self.nominal * self.borrowing / 100)
        self.lowest, self.highest = self.nominal - lent, self.nominal + borrowed
        self.set.wanted.compare(self.nominal)
        if self.shape.hand:
            self.max_seats = work.max_seats(self.nominal, self.shape.hand)

    def observe(self, now: float) -> None:
        """What was asked of it since the last time."""
        self.demand = self.set.demand.reset(now)
        if self.demand.seconds > 0:
            wanted = self.demand.average + self.demand.deviation
            self.smoothed = max(wanted, _SMOOTHING * self.smoothed + (1 - _SMOOTHING) * wanted)

    @property
    def floor(self) -> int:
        """It is not left with less: it is using it."""
        used = int(self.demand.high)
        return max(self.lowest, used if self.exempt else min(self.nominal, used))


class Flow:
    """What there is to know of requests that are alike: found once, used often."""

    __slots__ = ("distinguisher", "hand", "headers", "level", "measures", "schema", "stats")

    def __init__(self, schema: v1.FlowSchema, level: Level, distinguisher: str) -> None:
        self.schema = name = schema.metadata.name or ""
        self.level = level
        self.distinguisher = distinguisher
        shape = level.shape
        self.hand: tuple[int, ...] = ()
        if shape.queues > 0:
            self.hand = sharding.deal(sharding.flow_hash(name, distinguisher), shape.queues, shape.hand)
        self.stats = level.stats.setdefault(name, Stats())
        self.measures = Measures(name, level.name)
        #: UIDs, since names would tell outsiders too much.
        self.headers = (
            f"X-Kubernetes-PF-FlowSchema-UID: {schema.metadata.uid or ''}\r\n"
            f"X-Kubernetes-PF-PriorityLevel-UID: {level.uid}\r\n"
        )


class Levels:
    """`total` seats, for all requests that are not exempt."""

    def __init__(self, total: int, now: float) -> None:
        self.total = total
        self.levels: dict[str, Level] = {}
        self.schemas: list[v1.FlowSchema] = []
        #: The fraction of its target that each level got.
        self.fraction = 0.0
        self._objects: tuple[list[v1.PriorityLevelConfiguration], list[v1.FlowSchema]] = [], []
        self._flows: dict[tuple[str, str], Flow] = {}
        self._known: dict[tuple[object, ...], Flow] = {}
        self.digest([], [], now)

    # Configuration

    def digest(
        self, levels: Iterable[v1.PriorityLevelConfiguration], schemas: Iterable[v1.FlowSchema], now: float
    ) -> None:
        """From now on these objects count. Levels that are no longer wanted stay until their requests have ended."""
        self._objects = list(levels), list(schemas)
        wanted = {o.metadata.name or "": o for o in self._objects[0] if sound(o)}
        for name in mandatory.PRIORITY_LEVELS.keys() - wanted.keys():
            wanted[name] = imagined_level(name)
        self._take_levels(wanted, now)
        chosen = [s for s in self._objects[1] if s.spec.priority_level_configuration.name in wanted]
        names = {s.metadata.name for s in chosen}
        chosen += [imagined_schema(name) for name in mandatory.FLOW_SCHEMAS if name not in names]
        self.schemas = sorted(chosen, key=classify.precedence)
        self._flows.clear()
        self._known.clear()
        self.rebalance(now)

    def _take_levels(self, wanted: dict[str, v1.PriorityLevelConfiguration], now: float) -> None:
        for name, level in list(self.levels.items()):
            if name not in wanted:
                level.quiescing = True
                if level.set.idle:
                    del self.levels[name]
        fresh = []
        for name, obj in wanted.items():
            if name not in self.levels:
                self.levels[name] = Level(name, now)
                fresh.append(name)
            self.levels[name].take(obj)
        shares = sum(level.shares for level in self.levels.values())
        for name, level in self.levels.items():
            level.share(self.total, shares)
            if name in fresh:
                level.limit = level.nominal - (level.nominal - level.lowest) // 2

    def drained(self, now: float) -> None:
        """A level that is no longer wanted has become idle: its seats are shared out anew."""
        self.digest(*self._objects, now)

    def rebalance(self, now: float) -> None:
        """Seats go to where they were asked for since the last time."""
        limited: list[Level] = []
        remaining = total = sum(level.nominal for level in self.levels.values())
        for level in self.levels.values():
            level.observe(now)
            if level.exempt:
                level.limit = level.floor
                remaining -= level.floor
            else:
                limited.append(level)
        limits, self.fraction = _limits(limited, total, remaining)
        for level, limit in zip(limited, limits, strict=True):
            level.limit = limit
        for level in self.levels.values():
            level.set.configure(level.shape, level.limit, now)

    # Classification

    def flow(self, user: User, info: RequestInfo) -> Flow:
        """Which flow a request belongs to."""
        key = (
            user.name, user.groups, info.verb, info.group, info.resource, info.subresource, info.namespace,
            "" if info.resource else info.path,
        )  # fmt: skip
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
                self._flows.clear()
            found = self._known[key] = self._classify(user, info)
        return found

    def _classify(self, user: User, info: RequestInfo) -> Flow:
        schema = classify.choose(self.schemas, user, info)
        level = self.levels[schema.spec.priority_level_configuration.name or ""]
        # With one queue or none there is nothing to tell apart.
        distinguisher = classify.distinguisher(schema.spec, user, info) if level.shape.queues > 1 else ""
        key = schema.metadata.name or "", distinguisher
        found = self._flows.get(key)
        if found is None:
            found = self._flows[key] = Flow(schema, level, distinguisher)
        return found


def _limits(levels: Sequence[Level], total: int, remaining: int) -> tuple[list[int], float]:
    """The seats of each limited level, of `total` ones of which the exempt leave `remaining`; and the fair fraction."""
    lowest, floors = sum(level.lowest for level in levels), sum(level.floor for level in levels)
    for level in levels:
        level.target = max(float(level.floor), level.smoothed)
    if remaining <= lowest:
        return [level.lowest for level in levels], 0.0
    if remaining <= floors:
        part = (remaining - lowest) / (floors - lowest)
        return [level.lowest + _rounded((level.floor - level.lowest) * part) for level in levels], 0.0
    claims = [Claim(level.target, float(level.floor), float(level.highest)) for level in levels]
    try:
        seats, fraction = allocate(total, claims)
    except ValueError:
        # Borrowing limits that leave seats over: everyone keeps what it has.
        return [level.limit for level in levels], 0.0
    return [_rounded(s) for s in seats], fraction


def _rounded(value: float) -> int:
    """Halves go up."""
    return math.floor(value + 0.5)


def sound(obj: v1.PriorityLevelConfiguration) -> bool:
    """Whether the parts of an object fit together; one that was stored by another version may not."""
    spec = obj.spec
    if (spec.type == "Exempt") != (obj.metadata.name == "exempt") or (spec.type == "Exempt") != (
        spec.exempt is not None
    ):
        return False
    if (spec.type == "Limited") != (spec.limited is not None):
        return False
    response = spec.limited.limit_response if spec.limited is not None else None
    if response is None or response.queuing is None:
        return response is None or response.type == "Reject"
    queuing = response.queuing
    return response.type == "Queue" and 0 < (queuing.hand_size or 0) <= (queuing.queues or 0)


def imagined_level(name: str) -> v1.PriorityLevelConfiguration:
    """A mandatory level without an object."""
    return v1.PriorityLevelConfiguration(
        metadata=meta_v1.ObjectMeta(name=name), spec=mandatory.PRIORITY_LEVELS[name]
    )  # fmt: skip


def imagined_schema(name: str) -> v1.FlowSchema:
    """A mandatory schema without an object."""
    return v1.FlowSchema(metadata=meta_v1.ObjectMeta(name=name), spec=mandatory.FLOW_SCHEMAS[name])
