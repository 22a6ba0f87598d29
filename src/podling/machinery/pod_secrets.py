"""Which Secrets a pod refers to."""

from __future__ import annotations

from collections.abc import Iterator

from podling.api import core_v1


def secrets_of(pod: core_v1.Pod) -> Iterator[str]:
    """Names of the secrets that `pod` refers to."""
    spec = pod.spec
    if spec is None:
        return
    for ref in spec.image_pull_secrets or ():
        if ref.name:
            yield ref.name
    for container in (*(spec.init_containers or ()), *(spec.containers or ()), *(spec.ephemeral_containers or ())):
        for source in container.env_from or ():
            if source.secret_ref is not None and source.secret_ref.name:
                yield source.secret_ref.name
        for env in container.env or ():
            if env.value_from is not None and env.value_from.secret_key_ref is not None:
                yield env.value_from.secret_key_ref.name or ""
    for volume in spec.volumes or ():
        yield from _volume_source_secrets(volume)


def _volume_source_secrets(volume: core_v1.Volume) -> Iterator[str]:
    if volume.secret is not None and volume.secret.secret_name:
        yield volume.secret.secret_name
    if volume.projected is not None:
        for source in volume.projected.sources or ():
            if source.secret is not None and source.secret.name:
                yield source.secret.name
    if volume.csi is not None and volume.csi.node_publish_secret_ref is not None:
        yield volume.csi.node_publish_secret_ref.name or ""
    if volume.azure_file is not None:
        yield volume.azure_file.secret_name
    for attribute in ("cephfs", "cinder", "flex_volume", "rbd", "scale_io", "iscsi", "storageos"):
        ref = getattr(getattr(volume, attribute, None), "secret_ref", None)
        if ref is not None and ref.name:
            yield ref.name
