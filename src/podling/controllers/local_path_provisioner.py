"""Volumes on the local disk, made when a claim asks for one and removed when it is gone.

A volume is a directory of its own on the node that the scheduler chose for the first pod, and stays there: pods with
the claim go to that node. How much is written to it is not limited. Where directories lie, and how they are made and
removed, is for the cluster to say (`Config.local_path`); simulated nodes have none.
"""

from __future__ import annotations

from podling.api import core_v1, errors, meta_v1, storage_v1
from podling.api.struct import clone
from podling.client.events import NORMAL, WARNING, reference
from podling.client.informer import key_of
from podling.controllers.base import Context, Controller, ReconcileError, unchanged
from podling.machinery import persistent_volumes as rules
from podling.machinery.persistent_volumes import Claim, Volume

PROVISIONER = "podling.dev/local-path"
#: The class that claims get which name none.
CLASS = "standard"
#: Keeps a volume whose claim is still there until its directory may go.
FINALIZER = "external-provisioner.volume.kubernetes.io/finalizer"
HOSTNAME = "kubernetes.io/hostname"
_ASKED = ("volume.kubernetes.io/storage-provisioner", "volume.beta.kubernetes.io/storage-provisioner")
#: Phases of volumes whose claim is gone.
_OVER = ("Released", "Failed")
_SUPPORTED = frozenset(("ReadWriteOnce", "ReadWriteOncePod"))


def storage_class() -> storage_v1.StorageClass:
    """The default class of a new cluster."""
    return storage_v1.StorageClass(
        metadata=meta_v1.ObjectMeta(name=CLASS, annotations={"storageclass.kubernetes.io/is-default-class": "true"}),
        provisioner=PROVISIONER,
        reclaim_policy="Delete",
        volume_binding_mode="WaitForFirstConsumer",
    )


def problem(claim: Claim, found: storage_v1.StorageClass) -> str:
    """Why there can be no local volume for the claim; "" if there can."""
    if claim.spec.volume_mode == "Block":
        return "volumes of the local disk are file systems: volumeMode Block is not supported"
    if claim.spec.selector is not None:
        return "claim.Spec.Selector is not supported"
    if claim.spec.data_source_ref is not None or claim.spec.data_source is not None:
        return "volumes of the local disk are made empty: a data source is not supported"
    if unsupported := [mode for mode in claim.spec.access_modes or () if mode not in _SUPPORTED]:
        return f"volumes of the local disk are used on one node: {', '.join(unsupported)} is not supported"
    if found.volume_binding_mode != "WaitForFirstConsumer":
        return (
            f"storage class {found.metadata.name} must have volumeBindingMode WaitForFirstConsumer: nobody chose a node"
        )
    return ""


def make(claim: Claim, found: storage_v1.StorageClass, node: core_v1.Node, path: str) -> Volume:
    """The volume for a claim on a node, its directory being `path`."""
    hostname = (node.metadata.labels or {}).get(HOSTNAME) or node.metadata.name or ""
    term = core_v1.NodeSelectorTerm(
        match_expressions=[core_v1.NodeSelectorRequirement(key=HOSTNAME, operator="In", values=[hostname])]
    )
    requests = (claim.spec.resources.requests if claim.spec.resources else None) or {}
    return core_v1.PersistentVolume(
        metadata=meta_v1.ObjectMeta(
            name=volume_name(claim), annotations={rules.PROVISIONED_BY: PROVISIONER}, finalizers=[FINALIZER]
        ),
        spec=core_v1.PersistentVolumeSpec(
            capacity={"storage": requests.get("storage", "0")},
            access_modes=claim.spec.access_modes,
            persistent_volume_reclaim_policy=found.reclaim_policy or "Delete",
            storage_class_name=found.metadata.name,
            mount_options=found.mount_options,
            volume_mode="Filesystem",
            claim_ref=reference(claim),
            local=core_v1.LocalVolumeSource(path=path),
            node_affinity=core_v1.VolumeNodeAffinity(required=core_v1.NodeSelector(node_selector_terms=[term])),
        ),
    )


def volume_name(claim: Claim) -> str:
    return f"pvc-{claim.metadata.uid}"


class LocalPathProvisioner(Controller):
    """Keys are `namespace/name` of claims and `name` of volumes."""

    name = "local-path-provisioner"
    component = PROVISIONER
    workers = 2

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._claims = self.watch(core_v1.PersistentVolumeClaim, self._claim_changed)
        self._volumes = self.watch(core_v1.PersistentVolume, self._volume_changed)
        self._classes = self.informer(storage_v1.StorageClass)
        self._nodes = self.informer(core_v1.Node)

    def _claim_changed(self, claim: Claim) -> None:
        if not claim.spec.volume_name and any((claim.metadata.annotations or {}).get(a) == PROVISIONER for a in _ASKED):
            self.enqueue(claim)

    def _volume_changed(self, volume: Volume) -> None:
        if (volume.metadata.annotations or {}).get(rules.PROVISIONED_BY) == PROVISIONER:
            self.enqueue(volume)

    async def reconcile(self, key: str) -> None:
        if "/" in key:
            claim = self._claims.get(key)
            if claim is not None and not claim.spec.volume_name and claim.metadata.deletion_timestamp is None:
                await self._provision(claim)
        else:
            volume = self._volumes.get(key)
            if volume is not None:
                await self._tidy(volume)

    async def _provision(self, claim: Claim) -> None:
        found = self._classes.get(rules.class_of(claim))
        if found is None or found.provisioner != PROVISIONER or self._volumes.get(volume_name(claim)) is not None:
            return
        why = problem(claim, found)
        chosen = (claim.metadata.annotations or {}).get(rules.SELECTED_NODE)
        if not why and chosen is None:
            return
        node = self._nodes.get(chosen or "")
        if why or node is None:
            why = why or f'node "{chosen}" not found'
            text = f'failed to provision volume with StorageClass "{found.metadata.name}": {why}'
            self.recorder.event(claim, WARNING, "ProvisioningFailed", text)
            await self._give_up(claim)
            return
        text = f'External provisioner is provisioning volume for claim "{key_of(claim)}"'
        self.recorder.event(claim, NORMAL, "Provisioning", text)
        places = self.context.config.local_path
        path = places.path(chosen or "", volume_name(claim))
        try:
            await places.make(path)
            await self.client.create(make(claim, found, node, path))
        except OSError as error:
            text = f'failed to provision volume with StorageClass "{found.metadata.name}": {error}'
            self.recorder.event(claim, WARNING, "ProvisioningFailed", text)
            raise ReconcileError(f"{path} could not be made: {error}") from error
        except errors.StatusError as error:
            if not errors.is_already_exists(error):
                raise
        self.recorder.event(
            claim, NORMAL, "ProvisioningSucceeded", f"Successfully provisioned volume {volume_name(claim)}"
        )

    async def _give_up(self, claim: Claim) -> None:
        """The scheduler may choose another node."""
        if not rules.annotated(claim, rules.SELECTED_NODE):
            return
        changed = clone(claim)
        annotations = dict(changed.metadata.annotations or {})
        del annotations[rules.SELECTED_NODE]
        changed.metadata.annotations = annotations or None
        await self.client.update(changed)

    async def _tidy(self, volume: Volume) -> None:
        """A volume of policy Delete goes with its directory once its claim is gone; a kept one may be deleted."""
        meta, spec = volume.metadata, volume.spec
        if spec.persistent_volume_reclaim_policy == "Delete":
            fresh = await unchanged(self.client, volume) if volume.status.phase in _OVER else None
            if fresh is None or fresh.status.phase not in _OVER:
                # Its claim is there, or what has changed comes here by itself.
                return
            if spec.local is not None:
                await self._remove(volume, spec.local.path)
        elif meta.deletion_timestamp is None:
            return
        if FINALIZER in (meta.finalizers or ()):
            changed = clone(volume)
            changed.metadata.finalizers = [f for f in meta.finalizers or () if f != FINALIZER] or None
            await self.client.update(changed)
        if meta.deletion_timestamp is None:
            await self.client.delete(core_v1.PersistentVolume, meta.name or "", uid=meta.uid)

    async def _remove(self, volume: Volume, path: str) -> None:
        try:
            await self.context.config.local_path.remove(path)
        except OSError as error:
            self.recorder.event(volume, WARNING, "VolumeFailedDelete", str(error))
            raise ReconcileError(f"{path} could not be removed: {error}") from error
