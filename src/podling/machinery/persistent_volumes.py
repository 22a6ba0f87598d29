"""Claims and volumes: what is bound, which PersistentVolume a claim gets, and which node has it. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from podling.api import core_v1, quantity, selectors, storage_v1
from podling.api.quantity import Quantity
from podling.machinery import node_selection

BIND_COMPLETED = "pv.kubernetes.io/bind-completed"
BOUND_BY_CONTROLLER = "pv.kubernetes.io/bound-by-controller"
PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
SELECTED_NODE = "volume.kubernetes.io/selected-node"
_CLASS = "volume.beta.kubernetes.io/storage-class"
_DEFAULT = ("storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class")

#: The access mode of claims that one pod may use at a time.
ONCE_POD = "ReadWriteOncePod"

Claim = core_v1.PersistentVolumeClaim
Volume = core_v1.PersistentVolume


def claim_keys(pod: core_v1.Pod) -> list[str]:
    """`namespace/name` of the claims of a pod, those of its ephemeral volumes included."""
    found = []
    for volume in pod.spec.volumes or ():
        if volume.persistent_volume_claim is not None:
            found.append(f"{pod.metadata.namespace}/{volume.persistent_volume_claim.claim_name}")
        elif volume.ephemeral is not None:
            found.append(f"{pod.metadata.namespace}/{pod.metadata.name}-{volume.name}")
    return found


def annotated(obj: Claim | Volume, name: str) -> bool:
    return name in (obj.metadata.annotations or {})


def class_of(obj: Claim | Volume) -> str:
    """The name of the storage class, "" for none."""
    return (obj.metadata.annotations or {}).get(_CLASS) or obj.spec.storage_class_name or ""


def has_class(claim: Claim) -> bool:
    """Whether its author chose, be it no class at all."""
    return annotated(claim, _CLASS) or claim.spec.storage_class_name is not None


def default_class(classes: Iterable[storage_v1.StorageClass]) -> str:
    """The newest class that is marked as the default, the first by name of equally new ones; "" if there is none."""
    marked = [c for c in classes if any((c.metadata.annotations or {}).get(name) == "true" for name in _DEFAULT)]
    newest = max((c.metadata.creation_timestamp or "" for c in marked), default="")
    return min((c.metadata.name or "" for c in marked if (c.metadata.creation_timestamp or "") == newest), default="")


def delays(claim: Claim, found: storage_v1.StorageClass | None) -> bool:
    """Whether the scheduler chooses the node first, and with it the volume."""
    waits = found is not None and found.volume_binding_mode == "WaitForFirstConsumer"
    return waits and not annotated(claim, SELECTED_NODE)


def is_bound(claim: Claim) -> bool:
    """Whether the claim has its volume, and both say so."""
    return bool(claim.spec.volume_name) and annotated(claim, BIND_COMPLETED)


def has_volume(labels: Mapping[str, str], node: str, volume: Volume) -> bool:
    """Whether the volume is to be had on the node of this name and labels."""
    affinity = volume.spec.node_affinity
    required = affinity.required if affinity is not None else None
    return required is None or node_selection.selector_matches(required, labels, node)


def serves(found: storage_v1.StorageClass, labels: Mapping[str, str]) -> bool:
    """Whether volumes of the class may be made for a node with these labels."""
    terms = found.allowed_topologies or []
    return not terms or any(
        all(labels.get(e.key) in e.values for e in term.match_label_expressions or ()) for term in terms
    )


def belongs(volume: Volume, claim: Claim) -> bool:
    """Whether the volume is bound to the claim, or reserved for one of its name."""
    bound_to, meta = volume.spec.claim_ref, claim.metadata
    if bound_to is None or (bound_to.namespace, bound_to.name) != (meta.namespace, meta.name):
        return False
    return not bound_to.uid or bound_to.uid == meta.uid


def asked(claim: Claim) -> Quantity:
    """How much it wants."""
    requests = (claim.spec.resources.requests if claim.spec.resources else None) or {}
    return quantity.parse(requests.get("storage", "0"))


def capacity(volume: Volume) -> Quantity:
    return quantity.parse((volume.spec.capacity or {}).get("storage", "0"))


def _mode(obj: Claim | Volume) -> str:
    return obj.spec.volume_mode or "Filesystem"


def _attributes(obj: Claim | Volume) -> str:
    return obj.spec.volume_attributes_class_name or ""


def misfit(volume: Volume, claim: Claim) -> str:
    """Why a volume can't be what a claim asks for by name; "" if it can."""
    if capacity(volume) < asked(claim):
        return "requested PV is too small"
    if class_of(volume) != class_of(claim):
        return "storageClassName does not match"
    if _attributes(volume) != _attributes(claim):
        return "volumeAttributesClassName does not match"
    if _mode(volume) != _mode(claim):
        return "incompatible volumeMode"
    if not set(claim.spec.access_modes or ()) <= set(volume.spec.access_modes or ()):
        return "incompatible accessMode"
    return ""


def best_match(
    claim: Claim, volumes: Iterable[Volume], *, delayed: bool = False, suits: Callable[[Volume], bool] | None = None
) -> Volume | None:
    """The volume for a claim: one that is reserved for it, or the smallest of those with the fewest access modes.

    `delayed` claims get none but a reserved one; a volume that does not suit is not looked at.
    """
    least, modes = asked(claim), set(claim.spec.access_modes or ())
    selector = selectors.from_label_selector(claim.spec.selector) if claim.spec.selector is not None else None
    best: tuple[int, int, str, Volume] | None = None
    for volume in volumes:
        meta, spec = volume.metadata, volume.spec
        if meta.deletion_timestamp is not None or not modes <= set(spec.access_modes or ()):
            continue
        if _mode(volume) != _mode(claim) or _attributes(volume) != _attributes(claim) or capacity(volume) < least:
            continue
        if suits is not None and not suits(volume):
            continue
        if belongs(volume, claim):
            return volume
        if delayed or spec.claim_ref is not None or volume.status.phase != "Available":
            continue
        if class_of(volume) != class_of(claim) or (selector and not selector.matches(meta.labels or {})):
            continue
        candidate = (len(spec.access_modes or ()), capacity(volume).nano, meta.name or "", volume)
        if best is None or candidate[:3] < best[:3]:
            best = candidate
    return best[3] if best is not None else None
