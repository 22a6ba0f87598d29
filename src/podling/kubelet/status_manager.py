"""Writes pods' statuses to the API server: only changes, in order, the newest only, until it is written.

What people see of a pod is what was written last; what was written is never older than what it replaces. While a
write is under way newer statuses overwrite each other, so a slow API server gets fewer and larger steps, never a queue.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from podling import clock, log
from podling.api import core_v1, errors
from podling.api.errors import StatusError
from podling.api.struct import to_dict
from podling.client.base import Client, PatchType
from podling.kubelet.measures import Measures
from podling.kubelet.status import OWNED

#: Seconds between tries while the API server is away.
RETRY_FIRST, RETRY_MOST = 0.5, 10.0
#: Seconds after which a status that somebody else wrote is put right.
RECONCILE = 10.0

_log = log.get(__name__)


def status_patch(old: core_v1.PodStatus, new: core_v1.PodStatus) -> dict[str, Any]:
    """The strategic merge patch of `status` that makes `new` of `old`; {} if they are the same."""
    before, after = to_dict(old), to_dict(new)
    patch: dict[str, Any] = {}
    for name in before.keys() | after.keys():
        if before.get(name) == after.get(name):
            continue
        if name == "conditions":
            patch.update(_merged_list(before.get(name) or [], after.get(name) or [], name, "type"))
        elif name == "podIPs":
            patch.update(_merged_list(before.get(name) or [], after.get(name) or [], name, "ip"))
        else:
            patch[name] = after.get(name)
    return patch


def _merged_list(before: list[dict[str, Any]], after: list[dict[str, Any]], name: str, key: str) -> dict[str, Any]:
    """A list that merges by `key`: only what changed is sent, so that what others wrote meanwhile stays."""
    known = {item[key]: item for item in before}
    wanted = {item[key] for item in after}
    items = [_item_patch(known.get(item[key]), item) for item in after if known.get(item[key]) != item]
    items += [{"$patch": "delete", key: gone} for gone in known if gone not in wanted]
    return {name: items, f"$setElementOrder/{name}": [{key: item[key]} for item in after]}


def _item_patch(before: dict[str, Any] | None, after: dict[str, Any]) -> dict[str, Any]:
    return {**dict.fromkeys((before or {}).keys() - after.keys()), **after}


class _Entry(msgspec.Struct):
    """`pod` is the API object as last known, `wanted` the status that it should have, `local` what was set last."""

    pod: core_v1.Pod
    local: core_v1.PodStatus
    version: int = 0
    written: int = 0
    #: When the first change was made that is not written yet.
    since: float = 0.0
    final: bool = False
    task: asyncio.Task[None] | None = None
    timer: asyncio.TimerHandle | None = None


class StatusManager:
    """The statuses of this node's pods by uid. `on_final` is called once a pod's final status has been written, or
    need not be because the pod is gone."""

    def __init__(
        self, client: Client, on_final: Callable[[str], None] = lambda uid: None, *, measures: Measures | None = None
    ) -> None:
        self._client = client
        self._measures = measures or Measures()
        self._on_final = on_final
        self._entries: dict[str, _Entry] = {}
        self._mirrors: dict[str, core_v1.Pod] = {}
        self._closed = False

    def get(self, uid: str) -> core_v1.PodStatus | None:
        """The status that was set last, written or not."""
        entry = self._entries.get(uid)
        return entry.local if entry is not None else None

    def observe(self, pod: core_v1.Pod) -> None:
        """The API object has changed: later patches start from there."""
        entry = self._entries.get(pod.metadata.uid or "")
        if entry is None:
            return
        if _newer(entry.pod, pod) is not pod:
            return
        entry.pod = pod
        theirs = pod.status or core_v1.PodStatus()
        if entry.written == entry.version and entry.timer is None and status_patch(theirs, entry.local):
            loop = asyncio.get_running_loop()
            entry.timer = loop.call_later(RECONCILE, self._reconcile, entry)

    def _reconcile(self, entry: _Entry) -> None:
        """Somebody else wrote the status: what the node says counts, but for a pod that was declared dead."""
        entry.timer = None
        theirs = entry.pod.status or core_v1.PodStatus()
        ours = entry.local
        if theirs.phase in ("Succeeded", "Failed") or entry.written != entry.version:
            return
        own = [c for c in ours.conditions or () if c.type in OWNED]
        others = [c for c in theirs.conditions or () if c.type not in OWNED]
        merged = msgspec.structs.replace(ours, conditions=[*others, *own] or None)
        merged.nominated_node_name = theirs.nominated_node_name
        merged.resource_claim_statuses = theirs.resource_claim_statuses
        entry.local = merged
        if status_patch(theirs, merged):
            entry.version += 1
            self._kick(entry)

    def observe_mirror(self, static_uid: str, mirror: core_v1.Pod | None) -> None:
        """The mirror of a static pod came, changed or went: it is what the static pod's status is written to."""
        if mirror is None:
            self._mirrors.pop(static_uid, None)
            return
        self._mirrors[static_uid] = mirror
        entry = self._entries.get(static_uid)
        if entry is not None:
            entry.version += 1
            self._kick(entry)

    def set(self, pod: core_v1.Pod, status: core_v1.PodStatus, *, final: bool = False) -> bool:
        """This is the pod's status now; whether that is news. `final`: its containers have ended for good."""
        uid = pod.metadata.uid or ""
        entry = self._entries.get(uid)
        known = entry.local if entry is not None else (pod.status or core_v1.PodStatus())
        changed = to_dict(known) != to_dict(status)
        if entry is None:
            entry = self._entries[uid] = _Entry(pod, status)
        entry.pod = _newer(entry.pod, pod)
        entry.local = status
        entry.final = entry.final or final
        if changed:
            if entry.version == entry.written:
                entry.since = clock.elapsed()
            entry.version += 1
        if changed or entry.version != entry.written:
            self._kick(entry)
        elif final:
            self._on_final(uid)
        return changed

    def forget(self, uid: str) -> None:
        """The pod is gone."""
        entry = self._entries.pop(uid, None)
        self._mirrors.pop(uid, None)
        if entry is not None and entry.timer is not None:
            entry.timer.cancel()
        if entry is not None and entry.task is not None:
            entry.task.cancel()

    async def settled(self, uid: str) -> None:
        """Until the last status that was set is written (or the pod is found gone)."""
        entry = self._entries.get(uid)
        if entry is not None and entry.task is not None:
            await asyncio.wait([entry.task])

    async def close(self) -> None:
        self._closed = True
        for entry in self._entries.values():
            if entry.timer is not None:
                entry.timer.cancel()
        tasks = [e.task for e in self._entries.values() if e.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _kick(self, entry: _Entry) -> None:
        if entry.task is None and not self._closed:
            entry.task = asyncio.create_task(self._write(entry), name="status of " + (entry.pod.metadata.name or ""))

    async def _write(self, entry: _Entry) -> None:
        delay = RETRY_FIRST
        try:
            while entry.written != entry.version:
                version = entry.version
                try:
                    await self._write_once(entry)
                    entry.written = max(entry.written, version)
                    if entry.written == entry.version:
                        self._measures.status_written(clock.elapsed() - entry.since)
                    delay = RETRY_FIRST
                except StatusError as error:
                    if errors.is_not_found(error) or (errors.is_conflict(error) and "uid" in str(error).lower()):
                        entry.written = entry.version
                        break
                    _log.debug("status of %s not written: %s", entry.pod.metadata.name, error)
                    await asyncio.sleep(delay)
                    delay = min(delay * 2, RETRY_MOST)
        except asyncio.CancelledError:
            raise
        except Exception:
            _log.exception("status of %s could not be written", entry.pod.metadata.name)
        finally:
            entry.task = None
        if entry.final:
            self._on_final(entry.pod.metadata.uid or "")

    async def _write_once(self, entry: _Entry) -> None:
        uid = entry.pod.metadata.uid or ""
        static = "kubernetes.io/config.source" in (entry.pod.metadata.annotations or {})
        target = self._mirrors.get(uid) if static else entry.pod
        if target is None:
            return
        patch = status_patch(target.status or core_v1.PodStatus(), entry.local)
        if not patch:
            return
        written = await self._client.patch(
            core_v1.Pod,
            target.metadata.name or "",
            target.metadata.namespace,
            {"metadata": {"uid": target.metadata.uid}, "status": patch},
            type=PatchType.STRATEGIC,
            subresource="status",
        )
        if static:
            self._mirrors[uid] = written
        else:
            entry.pod = _newer(entry.pod, written)


def _newer(known: core_v1.Pod, other: core_v1.Pod) -> core_v1.Pod:
    """Whichever of two states of an object is the later one: what an informer says may lag behind a write's answer."""
    try:
        older = int(other.metadata.resource_version or 0) < int(known.metadata.resource_version or 0)
    except ValueError:
        older = False
    return known if older else other
