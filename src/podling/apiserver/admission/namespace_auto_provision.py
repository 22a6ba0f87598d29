"""NamespaceAutoProvision: the namespace of a new object is made if it is not there."""

from __future__ import annotations

from podling.api import core_v1, errors, meta_v1
from podling.api.request import Request
from podling.apiserver.admission.base import CREATE, Attributes, Plugin


class NamespaceAutoProvision(Plugin):
    name = "NamespaceAutoProvision"
    operations = frozenset((CREATE,))
    subresources = None
    mutates = True

    async def mutate(self, attributes: Attributes) -> None:
        name = attributes.namespace
        if not name or attributes.dry_run or attributes.qualified == "namespaces":
            return
        if self.app.get("namespaces", "", name) is not None:
            return
        made = core_v1.Namespace(metadata=meta_v1.ObjectMeta(name=name))
        try:
            await self.app.send(Request("POST", "/api/v1/namespaces", obj=made))
        except errors.StatusError as error:
            if not errors.is_already_exists(error):
                raise
        await self.app.hub.current()
