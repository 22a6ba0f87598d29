"""Claims lead to volumes, or say why not."""

from pathlib import Path
from typing import Any

import pytest

from podling import clock
from podling.api import core_v1, struct
from podling.volumes.base import ClaimNotReady, VolumeError
from podling.volumes.ephemeral import EphemeralPlugin
from podling.volumes.persistent_volume_claim import PersistentVolumeClaimPlugin
from tests.unit.volumes.fakes import FakeLookup, context, pod

VOLUME = {"name": "data", "persistentVolumeClaim": {"claimName": "claim"}}


def _claim(**fields: Any) -> core_v1.PersistentVolumeClaim:
    document = {
        "metadata": {"name": "claim", "namespace": "ns", "uid": "c1", **fields.pop("metadata", {})},
        "spec": {"volumeName": "pv"},
        "status": {"phase": "Bound"},
        **fields,
    }
    return struct.from_dict(document, core_v1.PersistentVolumeClaim)


def _volume(**spec: Any) -> core_v1.PersistentVolume:
    document = {"metadata": {"name": "pv"}, "spec": {"claimRef": {"uid": "c1", "name": "claim"}, **spec}}
    return struct.from_dict(document, core_v1.PersistentVolume)


def _setup(claim: core_v1.PersistentVolumeClaim | None, volume: core_v1.PersistentVolume | None) -> str:
    lookup = FakeLookup()
    if claim is not None:
        lookup.claims["claim"] = claim
    if volume is not None:
        lookup.volumes["pv"] = volume
    return clock.run_virtual(PersistentVolumeClaimPlugin().setup(context(pod(VOLUME), lookup))).path


def test_host_paths(tmp_path: Path) -> None:
    assert _setup(_claim(), _volume(hostPath={"path": str(tmp_path)})) == str(tmp_path)


@pytest.mark.parametrize(
    ("claim", "volume", "words"),
    [
        (None, None, 'failed to fetch PVC from API server: persistentvolumeclaim "claim" not found'),
        (_claim(status={"phase": "Pending"}), None, "PVC is not bound"),
        (_claim(spec={}), None, "PVC is not bound"),
        (_claim(metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}), None, "PVC is being deleted"),
        (_claim(), None, 'failed to fetch PV pv from API server: persistentvolume "pv" not found'),
        (_claim(), _volume(claimRef=None), "found PV object pv but it has a nil pv.Spec.ClaimRef"),
        (_claim(), _volume(claimRef={"uid": "c2"}), "pv.Spec.ClaimRef.UID c2 does not point to claim.UID c1"),
    ],
)
def test_claims_that_are_not_ready(
    claim: core_v1.PersistentVolumeClaim | None, volume: core_v1.PersistentVolume | None, words: str
) -> None:
    with pytest.raises(ClaimNotReady) as caught:
        _setup(claim, volume)
    assert str(caught.value).startswith("error processing PVC ns/claim: ") and words in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"local": {"path": "/no/such"}}, 'path "/no/such" does not exist'),
        ({"csi": {"driver": "d.io", "volumeHandle": "h"}}, "driver name d.io not found in the list of registered CSI"),
        ({"fc": {}}, "no volume plugin matched"),
    ],
)
def test_volumes_that_fail_do_so_under_their_own_name(spec: dict[str, Any], words: str) -> None:
    with pytest.raises(VolumeError) as caught:
        _setup(_claim(), _volume(**spec))
    assert words in str(caught.value) and caught.value.volume == "pv"


def test_ephemeral_claims_must_be_the_pods_own(tmp_path: Path) -> None:
    of = pod({"name": "scratch", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}})
    lookup = FakeLookup()
    lookup.volumes["pv"] = _volume(hostPath={"path": str(tmp_path)})
    lookup.claims["web-scratch"] = _claim(metadata={"name": "web-scratch"})
    with pytest.raises(ClaimNotReady) as caught:
        clock.run_virtual(EphemeralPlugin().setup(context(of, lookup)))
    assert str(caught.value) == "PVC ns/web-scratch was not created for pod ns/web (pod is not owner)"
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "web", "uid": "u1", "controller": True}
    lookup.claims["web-scratch"] = _claim(metadata={"name": "web-scratch", "ownerReferences": [owner]})
    assert clock.run_virtual(EphemeralPlugin().setup(context(of, lookup))).path == str(tmp_path)
