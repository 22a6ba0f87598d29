"""The API of storage: drivers, nodes and capacities of CSI, classes, attachments; and devices of DRA."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.conformance.whole import MERGE, Api, in_namespace, virtual

GROUP = "/apis/storage.k8s.io/v1"
DRA = "/apis/resource.k8s.io/v1"


def made(kind: str, name: str, group: str = "storage.k8s.io/v1", **rest: Any) -> dict[str, Any]:
    return {"apiVersion": group, "kind": kind, "metadata": {"name": name, "labels": {"e2e": "x"}}, **rest}


DRIVER = {"attachRequired": False, "podInfoOnMount": True}
ATTACHMENT = {"attacher": "e2e-test.storage.com", "nodeName": "n", "source": {"persistentVolumeName": "pv"}}
DEVICES = {"devices": {"requests": [{"name": "req-0", "exactly": {"deviceClassName": "my-class"}}]}}
CLAIMS = in_namespace("resource.k8s.io/v1", "resourceclaims")
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "CSIDriver": (f"{GROUP}/csidrivers", made("CSIDriver", "e2e-csi-driver.example.com", spec=DRIVER)),
    # As Go writes one that has nothing.
    "CSINode": (f"{GROUP}/csinodes", made("CSINode", "e2e-csinode", spec={"drivers": None})),
    "CSIStorageCapacity": (
        in_namespace("storage.k8s.io/v1", "csistoragecapacities"),
        made("CSIStorageCapacity", "csisc", storageClassName="example-sc"),
    ),
    "StorageClass": (f"{GROUP}/storageclasses", made("StorageClass", "e2e-sc", provisioner="e2e-fake-provisioner")),
    "VolumeAttachment": (f"{GROUP}/volumeattachments", made("VolumeAttachment", "va-e2e", spec=ATTACHMENT)),
    "VolumeAttributesClass": (
        f"{GROUP}/volumeattributesclasses",
        made("VolumeAttributesClass", "e2e-vac", driverName="e2e-fake-csi-driver", parameters={"foo": "bar"}),
    ),
    "DeviceClass": (f"{DRA}/deviceclasses", made("DeviceClass", "my-class", "resource.k8s.io/v1", spec={})),
    "ResourceClaim": (CLAIMS, made("ResourceClaim", "my-claim", "resource.k8s.io/v1", spec=DEVICES)),
    "ResourceClaimTemplate": (
        in_namespace("resource.k8s.io/v1", "resourceclaimtemplates"),
        made("ResourceClaimTemplate", "my-template", "resource.k8s.io/v1", spec={"spec": DEVICES}),
    ),
    "ResourceSlice": (
        f"{DRA}/resourceslices",
        made(
            "ResourceSlice",
            "my-slice",
            "resource.k8s.io/v1",
            spec={
                "driver": "driver.example.com",
                "nodeName": "n",
                "pool": {"name": "pool", "resourceSliceCount": 1, "generation": 1},
                "devices": [{"name": "dev-0"}],
            },
        ),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
@virtual
async def test_lifecycle(api: Api, kind: str) -> None:
    """Created, read, patched, listed, deleted; another one updated and deleted as a collection."""
    collection, raw = KINDS[kind]
    name = raw["metadata"]["name"]
    path = f"{collection}/{name}"
    await api.post(collection, raw)
    assert (await api.get(path))["metadata"]["name"] == name
    async with api.watch(collection, labelSelector="e2e=x") as events:
        await events.until("ADDED")
        patched = await api.patch(path, {"metadata": {"labels": {"patched": "yes"}}})
        assert patched["metadata"]["labels"] == {"e2e": "x", "patched": "yes"}
        await events.until("MODIFIED")
        assert len((await api.get(collection, labelSelector="patched=yes"))["items"]) == 1
        await api.delete(path)
        await events.until("DELETED")
    await api.gone(path)
    other = f"{name}-2" if kind != "CSIDriver" else "other.example.com"
    await api.post(collection, {**raw, "metadata": {"name": other, "labels": {"e2e": "x"}}})

    def update(obj: Any) -> None:
        obj["metadata"]["labels"] = {"updated": "yes"}

    assert (await api.change(f"{collection}/{other}", update))["metadata"]["labels"] == {"updated": "yes"}
    await api.delete(collection, labelSelector="updated=yes")
    await api.until(collection, lambda found: not found["items"], seconds=30, labelSelector="updated=yes")


@virtual
async def test_status_of_a_volume_attachment(api: Api) -> None:
    collection, raw = KINDS["VolumeAttachment"]
    path = f"{collection}/va-e2e"
    created = await api.post(collection, raw)
    assert created["status"] == {"attached": False}
    assert (await api.get(f"{path}/status"))["status"] == {"attached": False}
    patched = await api.patch(f"{path}/status", {"status": {"attached": True}}, MERGE)
    assert patched["status"]["attached"] is True
    updated = await api.change(path, lambda v: v["status"].update(attached=False), "status")
    assert updated["status"] == {"attached": False}


@virtual
async def test_status_of_a_resource_claim(api: Api) -> None:
    """An allocation, and what a driver tells of the device."""
    collection, raw = KINDS["ResourceClaim"]
    path = f"{collection}/my-claim"
    await api.post(collection, raw)
    result = {"request": "req-0", "driver": "driver.example.com", "pool": "pool", "device": "dev-0"}
    allocation = {"devices": {"results": [result]}}
    finalized = await api.patch(path, {"metadata": {"finalizers": ["resource.kubernetes.io/delete-protection"]}}, MERGE)
    assert finalized["metadata"]["finalizers"]
    allocated = await api.change(path, lambda c: c.setdefault("status", {}).update(allocation=allocation), "status")
    assert allocated["status"]["allocation"]["devices"]["results"] == [result]
    device = {"driver": "driver.example.com", "pool": "pool", "device": "dev-0", "data": {"arg": 1}}
    patched = await api.patch(f"{path}/status", {"status": {"devices": [device]}}, MERGE)
    assert patched["status"]["devices"] == [device]
    # The spec is what was asked for, for ever.
    other = {"devices": {"requests": [{"name": "req-1", "exactly": {"deviceClassName": "my-class"}}]}}
    assert (await api.refusal("PATCH", path, {"spec": other}, headers=MERGE))["code"] == 422


@virtual
async def test_an_attributes_class_stays_while_it_is_in_use(api: Api) -> None:
    collection, raw = KINDS["VolumeAttributesClass"]
    await api.post(collection, raw)
    claims = in_namespace("v1", "persistentvolumeclaims")
    spec = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
        "storageClassName": "none",
        "volumeAttributesClassName": "e2e-vac",
    }
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c"}, "spec": spec}
    await api.post(claims, claim)
    await api.delete(f"{collection}/e2e-vac")
    await asyncio.sleep(30)
    held = await api.get(f"{collection}/e2e-vac")
    assert held["metadata"]["deletionTimestamp"]
    assert held["metadata"]["finalizers"] == ["kubernetes.io/vac-protection"]
    await api.delete(f"{claims}/c")
    await api.gone(f"{collection}/e2e-vac")
