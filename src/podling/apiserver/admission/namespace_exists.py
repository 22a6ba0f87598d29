"""NamespaceExists: nothing is written in a namespace that is not there."""

from __future__ import annotations

from podling.api import errors
from podling.apiserver.admission.base import CREATE, DELETE, UPDATE, Attributes, Plugin


class NamespaceExists(Plugin):
    name = "NamespaceExists"
    operations = frozenset((CREATE, UPDATE, DELETE))
    subresources = None
    validates = True

    async def validate(self, attributes: Attributes) -> None:
        name = attributes.namespace
        if name and attributes.qualified != "namespaces" and self.app.get("namespaces", "", name) is None:
            raise errors.not_found("namespaces", "", name)
