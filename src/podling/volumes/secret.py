"""secret volumes, in memory."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from podling.api import core_v1
from podling.volumes import payloads
from podling.volumes.atomic_writer import File
from podling.volumes.base import Context, Dependency, Lookup, VolumeError
from podling.volumes.config_map import DEFAULT_MODE
from podling.volumes.content import ContentPlugin


class SecretPlugin(ContentPlugin):
    name = "kubernetes.io/secret"

    async def payload(self, context: Context) -> tuple[dict[str, File], datetime | None]:
        source = context.volume.secret
        assert source is not None
        optional = bool(source.optional)
        found = await get(context.lookup, context.namespace, source.secret_name or "", optional=optional)
        mode = source.default_mode if source.default_mode is not None else DEFAULT_MODE
        return payloads.of_secret(found, source.items, mode, optional=optional, user=source.default_user), None

    def dependencies(self, context: Context) -> Iterable[Dependency]:
        assert context.volume.secret is not None
        return (Dependency("Secret", context.namespace, context.volume.secret.secret_name or ""),)


async def get(lookup: Lookup, namespace: str, name: str, *, optional: bool) -> core_v1.Secret | None:
    """The Secret; None only if it is optional."""
    found = await lookup.secret(namespace, name)
    if found is None and not optional:
        raise VolumeError(f'secret "{name}" not found')
    return found
