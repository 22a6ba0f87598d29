"""downwardAPI volumes: the pod's own fields as files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from podling.api import core_v1
from podling.volumes import field_refs
from podling.volumes.atomic_writer import File
from podling.volumes.base import POD, Context, Dependency, VolumeError, aggregate
from podling.volumes.config_map import DEFAULT_MODE
from podling.volumes.content import ContentPlugin


class DownwardAPIPlugin(ContentPlugin):
    name = "kubernetes.io/downward-api"

    async def payload(self, context: Context) -> tuple[dict[str, File], datetime | None]:
        source = context.volume.downward_api
        assert source is not None
        mode = source.default_mode if source.default_mode is not None else DEFAULT_MODE
        return files_of(context, source.items or (), mode, source.default_user), None

    def dependencies(self, context: Context) -> Iterable[Dependency]:
        return (POD,)


def files_of(
    context: Context, items: Sequence[core_v1.DownwardAPIVolumeFile], mode: int, user: int | None = None
) -> dict[str, File]:
    """The items' files. Raises VolumeError with all that is wrong."""
    files, errors = {}, []
    for item in items:
        try:
            text = _text(context, item)
        except field_refs.FieldRefError as error:
            errors.append(str(error))
            continue
        own_mode = item.mode if item.mode is not None else mode
        files[item.path] = File(text.encode(), own_mode, item.user if item.user is not None else user)
    if errors:
        raise VolumeError(aggregate(errors))
    return files


def _text(context: Context, item: core_v1.DownwardAPIVolumeFile) -> str:
    if item.field_ref is not None:
        return field_refs.field_value(context.pod, item.field_ref.field_path)
    if item.resource_field_ref is not None:
        return field_refs.resource_value(
            context.pod, item.resource_field_ref, allocatable=context.lookup.node_allocatable()
        )
    return ""
