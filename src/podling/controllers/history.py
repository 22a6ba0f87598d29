"""ControllerRevisions: the templates that a DaemonSet or StatefulSet has had, to go back to.

A revision's data is a strategic merge patch that puts the template back, which is what `kubectl rollout undo` applies.
"""

from __future__ import annotations

from typing import Any

from podling.api import apps_v1, errors
from podling.api.meta_v1 import ObjectMeta
from podling.api.struct import clone, to_dict
from podling.client.client import ApiClient
from podling.controllers.base import NotYet
from podling.controllers.hashing import pruned, template_hash
from podling.controllers.references import controller_reference

Revision = apps_v1.ControllerRevision
#: The label of pods (and of a DaemonSet's revisions) that names their revision.
LABEL = "controller-revision-hash"


def patch_of(owner: Any) -> dict[str, Any]:
    """What puts the owner's present template back."""
    return {"spec": {"template": {**to_dict(owner.spec.template), "$patch": "replace"}}}


def matches(owner: Any, revision: Revision) -> bool:
    """Whether the revision is of the owner's present template."""
    return bool(pruned(patch_of(owner)) == pruned(revision.data))


def number(revision: Revision) -> int:
    return revision.revision or 0


def name_and_hash(owner: Any) -> tuple[str, str]:
    hashed = template_hash(owner.spec.template, owner.status.collision_count)
    return f"{(owner.metadata.name or '')[: 252 - len(hashed)]}-{hashed}", hashed


class History:
    """The revisions of one owner. `hash_label` is the label of a revision that holds the hash of its template."""

    def __init__(self, client: ApiClient, owner: Any, revisions: list[Revision], *, hash_label: str) -> None:
        self._client = client
        self._owner = owner
        self._hash_label = hash_label
        self.revisions = sorted(revisions, key=number)

    async def current(self) -> Revision:
        """The revision of the present template, with the highest number of all; made if it is not there."""
        same = self.same()
        others = [r for r in self.revisions if r not in same]
        following = max((number(r) for r in others), default=0) + 1
        if not same:
            return await self._create(following)
        found = same[-1]
        if number(found) < following:
            changed = clone(found)
            changed.revision = following
            found = await self._client.update(changed)
        return found

    def same(self) -> list[Revision]:
        """The revisions of the present template, the one to keep last. More than one if others make revisions too."""
        return [r for r in self.revisions if matches(self._owner, r)]

    async def _create(self, following: int) -> Revision:
        owner = self._owner
        name, hashed = name_and_hash(owner)
        labels = owner.spec.template.metadata.labels if owner.spec.template.metadata else None
        made = Revision(
            metadata=ObjectMeta(
                name=name,
                namespace=owner.metadata.namespace,
                labels={**(labels or {}), self._hash_label: hashed},
                annotations=dict(owner.metadata.annotations or {}) or None,
                owner_references=[controller_reference(owner)],
            ),
            data=patch_of(owner),
            revision=following,
        )
        try:
            return await self._client.create(made)
        except errors.StatusError as error:
            if not errors.is_already_exists(error):
                raise
        there = await self._client.get(Revision, name, owner.metadata.namespace)
        if matches(owner, there):
            return there
        changed = clone(await self._client.get(type(owner), owner.metadata.name, owner.metadata.namespace))
        changed.status.collision_count = (changed.status.collision_count or 0) + 1
        await self._client.update_status(changed)
        raise NotYet(f"revision {name} exists and is another's: the hash is made anew")

    async def clean_up(self, limit: int | None, live: set[str]) -> None:
        """Delete the oldest revisions beyond the limit, but none that `live` names."""
        dead = [r for r in self.revisions if r.metadata.name not in live]
        await self.delete(dead[: max(len(dead) - (limit if limit is not None else 10), 0)])

    async def delete(self, revisions: list[Revision]) -> None:
        """Delete some of them; they may be gone already."""
        for revision in revisions:
            try:
                await self._client.delete(Revision, revision.metadata.name or "", revision.metadata.namespace)
            except errors.StatusError as error:
                if not errors.is_not_found(error):
                    raise
            self.revisions.remove(revision)
