"""OwnerReferencesPermissionEnforcement: who may not delete an object may not have it deleted by giving it an owner.

And who may not hold up the owner's deletion may not have that done by an object that blocks it.
"""

from __future__ import annotations

from typing import Any

from podling.api import meta_v1
from podling.apiserver.admission.base import CREATE, UPDATE, Attributes, Plugin
from podling.apiserver.admission.refusal import forbidden
from podling.apiserver.authz.attributes import Attributes as Asked
from podling.apiserver.authz.attributes import Decision, settled


class OwnerReferencesPermissionEnforcement(Plugin):
    name = "OwnerReferencesPermissionEnforcement"
    operations = frozenset((CREATE, UPDATE))
    subresources = None
    validates = True

    def handles(self, attributes: Attributes) -> bool:
        # A pod's status can't change its owners.
        status = attributes.qualified == "pods" and attributes.subresource == "status"
        return super().handles(attributes) and not status

    async def validate(self, attributes: Attributes) -> None:
        new, old = owners(attributes.obj), owners(attributes.old)
        if self.app.authorizer is None or new == old:
            return
        resource = attributes.resource
        asked = Asked(
            attributes.user, "delete", resource.group, resource.version, resource.name, attributes.subresource,
            attributes.namespace, attributes.name,
        )  # fmt: skip
        decision = await settled(self.app.authorizer(asked))
        if not decision.allowed:
            why = f"cannot set an ownerRef on a resource you can't delete: {_why(decision)}"
            raise forbidden(attributes, why)
        blocking = {o.uid for o in old if o.block_owner_deletion}
        for owner in new:
            if owner.block_owner_deletion and owner.uid not in blocking:
                await self._check_blocking(attributes, owner)

    async def _check_blocking(self, attributes: Attributes, owner: meta_v1.OwnerReference) -> None:
        assert self.app.authorizer is not None
        served = self.app.by_kind(owner.api_version, owner.kind)
        if served is None:
            problem = f'no matches for kind "{owner.kind}" in version "{owner.api_version}"'
            why = "cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion "
            raise forbidden(attributes, f"{why}{owner.api_version} Kind {owner.kind}: {problem}")
        resource = served.resource
        namespace = attributes.namespace if resource.namespaced else ""
        asked = Asked(
            attributes.user, "update", resource.group, resource.version, resource.name, "finalizers", namespace,
            owner.name,
        )  # fmt: skip
        decision = await settled(self.app.authorizer(asked))
        if not decision.allowed:
            what = "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on"
            raise forbidden(attributes, f"{what}: {_why(decision)}")


def owners(obj: Any) -> list[meta_v1.OwnerReference]:
    meta = getattr(obj, "metadata", None)
    return list(getattr(meta, "owner_references", None) or ())


def _why(decision: Decision) -> str:
    """As Go prints a reason and an error."""
    return f"{decision.reason}, {decision.error or '<nil>'}"
