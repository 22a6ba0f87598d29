"""emptyDir on disk and in memory."""

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from podling import mounts
from podling.volumes.base import MountFailed
from podling.volumes.manager import VolumeManager
from tests.unit.volumes.fakes import FakeLookup, pod

pytestmark = pytest.mark.real


@pytest.mark.parametrize(
    ("source", "spec", "mode", "group"),
    [
        ({}, {}, "drwxrwxrwx", 0),
        ({}, {"securityContext": {"fsGroup": 123}}, "drwxrwsrwx", 123),
        ({"mode": 0o750}, {}, "drwxr-x---", 0),
        ({"medium": "Memory"}, {}, "drwxrwxrwt", 0),
        ({"medium": "Memory"}, {"securityContext": {"fsGroup": 123}}, "drwxrwsrwt", 123),
    ],
)
async def test_modes_and_groups(
    node: Path, source: dict[str, Any], spec: dict[str, Any], mode: str, group: int
) -> None:
    manager = VolumeManager(str(node), FakeLookup())
    path = (await manager.mount_pod_volumes(pod({"name": "v", "emptyDir": source}, **spec)))["v"]
    found = os.stat(path)
    assert (stat.filemode(found.st_mode), found.st_gid) == (mode, group)
    assert os.path.ismount(path) is (source.get("medium") == "Memory")
    await manager.unmount_pod("u1")
    assert not os.path.exists(path)


async def test_memory_is_limited(node: Path) -> None:
    manager = VolumeManager(str(node), FakeLookup())
    path = (await manager.mount_pod_volumes(pod({"name": "v", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}})))[
        "v"
    ]
    Path(path, "fits").write_bytes(b"x" * 500_000)
    with pytest.raises(OSError, match="No space left"):
        Path(path, "too much").write_bytes(b"x" * 2_000_000)
    used = (await manager.usage("u1"))["v"]
    assert used.capacity_bytes == 1 << 20 and used.used_bytes >= 500_000
    await manager.unmount_pod("u1")
    await manager.unmount_pod("u1")


async def test_other_media(node: Path) -> None:
    manager = VolumeManager(str(node), FakeLookup())
    with pytest.raises(MountFailed, match='unknown storage medium "Tape"'):
        await manager.mount_pod_volumes(pod({"name": "v", "emptyDir": {"medium": "Tape"}}))
    with pytest.raises(MountFailed, match="hugePages requests not specified"):
        await manager.mount_pod_volumes(pod({"name": "v", "emptyDir": {"medium": "HugePages"}}))
    await manager.unmount_pod("u1")


async def test_deleting_never_follows_mounts(node: Path, tmp_path: Path) -> None:
    """A container with Bidirectional propagation may have left a mount in its volume."""
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    manager = VolumeManager(str(node), FakeLookup())
    path = (await manager.mount_pod_volumes(pod({"name": "v", "emptyDir": {}})))["v"]
    Path(path, "inside").mkdir()
    mounts.bind(str(precious), f"{path}/inside")
    Path(path, "link").symlink_to(precious)
    await manager.unmount_pod("u1")
    assert (precious / "file").exists() and not Path(path).exists()
