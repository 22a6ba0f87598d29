"""Images, local disks, file trees with a group, NFS without a helper."""

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from podling import mounts
from podling.api import core_v1, struct
from podling.images.base import Image
from podling.images.build import create_from_rootfs
from podling.images.store import ImageStore
from podling.volumes import ownership
from podling.volumes.base import MountFailed
from podling.volumes.manager import VolumeManager
from tests.unit.volumes.fakes import FakeLookup, pod

pytestmark = pytest.mark.real


class _Images:
    """An image store with the node agent's part: getting the image."""

    def __init__(self, store: ImageStore) -> None:
        self.store = store
        self.asked: list[tuple[str, str]] = []

    async def image_id(self, of: core_v1.Pod, reference: str, pull_policy: str) -> str:
        self.asked.append((reference, pull_policy))
        found = await self.store.status(reference)
        assert isinstance(found, Image)
        return found.id

    async def mount(self, image_id: str, key: str, target: str, *, readonly: bool = False) -> None:
        await self.store.mount(image_id, key, target, readonly=readonly)

    async def unmount(self, key: str, target: str) -> None:
        await self.store.unmount(key, target)


async def test_image_volumes(node: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "data.json").write_text("{}")
    store = ImageStore(tmp_path / "store")
    await create_from_rootfs(store, "data:1", str(source))
    images = _Images(store)
    manager = VolumeManager(str(node), FakeLookup(), images=images)
    path = (await manager.mount_pod_volumes(pod({"name": "v", "image": {"reference": "data:1"}})))["v"]
    assert images.asked == [("data:1", "IfNotPresent")]
    assert Path(path, "data.json").read_text() == "{}"
    with pytest.raises(OSError, match="Read-only"):
        Path(path, "new").touch()
    assert len(await store.in_use()) == 1
    await manager.close()
    later = VolumeManager(str(node), FakeLookup(), images=images)
    await later.clean_orphans(())
    assert await store.in_use() == set() and mounts.targets_below(str(tmp_path)) == []


def _bound(**spec: Any) -> FakeLookup:
    lookup = FakeLookup()
    claim = {
        "metadata": {"name": "c", "namespace": "ns", "uid": "c1"},
        "spec": {"volumeName": "pv"},
        "status": {"phase": "Bound"},
    }
    volume = {"metadata": {"name": "pv"}, "spec": {"claimRef": {"uid": "c1"}, **spec}}
    lookup.claims["c"] = struct.from_dict(claim, core_v1.PersistentVolumeClaim)
    lookup.volumes["pv"] = struct.from_dict(volume, core_v1.PersistentVolume)
    return lookup


CLAIM = {"name": "data", "persistentVolumeClaim": {"claimName": "c"}}


async def test_local_volumes_belong_to_the_group(node: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    (disk / "deep").mkdir(parents=True)
    (disk / "deep/file").write_text("1")
    (disk / "link").symlink_to("/etc/hostname")
    manager = VolumeManager(str(node), _bound(local={"path": str(disk)}))
    paths = await manager.mount_pod_volumes(pod(CLAIM, securityContext={"fsGroup": 77}))
    assert paths == {"data": str(disk)}
    assert (disk / "deep/file").stat().st_gid == 77
    assert stat.filemode((disk / "deep/file").stat().st_mode) == "-rw-rw-r--"
    assert stat.filemode((disk / "deep").stat().st_mode) == "drwxrwsr-x"
    assert os.lstat(disk / "link").st_gid == 77 and os.stat("/etc/hostname").st_gid == 0
    await manager.unmount_pod("u1")
    assert (disk / "deep/file").exists()


def test_the_group_is_set_once_with_on_root_mismatch(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ownership.apply(str(tmp_path), 77)
    os.chown(tmp_path / "file", 0, 5)
    ownership.apply(str(tmp_path), 77, policy="OnRootMismatch")
    assert (tmp_path / "file").stat().st_gid == 5
    os.chmod(tmp_path, 0o755)
    ownership.apply(str(tmp_path), 77, policy="OnRootMismatch")
    assert (tmp_path / "file").stat().st_gid == 77


@pytest.mark.skipif(os.path.exists("/sbin/mount.nfs"), reason="with a helper it would try for minutes")
async def test_nfs_tells_what_mount_said(node: Path) -> None:
    manager = VolumeManager(str(node), FakeLookup())
    with pytest.raises(MountFailed) as caught:
        await manager.mount_pod_volumes(pod({"name": "v", "nfs": {"server": "127.0.0.1", "path": "/x"}}))
    text = str(caught.value)
    assert text.startswith(
        'MountVolume.SetUp failed for volume "v" : mount failed: exit status 32\nMounting command: mount\n'
    )
    assert "Mounting arguments: -t nfs 127.0.0.1:/x " in text
    await manager.unmount_pod("u1")
