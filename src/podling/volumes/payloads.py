"""ConfigMaps and Secrets as files."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence

from podling.api import core_v1
from podling.volumes.atomic_writer import File
from podling.volumes.base import VolumeError


def of_config_map(
    source: core_v1.ConfigMap | None,
    items: Sequence[core_v1.KeyToPath] | None,
    mode: int,
    *,
    optional: bool = False,
    user: int | None = None,
) -> dict[str, File]:
    """Files of a ConfigMap: all keys, or the `items`. A missing map counts as empty. Raises VolumeError."""
    data: dict[str, bytes] = {}
    if source is not None:
        data.update({key: text.encode() for key, text in (source.data or {}).items()})
        data.update({key: base64.b64decode(text) for key, text in (source.binary_data or {}).items()})
    return _files(data, items, mode, optional, user, "configmap references non-existent config key")


def of_secret(
    source: core_v1.Secret | None,
    items: Sequence[core_v1.KeyToPath] | None,
    mode: int,
    *,
    optional: bool = False,
    user: int | None = None,
) -> dict[str, File]:
    """Files of a Secret; see `of_config_map`."""
    data = {key: base64.b64decode(text) for key, text in ((source.data if source else None) or {}).items()}
    return _files(data, items, mode, optional, user, "references non-existent secret key")


def _files(
    data: Mapping[str, bytes],
    items: Sequence[core_v1.KeyToPath] | None,
    mode: int,
    optional: bool,
    user: int | None,
    complaint: str,
) -> dict[str, File]:
    if not items:
        return {key: File(content, mode, user) for key, content in data.items()}
    files = {}
    for item in items:
        content = data.get(item.key)
        if content is None:
            if optional:
                continue
            raise VolumeError(f"{complaint}: {item.key}")
        own_mode = item.mode if item.mode is not None else mode
        files[item.path] = File(content, own_mode, item.user if item.user is not None else user)
    return files
