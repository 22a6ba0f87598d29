"""The pods that wait for a node: the most important first.

Three places, as upstream: `active` (to be tried now), `backoff` (to be tried when some time has passed) and
`unschedulable` (to be tried when something has happened that may help; after five minutes in any case). Which events
help depends on the plugins that refused the pod.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter
from enum import Flag, auto
from itertools import count

from podling import clock
from podling.scheduler.cache import PodInfo
from podling.scheduler.metrics import INCOMING

BACKOFF_FIRST, BACKOFF_MOST = 1.0, 10.0
#: A pod that nothing helped is tried again after this many seconds.
LONGEST_WAIT = 300.0


class Happened(Flag):
    """What may let a refused pod fit."""

    NODE_ADDED = auto()
    NODE_CHANGED = auto()
    POD_PLACED = auto()
    POD_GONE = auto()
    POD_CHANGED = auto()
    STORAGE_CHANGED = auto()


#: As upstream's metrics have them.
_EVENTS = {
    Happened.NODE_ADDED: "NodeAdd",
    Happened.NODE_CHANGED: "NodeUpdate",
    Happened.POD_PLACED: "AssignedPodAdd",
    Happened.POD_GONE: "AssignedPodDelete",
    Happened.POD_CHANGED: "AssignedPodUpdate",
    Happened.STORAGE_CHANGED: "PvcUpdate",
}
_ACTIVE, _BACKING_OFF, _REFUSED = "active", "backoff", "unschedulable"

_NODE = Happened.NODE_ADDED | Happened.NODE_CHANGED
#: What each plugin waits for.
HELPS = {
    "NodeUnschedulable": _NODE,
    "NodeName": _NODE,
    "TaintToleration": _NODE,
    "NodeAffinity": _NODE,
    "NodePorts": _NODE | Happened.POD_GONE,
    "NodeResourcesFit": _NODE | Happened.POD_GONE | Happened.POD_CHANGED,
    "VolumeRestrictions": _NODE | Happened.POD_GONE | Happened.STORAGE_CHANGED,
    "VolumeZone": _NODE | Happened.STORAGE_CHANGED,
    "VolumeBinding": _NODE | Happened.STORAGE_CHANGED,
    "PodTopologySpread": _NODE | Happened.POD_GONE | Happened.POD_PLACED | Happened.POD_CHANGED,
    "InterPodAffinity": _NODE | Happened.POD_GONE | Happened.POD_PLACED | Happened.POD_CHANGED,
}


class Waiting:
    """A pod in the queue. `attempts` is how often it was tried in vain."""

    def __init__(self, info: PodInfo) -> None:
        self.info = info
        self.attempts = 0
        self.since = self.first = clock.elapsed()
        self.helps = Happened(0)
        #: Which have refused it last.
        self.plugins: set[str] = set()
        self.ready_at = 0.0


class Queue:
    def __init__(self) -> None:
        self._active: list[tuple[int, float, int, Waiting]] = []
        self._backoff: list[tuple[float, int, Waiting]] = []
        self._unschedulable: dict[str, Waiting] = {}
        self._waiting: dict[str, Waiting] = {}
        self._order = count()
        self._wake = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def __len__(self) -> int:
        return len(self._waiting)

    def pending(self) -> dict[str, int]:
        """How many wait in which queue, by upstream's names of them."""
        backoff = sum(1 for *_, w in self._backoff if self._waiting.get(w.info.uid) is w)
        unschedulable = len(self._unschedulable)
        active = len(self._waiting) - backoff - unschedulable
        return {_ACTIVE: active, _BACKING_OFF: backoff, _REFUSED: unschedulable}

    def refused(self) -> dict[str, int]:
        """How many pods each plugin keeps waiting."""
        return dict(Counter(plugin for waiting in self._unschedulable.values() for plugin in waiting.plugins))

    def put(self, info: PodInfo) -> None:
        """A new pod, or one that changed: it is tried at once."""
        waiting = Waiting(info)
        if old := self._waiting.get(info.uid):
            waiting.attempts, waiting.since, waiting.first = old.attempts, old.since, old.first
        self._forget(info.uid)
        self._waiting[info.uid] = waiting
        self._activate(waiting, "UnscheduledPodUpdate" if old else "UnscheduledPodAdd")

    def update(self, info: PodInfo) -> None:
        """The pod changed in a way that does not help it: it waits where it is."""
        if waiting := self._waiting.get(info.uid):
            waiting.info = info

    def remove(self, uid: str) -> None:
        """The pod needs no node any more."""
        self._forget(uid)

    def retry(self, waiting: Waiting, plugins: set[str] | None) -> None:
        """The pod was tried in vain. `plugins` refused it; None for a failure that time alone may mend."""
        waiting.attempts += 1
        waiting.ready_at = clock.elapsed() + min(BACKOFF_MOST, BACKOFF_FIRST * 2 ** (waiting.attempts - 1))
        self._waiting[waiting.info.uid] = waiting
        waiting.plugins = plugins or set()
        if plugins is None:
            self._back_off(waiting, "ScheduleAttemptFailure")
            return
        INCOMING.add("ScheduleAttemptFailure", _REFUSED)
        waiting.helps = Happened(0)
        for plugin in plugins:
            waiting.helps |= HELPS.get(plugin, ~Happened(0))
        if not plugins:
            waiting.helps = ~Happened(0)
        waiting.since = clock.elapsed()
        self._unschedulable[waiting.info.uid] = waiting
        self._set_timer()

    def happened(self, what: Happened) -> None:
        """Something changed in the cluster: pods that it may help are tried again."""
        for uid, waiting in list(self._unschedulable.items()):
            if waiting.helps & what:
                del self._unschedulable[uid]
                self._back_off(waiting, _EVENTS.get(what, "UnschedulableTimeout"))

    async def get(self) -> Waiting | None:
        """The most important pod that is due; None when closed."""
        while not self._closed:
            while self._active:
                *_, waiting = heapq.heappop(self._active)
                if self._waiting.get(waiting.info.uid) is waiting:
                    del self._waiting[waiting.info.uid]
                    return waiting
            self._wake.clear()
            await self._wake.wait()
        return None

    def close(self) -> None:
        self._closed = True
        self._wake.set()
        if self._timer is not None:
            self._timer.cancel()

    def _forget(self, uid: str) -> None:
        self._waiting.pop(uid, None)
        self._unschedulable.pop(uid, None)

    def _activate(self, waiting: Waiting, event: str) -> None:
        INCOMING.add(event, _ACTIVE)
        heapq.heappush(self._active, (-waiting.info.priority, waiting.since, next(self._order), waiting))
        self._wake.set()

    def _back_off(self, waiting: Waiting, event: str) -> None:
        if waiting.ready_at <= clock.elapsed():
            self._activate(waiting, event)
        else:
            INCOMING.add(event, _BACKING_OFF)
            heapq.heappush(self._backoff, (waiting.ready_at, next(self._order), waiting))
            self._set_timer()

    def _set_timer(self) -> None:
        """One timer, for whatever is due first."""
        due = [self._backoff[0][0]] if self._backoff else []
        if self._unschedulable:
            # Dicts keep their order: the first has waited longest.
            due.append(next(iter(self._unschedulable.values())).since + LONGEST_WAIT)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if due:
            self._timer = asyncio.get_running_loop().call_at(min(due), self._due)

    def _due(self) -> None:
        self._timer = None
        now = clock.elapsed()
        while self._backoff and self._backoff[0][0] <= now:
            *_, waiting = heapq.heappop(self._backoff)
            if self._waiting.get(waiting.info.uid) is waiting:
                self._activate(waiting, "BackoffComplete")
        while self._unschedulable:
            uid, waiting = next(iter(self._unschedulable.items()))
            if waiting.since + LONGEST_WAIT > now:
                break
            del self._unschedulable[uid]
            self._activate(waiting, "UnschedulableTimeout")
        self._set_timer()
