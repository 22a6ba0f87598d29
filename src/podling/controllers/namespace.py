"""Namespaces that go take all they hold with them: pods first, then everything else, then themselves.

Pods go first so that nothing they depend on (policies, configuration, accounts) is taken from under a process that
still runs (KEP-5080). What hinders the end is said in the namespace's conditions.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any, cast

import msgspec

from podling import clock
from podling.api import core_v1, errors, registry, times
from podling.api.registry import Resource
from podling.api.struct import clone
from podling.controllers.base import Context, Controller

#: The finalizer in spec.finalizers that keeps a namespace until it is empty.
FINALIZER = "kubernetes"

_FINE = {
    "NamespaceDeletionDiscoveryFailure": ("ResourcesDiscovered", "All resources successfully discovered"),
    "NamespaceDeletionGroupVersionParsingFailure": (
        "ParsedGroupVersions",
        "All legacy kube types successfully parsed",
    ),
    "NamespaceDeletionContentFailure": (
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
    "NamespaceContentRemaining": ("ContentRemoved", "All content successfully removed"),
    "NamespaceFinalizersRemaining": ("ContentRemoved", "All content successfully removed"),
}


class Remaining(msgspec.Struct):
    """What an attempt to empty a namespace left: counts by `resource.group`, by finalizer, and failures.

    `undiscovered` says what could not be looked into at all.
    """

    objects: Counter[str] = msgspec.field(default_factory=Counter)
    finalizers: Counter[str] = msgspec.field(default_factory=Counter)
    failures: list[str] = msgspec.field(default_factory=list)
    undiscovered: str = ""

    @property
    def empty(self) -> bool:
        return not self.objects and not self.failures and not self.undiscovered


def findings(left: Remaining) -> dict[str, tuple[str, str]]:
    """Reason and message of each condition that is true."""
    found: dict[str, tuple[str, str]] = {}
    if left.undiscovered:
        found["NamespaceDeletionDiscoveryFailure"] = ("DiscoveryFailed", left.undiscovered)
    if left.failures:
        message = f"Failed to delete all resource types, {len(left.failures)} remaining: " + ", ".join(
            sorted(left.failures)
        )
        found["NamespaceDeletionContentFailure"] = ("ContentDeletionFailed", message)
    if left.objects:
        texts = sorted(f"{name} has {count} resource instances" for name, count in left.objects.items())
        message = "Some resources are remaining: " + ", ".join(texts)
        found["NamespaceContentRemaining"] = ("SomeResourcesRemain", message)
    if left.finalizers:
        texts = sorted(f"{name} in {count} resource instances" for name, count in left.finalizers.items())
        message = "Some finalizers are remaining: " + ", ".join(texts)
        found["NamespaceFinalizersRemaining"] = ("SomeFinalizersRemain", message)
    return found


def conditions(
    old: list[core_v1.NamespaceCondition], left: Remaining, now: datetime
) -> list[core_v1.NamespaceCondition]:
    """All five conditions after an attempt; `old` ones keep their transition time while their status stays."""
    found, known = findings(left), {c.type: c for c in old}
    result = [c for c in old if c.type not in _FINE]
    for type_, fine in _FINE.items():
        status = "True" if type_ in found else "False"
        reason, message = found.get(type_, fine)
        before = known.get(type_)
        since = before.last_transition_time if before and before.status == status else times.format(now)
        result.append(
            core_v1.NamespaceCondition(
                type=type_, status=status, reason=reason, message=message, last_transition_time=since
            )
        )
    return result


class NamespaceController(Controller):
    """See the module."""

    name = "namespace-controller"
    workers = 10

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._namespaces = self.watch(core_v1.Namespace, self._changed)
        self._pods = self.informer(core_v1.Pod)
        self._pods.add_handler(on_delete=self._pod_deleted)
        self._resources = self.resources()
        #: How often a namespace was found not empty: the wait grows with it.
        self._rounds: Counter[str] = Counter()

    def _changed(self, namespace: core_v1.Namespace) -> None:
        if namespace.metadata.deletion_timestamp is not None:
            self.enqueue(namespace)

    def _pod_deleted(self, pod: core_v1.Pod) -> None:
        """The last pod is gone: the rest can go, no need to wait for the next round."""
        name = pod.metadata.namespace or ""
        namespace = self._namespaces.get(name)
        if namespace is not None and namespace.metadata.deletion_timestamp and not self._pods.list(name):
            self._rounds.pop(name, None)
            self.queue.add(name)

    async def reconcile(self, key: str) -> None:
        try:
            namespace = await self.client.get(core_v1.Namespace, key)
        except errors.StatusError as error:
            if not errors.is_not_found(error):
                raise
            self._rounds.pop(key, None)
            return
        if namespace.metadata.deletion_timestamp is None:
            return
        if namespace.status.phase != "Terminating":
            namespace = clone(namespace)
            namespace.status.phase = "Terminating"
            namespace = await self.client.update_status(namespace)
        if FINALIZER not in (namespace.spec.finalizers or ()):
            return
        left = await self._empty(key)
        await self._say(namespace, left)
        if left.empty:
            await self._finalize(key)
            return
        self._rounds[key] += 1
        self.queue.add_after(key, min(0.25 * 2 ** min(self._rounds[key], 6), 8.0))

    async def _empty(self, name: str) -> Remaining:
        left = Remaining()
        pods = registry.of(core_v1.Pod)
        await self._delete_all(pods, name, left)
        if not left.empty:
            return left
        for resource in self._resources.all():
            if resource.namespaced and resource is not pods:
                await self._delete_all(resource, name, left)
        await self._delete_aggregated(name, left)
        return left

    async def _delete_aggregated(self, name: str, left: Remaining) -> None:
        """What other API servers hold; what they can't be asked for keeps the namespace."""
        try:
            found = await self._resources.aggregated.discover()
        except errors.StatusError as error:
            left.undiscovered = str(error)
            return
        left.undiscovered = found.failure
        for resource in found.resources:
            if resource.namespaced and "delete" in resource.verbs:
                await self._delete_all(resource, name, left)

    async def _delete_all(self, resource: Resource, namespace: str, left: Remaining) -> None:
        kind = cast(Any, resource)
        try:
            there = await self.client.list(kind, namespace)
            if not there.items:
                return
            if "deletecollection" in resource.verbs:
                await self.client.delete_collection(resource, namespace, propagation_policy="Background")
            else:
                for obj in there.items:
                    await self._delete_one(resource, namespace, obj.metadata.name or "")
            there = await self.client.list(kind, namespace)
        except errors.StatusError as error:
            # A custom resource's definition may have gone meanwhile, and its objects with it.
            if error.code not in (404, 405):
                left.failures.append(str(error))
            return
        if there.items:
            left.objects[f"{resource.name}.{resource.group}"] += len(there.items)
            for obj in there.items:
                left.finalizers.update(obj.metadata.finalizers or ())

    async def _delete_one(self, resource: Resource, namespace: str, name: str) -> None:
        try:
            await self.client.delete(resource, name, namespace, propagation_policy="Background")
        except errors.StatusError as error:
            if not errors.is_not_found(error):
                raise

    async def _say(self, namespace: core_v1.Namespace, left: Remaining) -> None:
        said = conditions(namespace.status.conditions or [], left, clock.now())
        if said == namespace.status.conditions:
            return
        changed = clone(namespace)
        changed.status.conditions = said
        try:
            await self.client.update_status(changed)
        except errors.StatusError as error:
            if not errors.is_not_found(error):
                raise

    async def _finalize(self, name: str) -> None:
        """Take our finalizer off: the server removes the namespace when it has no other."""
        try:
            namespace = clone(await self.client.get(core_v1.Namespace, name))
            namespace.spec.finalizers = [f for f in namespace.spec.finalizers or () if f != FINALIZER]
            await self.client.update_subresource(namespace, "finalize")
        except errors.StatusError as error:
            if not errors.is_not_found(error):
                raise
        self._rounds.pop(name, None)
