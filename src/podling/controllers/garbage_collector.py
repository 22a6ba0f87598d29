"""Garbage collection: what has no owner left goes; what is deleted in the foreground goes after what it owns.

A graph of all objects of the cluster, metadata only, is kept from their events. An object that somebody names as owner
but nobody has seen is in it as a virtual node, until a question to the server says whether it exists. Nothing is
deleted on the graph's word alone: before every deletion the object and its owners are read from the server, since the
events of different resources arrive in any order.

    background   the owner is gone; its dependents are found without owner and deleted
    foreground   the owner waits (finalizer foregroundDeletion) until all that block it are gone
    orphan       the owner waits (finalizer orphan) until its dependents no longer name it
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import msgspec

from podling import log
from podling.api import errors
from podling.api.meta_v1 import ObjectMeta, OwnerReference
from podling.api.registry import Resource
from podling.client.base import PatchType
from podling.client.events import WARNING
from podling.client.informer import Informer
from podling.controllers.base import Context, Controller, NotYet

ORPHAN = "orphan"
FOREGROUND = "foregroundDeletion"

_log = log.get(__name__)


class Node(msgspec.Struct, eq=False):
    """An object in the graph. `owners` are as it names them; `dependents` are the uids of those that name it."""

    uid: str
    api_version: str
    kind: str
    name: str
    namespace: str | None
    owners: list[OwnerReference] = []
    dependents: set[str] = set()
    virtual: bool = False
    deleting: bool = False
    #: Deleted in the foreground: waits for its dependents.
    waiting: bool = False


class Graph:
    """All objects by uid, and what an event means for others: pure, the controller does what it returns.

    Methods return the uids to look at: whether they should be deleted, or (`orphan`) their dependents released.
    """

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}

    def observe(self, api_version: str, kind: str, meta: ObjectMeta) -> tuple[set[str], set[str]]:
        """An object was added or changed: (to attempt to delete, to orphan)."""
        uid = meta.uid or ""
        look: set[str] = set()
        orphan: set[str] = set()
        node = self.nodes.get(uid)
        if node is None:
            node = self.nodes[uid] = Node(uid, api_version, kind, meta.name or "", meta.namespace)
        elif node.virtual:
            # Owner references carry no reliable place; the object itself does.
            node.api_version, node.kind, node.name, node.namespace = api_version, kind, meta.name or "", meta.namespace
            node.virtual = False
        look |= self._relink(node, meta.owner_references or [])
        deleting = meta.deletion_timestamp is not None
        finalizers = meta.finalizers or ()
        if deleting and ORPHAN in finalizers and not node.deleting:
            orphan.add(uid)
        if deleting and FOREGROUND in finalizers and not node.waiting:
            node.waiting = True
            look |= {uid, *node.dependents}
        node.deleting = deleting
        return look, orphan

    def forget(self, uid: str) -> set[str]:
        """An object is gone: its dependents may have to go, and owners that waited for it may go."""
        node = self.nodes.pop(uid, None)
        if node is None:
            return set()
        look = set(node.dependents)
        look |= self._unlink(node, node.owners)
        if node.dependents:
            # They still name it: kept as a virtual node would be, until they are looked at.
            self.nodes[uid] = Node(
                uid, node.api_version, node.kind, node.name, node.namespace, dependents=node.dependents, virtual=True
            )
        return look

    def blocking(self, node: Node) -> list[Node]:
        """The dependents that a foreground deletion waits for."""
        found = []
        for uid in node.dependents:
            dependent = self.nodes.get(uid)
            if dependent is None:
                continue
            if any(o.uid == node.uid and o.block_owner_deletion for o in dependent.owners):
                found.append(dependent)
        return found

    def _relink(self, node: Node, owners: list[OwnerReference]) -> set[str]:
        look: set[str] = set()
        before, after = {o.uid: o for o in node.owners}, {o.uid: o for o in owners}
        node.owners = list(owners)
        for uid, owner in after.items():
            if uid not in before:
                look |= self._link(node, owner)
            elif before[uid].block_owner_deletion and not owner.block_owner_deletion:
                look |= self._waiting(uid)
        look |= self._unlink(node, [o for uid, o in before.items() if uid not in after])
        if before.keys() != after.keys() and not before.keys() <= after.keys():
            look.add(node.uid)
        return look

    def _link(self, node: Node, owner: OwnerReference) -> set[str]:
        there = self.nodes.get(owner.uid)
        if there is None:
            there = self.nodes[owner.uid] = Node(
                owner.uid, owner.api_version, owner.kind, owner.name, node.namespace, virtual=True
            )
        there.dependents.add(node.uid)
        if there.virtual:
            return {owner.uid}
        if there.waiting:
            return {node.uid}
        wrong = there.namespace is not None and there.namespace != node.namespace
        return {node.uid} if wrong or (there.kind, there.name) != (owner.kind, owner.name) else set()

    def _unlink(self, node: Node, owners: Iterable[OwnerReference]) -> set[str]:
        look: set[str] = set()
        for owner in owners:
            there = self.nodes.get(owner.uid)
            if there is None:
                continue
            there.dependents.discard(node.uid)
            if there.virtual and not there.dependents:
                del self.nodes[owner.uid]
            elif owner.block_owner_deletion:
                look |= self._waiting(owner.uid)
        return look

    def _waiting(self, uid: str) -> set[str]:
        node = self.nodes.get(uid)
        return {uid} if node is not None and node.waiting else set()


class _Owners(msgspec.Struct):
    """An object's owners by what the server says of them."""

    solid: list[OwnerReference]
    dangling: list[OwnerReference]
    waiting: list[OwnerReference]


class _UnknownKind(Exception):
    """An object, or what it names as its owner, is of a kind that the cluster does not serve, or not yet."""


class _Unresolvable(Exception):
    """An object of the whole cluster names an owner of a kind that is in namespaces: nobody can tell which is meant.

    It is never collected; asking again would change nothing.
    """


class GarbageCollector(Controller):
    """See the module. Keys are `delete/<uid>` and `orphan/<uid>`."""

    name = "garbage-collector-controller"
    component = "garbage-collector-controller"
    workers = 20

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.graph = Graph()
        self._resources = self.resources()
        self._followed: dict[Resource, tuple[Informer[Any], Any]] = {}
        #: Informers of resources that went, to be closed.
        self._dropped: dict[str, Informer[Any]] = {}
        #: Owners that the server said do not exist: (uid, api version, kind, name, namespace).
        self._absent: dict[tuple[str, str, str, str, str | None], None] = {}
        #: What waits for kinds that are not served: nothing is known of owners of such a kind until one appears.
        self._puzzled: set[str] = set()
        self._warned: set[str] = set()
        for resource in self._resources.builtin:
            self._follow(resource)
        self._resources.on_change(self._resources_changed)

    def background(self) -> list[Any]:
        return [self._resources.aggregated.follow(self._resources_changed)]

    def _follow(self, resource: Resource) -> None:
        if resource.name == "events" or resource in self._followed:
            return
        kind = resource.type if resource in self._resources.builtin else None
        informer = self.context.informers.metadata_of(resource, kind)
        builtin = kind is not None

        def seen(obj: Any) -> None:
            look, orphan = self.graph.observe(resource.group_version, resource.kind, obj.metadata)
            self._look(look)
            for uid in orphan:
                self.queue.add(f"orphan/{uid}")

        remove = informer.add_handler(
            on_add=seen,
            on_update=lambda _, new: seen(new),
            on_delete=lambda old: self._look(self.graph.forget(old.metadata.uid or "")),
        )
        self._followed[resource] = (informer, remove)
        if builtin:
            self._watched.append(informer)

    def _resources_changed(self) -> None:
        current = set(self._resources.all())
        for resource in current - self._followed.keys():
            self._follow(resource)
        for resource in self._followed.keys() - current:
            informer, remove = self._followed.pop(resource)
            remove()
            for obj in informer.list():
                self._look(self.graph.forget(obj.metadata.uid or ""))
            self.queue.add(f"drop/{resource.qualified}")
            self._dropped[resource.qualified] = informer
        for key in self._puzzled:
            self.queue.add(key)
        self._puzzled.clear()

    def _look(self, uids: Iterable[str]) -> None:
        for uid in uids:
            self.queue.add(f"delete/{uid}")

    # Reconciliation

    async def reconcile(self, key: str) -> None:
        verb, _, what = key.partition("/")
        if verb == "drop":
            informer = self._dropped.pop(what, None)
            if informer is not None:
                await self.context.informers.drop(informer)
            return
        node = self.graph.nodes.get(what)
        if node is None:
            return
        try:
            if verb == "orphan":
                await self._orphan(node)
            else:
                await self._attempt_delete(node)
        except _UnknownKind as error:
            self._puzzled.add(key)
            self._warn(node, str(error))
        except _Unresolvable as error:
            _log.debug("garbage collection of %s %s: %s", node.kind, node.name, error)

    def _warn(self, node: Node, unknown: str) -> None:
        """Once a kind: whoever names owners of it usually does so many times."""
        if unknown in self._warned:
            return
        self._warned.add(unknown)
        about = f"{node.kind} {node.name}" if node.namespace is None else f"{node.kind} {node.namespace}/{node.name}"
        _log.warning("garbage collection of %s and its like waits until the cluster serves %s", about, unknown)

    async def _attempt_delete(self, node: Node) -> None:
        if node.deleting and not node.waiting:
            return
        meta = await self._read(node.api_version, node.kind, node.name, node.namespace)
        if meta is None or meta.uid != node.uid:
            self._gone(node)
            return
        if node.virtual:
            # It exists and its event is still to come.
            raise NotYet(f"{node.kind} {node.name} has not been observed yet")
        if node.waiting:
            await self._attempt_foreground(node, meta)
            return
        if not meta.owner_references:
            return
        owners = await self._classify(node, meta.owner_references)
        if owners.solid:
            if owners.dangling or owners.waiting:
                await self._disown(node, [o.uid for o in (*owners.dangling, *owners.waiting)])
            return
        if owners.waiting and node.dependents:
            await self._unblock_cycle(node, meta)
            await self._delete(node, meta, "Foreground")
            return
        finalizers = meta.finalizers or ()
        policy = "Orphan" if ORPHAN in finalizers else "Foreground" if FOREGROUND in finalizers else "Background"
        await self._delete(node, meta, policy)

    def _gone(self, node: Node) -> None:
        """The server does not know it: what names it as owner must be looked at."""
        self._note_absent(node.uid, node.api_version, node.kind, node.name, node.namespace)
        dependents = set(node.dependents)
        if not node.virtual:
            dependents |= self.graph.forget(node.uid)
        self._look(dependents)

    async def _attempt_foreground(self, node: Node, meta: ObjectMeta) -> None:
        blocking = self.graph.blocking(node)
        if not blocking:
            await self._remove_finalizer(node, meta, FOREGROUND)
            return
        self._look(d.uid for d in blocking if not d.waiting)

    async def _unblock_cycle(self, node: Node, meta: ObjectMeta) -> None:
        """A dependent that is itself waiting may wait for us: then let it not be us who block our owners."""
        if not any((d := self.graph.nodes.get(uid)) is not None and d.waiting for uid in node.dependents):
            return
        references = []
        for owner in meta.owner_references or ():
            reference = msgspec.to_builtins(owner)
            if owner.block_owner_deletion:
                reference["blockOwnerDeletion"] = False
            references.append(reference)
        await self._patch(node, {"metadata": {"ownerReferences": references, "uid": meta.uid}})

    async def _classify(self, node: Node, references: list[OwnerReference]) -> _Owners:
        owners = _Owners([], [], [])
        for reference in references:
            meta = await self._owner(node, reference)
            if meta is None:
                owners.dangling.append(reference)
            elif meta.deletion_timestamp is not None and FOREGROUND in (meta.finalizers or ()):
                owners.waiting.append(reference)
            else:
                owners.solid.append(reference)
        return owners

    async def _owner(self, node: Node, reference: OwnerReference) -> ObjectMeta | None:
        """What the server says of an owner; None if there is no such object with that uid."""
        resource = self._resource(reference.api_version, reference.kind)
        namespace = node.namespace if resource.namespaced else None
        identity = (reference.uid, reference.api_version, reference.kind, reference.name, namespace)
        if identity in self._absent:
            return None
        there = self.graph.nodes.get(reference.uid)
        observed = there is not None and not there.virtual
        if resource.namespaced and node.namespace is None and observed:
            self._say_invalid(node, reference)
        meta = await self._read(reference.api_version, reference.kind, reference.name, namespace)
        if meta is None or meta.uid != reference.uid:
            self._note_absent(*identity)
            if observed:
                self._say_invalid(node, reference)
            return None
        return meta

    def _say_invalid(self, node: Node, reference: OwnerReference) -> None:
        from podling.api.core_v1 import ObjectReference

        about = ObjectReference(
            api_version=node.api_version, kind=node.kind, name=node.name, namespace=node.namespace, uid=node.uid
        )
        shown = (
            f"[{reference.api_version}/{reference.kind}, namespace: {node.namespace or ''}, "
            f"name: {reference.name}, uid: {reference.uid}]"
        )
        message = f'ownerRef {shown} does not exist in namespace "{node.namespace or ""}"'
        self.recorder.event(about, WARNING, "OwnerRefInvalidNamespace", message)

    async def _orphan(self, owner: Node) -> None:
        for uid in list(owner.dependents):
            dependent = self.graph.nodes.get(uid)
            if dependent is not None and not dependent.virtual:
                await self._disown(dependent, [owner.uid])
        meta = await self._read(owner.api_version, owner.kind, owner.name, owner.namespace)
        if meta is not None and meta.uid == owner.uid:
            await self._remove_finalizer(owner, meta, ORPHAN)

    # Requests

    def _resource(self, api_version: str, kind: str) -> Resource:
        resource = self._resources.by_kind(api_version, kind)
        if resource is None:
            raise _UnknownKind(f"{kind} of {api_version}")
        return resource

    async def _read(self, api_version: str, kind: str, name: str, namespace: str | None) -> ObjectMeta | None:
        resource = self._resource(api_version, kind)
        if resource.namespaced and namespace is None:
            raise _Unresolvable(f"its owner {kind} {name} would be in a namespace")
        try:
            found = await self.client.get(cast(Any, resource), name, namespace if resource.namespaced else None)
        except errors.StatusError as error:
            if errors.is_not_found(error):
                return None
            raise
        meta: ObjectMeta = found.metadata
        return meta

    async def _delete(self, node: Node, meta: ObjectMeta, policy: str) -> None:
        """Delete what the decision was made about: neither a namesake nor an object changed since."""
        try:
            await self.client.delete(
                cast(Any, self._resource(node.api_version, node.kind)),
                node.name,
                node.namespace,
                propagation_policy=policy,
                uid=node.uid,
                resource_version=meta.resource_version,
            )
        except errors.StatusError as error:
            if not errors.is_not_found(error):
                raise

    async def _disown(self, node: Node, owners: list[str]) -> None:
        """Take owner references off by uid."""
        meta = await self._read(node.api_version, node.kind, node.name, node.namespace)
        if meta is None or meta.uid != node.uid:
            return
        kept = [msgspec.to_builtins(o) for o in meta.owner_references or () if o.uid not in owners]
        if len(kept) == len(meta.owner_references or ()):
            return
        patch = {"metadata": {"ownerReferences": kept, "uid": meta.uid, "resourceVersion": meta.resource_version}}
        await self._patch(node, patch)

    async def _remove_finalizer(self, node: Node, meta: ObjectMeta, finalizer: str) -> None:
        kept = [f for f in meta.finalizers or () if f != finalizer]
        if len(kept) == len(meta.finalizers or ()):
            return
        patch = {"metadata": {"finalizers": kept, "resourceVersion": meta.resource_version}}
        await self._patch(node, patch)

    async def _patch(self, node: Node, patch: dict[str, Any]) -> None:
        try:
            resource = cast(Any, self._resource(node.api_version, node.kind))
            await self.client.patch(resource, node.name, node.namespace, patch, type=PatchType.MERGE)
        except errors.StatusError as error:
            if not errors.is_not_found(error):
                raise

    def _note_absent(self, uid: str, api_version: str, kind: str, name: str, namespace: str | None) -> None:
        self._absent[uid, api_version, kind, name, namespace] = None
        if len(self._absent) > 500:
            del self._absent[next(iter(self._absent))]
