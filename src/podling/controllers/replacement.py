"""How soon a pod that its node rejected is replaced: at once, unless all that came in its place were rejected too.

What a node rejects (NodeAffinity, OutOfcpu, NodePorts, SysctlForbidden) it will reject again, and a rejection takes
milliseconds: a template with a `nodeName` that does not fit would leave thousands of dead pods a minute behind. So a
few rounds of replacements in a row are made at once, those after them with a wait that doubles up to that of a crashing
container. A pod that starts ends the row, and so does a change of the owner's spec.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from podling import clock
from podling.api import core_v1

#: So many rounds are free: a node that is just being drained or has just been filled rejects once or twice.
FREE = 5
#: Seconds before the first round that is not, and the most (the kubelet's for crashing containers).
FIRST, MOST = 1.0, 300.0


def has_started(pod: core_v1.Pod) -> bool:
    """Whether one of its containers ever ran."""
    status = pod.status
    for container in (*(status.init_container_statuses or ()), *(status.container_statuses or ())):
        for state in (container.state, container.last_state):
            if state is not None and (state.running or (state.terminated and state.terminated.started_at)):
                return True
    return False


def is_rejected(pod: core_v1.Pod) -> bool:
    """Failed without ever having run."""
    return pod.status.phase == "Failed" and not has_started(pod)


def delay(rounds: int) -> float:
    """Seconds to wait after so many rounds of rejections in a row."""
    return 0.0 if rounds <= FREE else min(FIRST * 2 ** min(rounds - FREE - 1, 60), MOST)


class _Row(msgspec.Struct):
    """Rejections of one owner's pods, without one in between that ran. `until` is a `clock.elapsed`."""

    generation: int
    #: Rejected pods that are counted, and pods that ran before the last of them.
    counted: set[str] = set()
    started: set[str] = set()
    rounds: int = 0
    until: float = 0.0


class Replacements:
    """The rows of all owners, by key."""

    def __init__(self) -> None:
        self._rows: dict[str, _Row] = {}

    def wait(self, key: str, generation: int | None, pods: Iterable[core_v1.Pod]) -> float:
        """Seconds until rejected ones of the owner's `pods` may be replaced; to be asked at every look at them."""
        pods = list(pods)
        rejected = {p.metadata.uid or "" for p in pods if is_rejected(p)}
        row = self._rows.get(key)
        if row is None:
            if not rejected:
                return 0.0
            row = self._rows[key] = _Row(generation or 0)
        started = {p.metadata.uid or "" for p in pods if p.status.phase != "Failed" and has_started(p)}
        if row.generation != (generation or 0) or (row.rounds and not started <= row.started):
            row = self._rows[key] = _Row(generation or 0, counted=rejected)
        row.started = started
        now = clock.elapsed()
        if row.until <= now:
            if not rejected <= row.counted:
                row.rounds += 1
                row.until = now + delay(row.rounds)
            row.counted = rejected
        return max(0.0, row.until - now)

    def forget(self, key: str) -> None:
        """The owner is gone."""
        self._rows.pop(key, None)
