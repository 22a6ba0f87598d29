"""persistentVolumeClaim volumes: the PersistentVolume that a claim is bound to (hostPath, local, nfs)."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Iterable

from podling import mounts
from podling.api import core_v1
from podling.volumes import folders, host_path, nfs, ownership
from podling.volumes.base import ClaimNotReady, Context, Dependency, Ready, StaticPlugin, VolumeError


class PersistentVolumeClaimPlugin(StaticPlugin):
    name = "kubernetes.io/persistent-volume-claim"

    async def setup(self, context: Context) -> Ready:
        source = context.volume.persistent_volume_claim
        assert source is not None
        volume = await resolve(context, source.claim_name)
        return await setup_volume(context, volume, readonly=bool(source.read_only))

    def dependencies(self, context: Context) -> Iterable[Dependency]:
        assert context.volume.persistent_volume_claim is not None
        name = context.volume.persistent_volume_claim.claim_name
        return (Dependency("PersistentVolumeClaim", context.namespace, name),)

    async def teardown(self, directory: str) -> None:
        await folders.remove(directory)


async def resolve(context: Context, claim_name: str) -> core_v1.PersistentVolume:
    """The volume the claim is bound to. Raises ClaimNotReady in the words of upstream's volume manager."""
    where = f"error processing PVC {context.namespace}/{claim_name}"
    claim = await context.lookup.claim(context.namespace, claim_name)
    if claim is None:
        raise ClaimNotReady(
            f'{where}: failed to fetch PVC from API server: persistentvolumeclaim "{claim_name}" not found'
        )
    if claim.metadata.deletion_timestamp is not None:
        raise ClaimNotReady(f"{where}: PVC is being deleted")
    check_owner(context, claim)
    name, phase = claim.spec.volume_name or "", (claim.status.phase if claim.status else None) or ""
    if phase != "Bound" or not name:
        raise ClaimNotReady(f"{where}: PVC is not bound")
    volume = await context.lookup.persistent_volume(name)
    if volume is None:
        raise ClaimNotReady(f'{where}: failed to fetch PV {name} from API server: persistentvolume "{name}" not found')
    bound_to = volume.spec.claim_ref
    if bound_to is None:
        raise ClaimNotReady(
            f"{where}: found PV object {name} but it has a nil pv.Spec.ClaimRef "
            "indicating it is not yet bound to the claim"
        )
    if (bound_to.uid or "") != (claim.metadata.uid or ""):
        raise ClaimNotReady(
            f"{where}: found PV object {name} but its pv.Spec.ClaimRef.UID {bound_to.uid or ''} "
            f"does not point to claim.UID {claim.metadata.uid or ''}"
        )
    return volume


def check_owner(context: Context, claim: core_v1.PersistentVolumeClaim) -> None:
    """The claim of an ephemeral volume must be the pod's own: another of that name is none of its business."""
    if context.volume.ephemeral is None:
        return
    owners = claim.metadata.owner_references or ()
    if not any(owner.controller and owner.uid == context.pod.metadata.uid for owner in owners):
        raise ClaimNotReady(
            f"PVC {claim.metadata.namespace}/{claim.metadata.name} was not created for "
            f"pod {context.namespace}/{context.pod.metadata.name} (pod is not owner)"
        )


async def setup_volume(context: Context, volume: core_v1.PersistentVolume, *, readonly: bool) -> Ready:
    """Raises VolumeError under the PersistentVolume's name."""
    spec, name = volume.spec, volume.metadata.name or ""
    try:
        if spec.host_path is not None:
            return Ready(host_path.prepare(spec.host_path.path, spec.host_path.type or ""))
        if spec.local is not None:
            return Ready(await _local(context, spec, readonly))
        if spec.nfs is not None:
            return Ready(await nfs.mount(spec.nfs, context.directory, spec.mount_options or ()))
        if spec.csi is not None:
            driver = spec.csi.driver
            raise VolumeError(f"driver name {driver} not found in the list of registered CSI drivers")
    except VolumeError as error:
        raise VolumeError(str(error), name) from None
    raise VolumeError("no volume plugin matched", name)


async def _local(context: Context, spec: core_v1.PersistentVolumeSpec, readonly: bool) -> str:
    """A local volume's directory as it is, or its block device: raw, or mounted where a file system is asked for."""
    assert spec.local is not None
    path = spec.local.path
    try:
        mode = os.stat(path).st_mode
    except OSError:
        raise VolumeError(f'path "{path}" does not exist') from None
    if spec.volume_mode == "Block":
        if not stat.S_ISBLK(mode):
            raise VolumeError(f"{path} is not a block device")
        return path
    if stat.S_ISBLK(mode):
        path = await _mount_device(context, path, spec, readonly)
    elif not stat.S_ISDIR(mode):
        raise VolumeError(f"{path} is neither a directory nor a block device")
    if not readonly:
        await asyncio.to_thread(
            ownership.apply, path, context.fs_group, readonly=False, policy=context.fs_group_change_policy
        )
    return path


async def _mount_device(context: Context, device: str, spec: core_v1.PersistentVolumeSpec, readonly: bool) -> str:
    assert spec.local is not None
    folders.make(context.directory, 0o750)
    if not mounts.is_mount_point(context.directory):
        flags = mounts.RDONLY if readonly else 0
        fstype, options = spec.local.fs_type or "ext4", ",".join(spec.mount_options or ())
        try:
            await asyncio.to_thread(mounts.mount, device, context.directory, fstype, flags, options)
        except OSError as error:
            raise VolumeError(f"failed to mount {device} as {fstype}: {(error.strerror or '').lower()}") from None
    return context.directory
