"""All resources a cluster serves, custom and aggregated ones included, as they come and go.

What works over everything (garbage collection, emptying a namespace) needs the list: the built-in rows of the registry,
a row for each CustomResourceDefinition that is established, and what other API servers serve.
"""

from __future__ import annotations

from collections.abc import Callable

from podling.api import apiextensions_v1, registry
from podling.api.registry import Resource
from podling.client.informer import Informer
from podling.controllers.aggregated import Aggregated


def of_definition(crd: apiextensions_v1.CustomResourceDefinition) -> Resource | None:
    """The row of a definition's stored version, or of the first served one; None until it is established."""
    established = any(c.type == "Established" and c.status == "True" for c in crd.status.conditions or ())
    served = [v for v in crd.spec.versions if v.served]
    if not established or not served:
        return None
    version = next((v for v in served if v.storage), served[0])
    names = crd.spec.names
    return Resource(
        group=crd.spec.group,
        version=version.name,
        name=names.plural,
        kind=names.kind,
        namespaced=crd.spec.scope == "Namespaced",
        singular=names.singular or "",
    )


def _builtin() -> list[Resource]:
    """One row for each kind of stored objects: views of others (events.k8s.io) and second versions are left out."""
    rows: dict[tuple[str, str], Resource] = {}
    for row in registry.BUILTIN:
        if row.virtual or row.group == "events.k8s.io" or not {"list", "watch", "delete"} <= set(row.verbs):
            continue
        rows.setdefault((row.group, row.name), row)
    return list(rows.values())


class Resources:
    """The list, kept up to date from an informer of definitions, and by `aggregated.follow`."""

    def __init__(
        self, definitions: Informer[apiextensions_v1.CustomResourceDefinition], aggregated: Aggregated
    ) -> None:
        self._definitions = definitions
        self.aggregated = aggregated
        self.builtin = _builtin()

    def all(self) -> list[Resource]:
        custom = [row for crd in self._definitions.list() if (row := of_definition(crd)) is not None]
        return [*self.builtin, *custom, *self.aggregated.known]

    def by_kind(self, api_version: str, kind: str) -> Resource | None:
        """The row of an object's kind, in whatever version it is named."""
        found = registry.by_kind(api_version, kind)
        if found is not None:
            return found
        group, _, version = api_version.rpartition("/")
        for row in self.aggregated.known:
            if (row.group_version, row.kind) == (api_version, kind):
                return row
        for crd in self._definitions.list():
            defined = of_definition(crd)
            served = {v.name for v in crd.spec.versions if v.served}
            if defined is not None and (defined.group, defined.kind) == (group, kind) and version in served:
                return defined
        return None

    def on_change(self, changed: Callable[[], None]) -> None:
        """Call `changed` when a definition comes, changes or goes."""
        self._definitions.add_handler(
            on_add=lambda _: changed(), on_update=lambda _old, _new: changed(), on_delete=lambda _: changed()
        )
