"""configMap volumes."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from podling.api import core_v1
from podling.volumes import payloads
from podling.volumes.atomic_writer import File
from podling.volumes.base import Context, Dependency, Lookup, VolumeError
from podling.volumes.content import ContentPlugin

#: What defaulting fills in for a mode that is not given.
DEFAULT_MODE = 0o644


class ConfigMapPlugin(ContentPlugin):
    name = "kubernetes.io/configmap"
    in_memory = False

    async def payload(self, context: Context) -> tuple[dict[str, File], datetime | None]:
        source = context.volume.config_map
        assert source is not None
        optional = bool(source.optional)
        found = await get(context.lookup, context.namespace, source.name or "", optional=optional)
        mode = source.default_mode if source.default_mode is not None else DEFAULT_MODE
        return payloads.of_config_map(found, source.items, mode, optional=optional, user=source.default_user), None

    def dependencies(self, context: Context) -> Iterable[Dependency]:
        assert context.volume.config_map is not None
        return (Dependency("ConfigMap", context.namespace, context.volume.config_map.name or ""),)


async def get(lookup: Lookup, namespace: str, name: str, *, optional: bool) -> core_v1.ConfigMap | None:
    """The ConfigMap; None only if it is optional."""
    found = await lookup.config_map(namespace, name)
    if found is None and not optional:
        raise VolumeError(f'configmap "{name}" not found')
    return found
