"""Resources that other API servers serve, found by discovery: only while there are APIServices that name one.

A server that can't be reached leaves its group versions without resources and marked stale; who works over everything
must know that, because what it can't see may well be there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import msgspec

from podling.api import apiregistration_v1, errors
from podling.api.registry import Resource
from podling.client.client import ApiClient
from podling.client.informer import Informer

#: Seconds between two looks (garbage collection's in upstream).
INTERVAL = 30.0

_ACCEPT = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"


class Discovered(NamedTuple):
    """`failed` says, by group version, why its resources are not known."""

    resources: list[Resource]
    failed: dict[str, str]

    @property
    def failure(self) -> str:
        """All that failed, as client-go's discovery says it; "" if nothing did."""
        if not self.failed:
            return ""
        reasons = ", ".join(f"{group_version}: {why}" for group_version, why in sorted(self.failed.items()))
        return (
            f"Discovery failed for some groups, {len(self.failed)} failing: "
            f"unable to retrieve the complete list of server APIs: {reasons}"
        )


def parse(document: dict[str, Any], group_versions: set[tuple[str, str]]) -> Discovered:
    """What an APIGroupDiscoveryList says of some group versions; of a resource with several only the preferred one."""
    found: dict[tuple[str, str], Resource] = {}
    failed: dict[str, str] = {}
    for item in document.get("items") or []:
        group = item["metadata"].get("name") or ""
        for version in item.get("versions") or []:
            if (group, version["version"]) not in group_versions:
                continue
            if version.get("freshness") == "Stale":
                name = f"{group}/{version['version']}"
                failed[name] = f"stale GroupVersion discovery: {name}"
                continue
            for raw in version.get("resources") or []:
                row = _row(group, version["version"], raw)
                found.setdefault((row.group, row.name), row)
    return Discovered(list(found.values()), failed)


def _row(group: str, version: str, raw: dict[str, Any]) -> Resource:
    return Resource(
        group=group,
        version=version,
        name=raw["resource"],
        kind=(raw.get("responseKind") or {}).get("kind", ""),
        namespaced=raw.get("scope") == "Namespaced",
        singular=raw.get("singularResource", ""),
        verbs=tuple(raw.get("verbs") or ()),
    )


class Aggregated:
    """`known` is what was found last, kept up to date by `follow`; of what has become stale the last is kept."""

    def __init__(self, client: ApiClient, services: Informer[apiregistration_v1.APIService]) -> None:
        self.known: list[Resource] = []
        self._client = client
        self._services = services
        self._changed = asyncio.Event()
        services.add_handler(
            on_add=self._service_changed,
            on_update=lambda old, new: self._service_changed(old, new),
            on_delete=self._service_changed,
        )

    def _service_changed(self, *services: apiregistration_v1.APIService) -> None:
        if any(s.spec.service is not None for s in services):
            self._changed.set()

    def group_versions(self) -> set[tuple[str, str]]:
        """Those that other servers serve."""
        return {(s.spec.group or "", s.spec.version or "") for s in self._services.list() if s.spec.service is not None}

    async def discover(self) -> Discovered:
        """Ask what there is. StatusError if not even that can be answered."""
        group_versions = self.group_versions()
        if not group_versions:
            return Discovered([], {})
        body = await self._client.document("/apis", accept=_ACCEPT)
        return parse(msgspec.json.decode(body), group_versions)

    async def follow(self, changed: Callable[[], None]) -> None:
        """Keep `known` up to date, for ever; calls `changed` when it is another."""
        while True:
            self._changed.clear()
            try:
                found = await self.discover()
            except errors.StatusError:
                pass
            else:
                known = [*self._kept(found.failed), *(r for r in found.resources if followable(r))]
                if known != self.known:
                    self.known = known
                    changed()
            try:
                async with asyncio.timeout(INTERVAL if self.group_versions() else None):
                    await self._changed.wait()
            except TimeoutError:
                pass

    def _kept(self, failed: Iterable[str]) -> list[Resource]:
        return [r for r in self.known if r.group_version in failed]


def followable(resource: Resource) -> bool:
    """Whether an informer can follow it, and its objects can be deleted."""
    return {"list", "watch", "delete"} <= set(resource.verbs)
