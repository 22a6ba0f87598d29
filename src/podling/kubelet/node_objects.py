"""The ConfigMaps, Secrets and claims that this node's pods mention, as volumes need them.

A node may read only what its pods mention, so each object has a watch of its own (upstream's watching
configMapAndSecretChangeDetectionStrategy). It begins when a pod first asks and ends when no pod of the node mentions
the object any more. A claim it may only get, not watch: one that is not bound yet is read again now and then, for as
long as a pod waits for it. Implements `volumes.base.Lookup`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from podling.api import authentication_v1, certificates_v1, core_v1, errors
from podling.client.base import Client
from podling.client.informer import Informer, Informers

Key = tuple[type[Any], str, str]

#: A first list that takes longer than this is a failure for the pod; it is tried again with the pod.
_PATIENCE = 10.0
#: Seconds between two looks at claims that pods wait for.
_LOOK_FIRST, _LOOK_MOST = 0.25, 5.0


class NodeObjects:
    """`changed(kind, namespace, name)` is called for every change of an object that is followed."""

    def __init__(self, client: Client, informers: Informers, allocatable: Callable[[], Mapping[str, str]]) -> None:
        self._client = client
        self._informers = informers
        self._allocatable = allocatable
        self._followed: dict[Key, Informer[Any]] = {}
        #: The versions in which claims were read that were not bound; "" for those that were not there.
        self._awaited: dict[tuple[str, str], str] = {}
        self._looking: asyncio.Task[None] | None = None
        self._look_after = _LOOK_FIRST
        self.changed: Callable[[str, str, str], object] = lambda *_: None

    async def close(self) -> None:
        """Look no more; the informers are closed with all others."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    async def config_map(self, namespace: str, name: str) -> core_v1.ConfigMap | None:
        found: core_v1.ConfigMap | None = await self._get(core_v1.ConfigMap, namespace, name)
        return found

    async def secret(self, namespace: str, name: str) -> core_v1.Secret | None:
        found: core_v1.Secret | None = await self._get(core_v1.Secret, namespace, name)
        return found

    async def claim(self, namespace: str, name: str) -> core_v1.PersistentVolumeClaim | None:
        found = await self._read_claim(namespace, name)
        if found is None or found.status is None or found.status.phase != "Bound":
            self._await(namespace, name, _version(found))
        return found

    async def _read_claim(self, namespace: str, name: str) -> core_v1.PersistentVolumeClaim | None:
        found: core_v1.PersistentVolumeClaim | None = await self._read(core_v1.PersistentVolumeClaim, name, namespace)
        return found

    def _await(self, namespace: str, name: str, version: str) -> None:
        if self._awaited.get((namespace, name)) != version:
            self._awaited[namespace, name] = version
            self._look_after = _LOOK_FIRST
        if self._looking is None:
            self._looking = asyncio.create_task(self._look(), name="kubelet claims")

    async def _look(self) -> None:
        """Until no claim is waited for."""
        try:
            while self._awaited:
                await asyncio.sleep(self._look_after)
                self._look_after = min(self._look_after * 2, _LOOK_MOST)
                for (namespace, name), version in list(self._awaited.items()):
                    try:
                        found = await self._read_claim(namespace, name)
                    except errors.StatusError:
                        continue
                    if _version(found) != version and self._awaited.pop((namespace, name), None) is not None:
                        self.changed("PersistentVolumeClaim", namespace, name)
        finally:
            self._looking = None

    async def persistent_volume(self, name: str) -> core_v1.PersistentVolume | None:
        found: core_v1.PersistentVolume | None = await self._read(core_v1.PersistentVolume, name, None)
        return found

    async def cluster_trust_bundles(self) -> Iterable[certificates_v1.ClusterTrustBundle]:
        return (await self._client.list(certificates_v1.ClusterTrustBundle)).items

    async def service_account_token(
        self, namespace: str, name: str, request: authentication_v1.TokenRequest
    ) -> authentication_v1.TokenRequest:
        return await self._client.post(core_v1.ServiceAccount, name, namespace, "token", request)

    def node_allocatable(self) -> Mapping[str, str]:
        return self._allocatable()

    async def forget_all_but(self, mentioned: set[tuple[str, str, str]]) -> None:
        """Follow only what is in `mentioned`: (kind, namespace, name)."""
        for key in list(self._followed):
            kind, namespace, name = key
            if (kind.__name__, namespace, name) not in mentioned:
                await self._informers.drop(self._followed.pop(key))
        for namespace, name in list(self._awaited):
            if ("PersistentVolumeClaim", namespace, name) not in mentioned:
                del self._awaited[namespace, name]

    async def _get(self, kind: type[Any], namespace: str, name: str) -> Any:
        informer = self._followed.get((kind, namespace, name))
        if informer is None:
            informer = self._follow(kind, namespace, name)
        if not informer.synced:
            try:
                async with asyncio.timeout(_PATIENCE):
                    await informer.wait_synced()
            except TimeoutError:
                # The watch says nothing of why; a plain read does.
                return await self._read(kind, name, namespace)
        return informer.lookup(name, namespace)

    def _follow(self, kind: type[Any], namespace: str, name: str) -> Informer[Any]:
        informer = self._informers.of(kind, namespace=namespace, field_selector=f"metadata.name={name}")

        def tell(*_: object) -> None:
            self.changed(kind.__name__, namespace, name)

        informer.add_handler(on_add=tell, on_update=tell, on_delete=tell)
        informer.start()
        self._followed[kind, namespace, name] = informer
        return informer

    async def _read(self, kind: type[Any], name: str, namespace: str | None) -> Any:
        try:
            return await self._client.get(kind, name, namespace)
        except errors.StatusError as error:
            if errors.is_not_found(error):
                return None
            raise


def mentioned(pods: Iterable[core_v1.Pod]) -> set[tuple[str, str, str]]:
    """(kind, namespace, name) of the ConfigMaps, Secrets and claims that the pods' volumes mention."""
    found: set[tuple[str, str, str]] = set()
    for pod in pods:
        namespace = pod.metadata.namespace or ""
        for volume in pod.spec.volumes or ():
            found.update((kind, namespace, name) for kind, name in _of_volume(volume))
            if volume.ephemeral is not None:
                found.add(("PersistentVolumeClaim", namespace, f"{pod.metadata.name}-{volume.name}"))
    return found


def _version(found: core_v1.PersistentVolumeClaim | None) -> str:
    return (found.metadata.resource_version or "") if found is not None else ""


def _of_volume(volume: core_v1.Volume) -> Iterable[tuple[str, str]]:
    if volume.config_map is not None and volume.config_map.name:
        yield "ConfigMap", volume.config_map.name
    if volume.secret is not None and volume.secret.secret_name:
        yield "Secret", volume.secret.secret_name
    if volume.persistent_volume_claim is not None:
        yield "PersistentVolumeClaim", volume.persistent_volume_claim.claim_name
    for source in (volume.projected.sources if volume.projected else None) or ():
        if source.config_map is not None and source.config_map.name:
            yield "ConfigMap", source.config_map.name
        if source.secret is not None and source.secret.name:
            yield "Secret", source.secret.name
