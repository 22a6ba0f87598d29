"""Secrets, tokens and the pod's own fields, on real tmpfs with real owners."""

import asyncio
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from podling import clock, mounts
from podling.api import struct
from podling.volumes.manager import VolumeManager
from tests.unit.volumes.fakes import FakeLookup, config_map, pod, secret

pytestmark = pytest.mark.real


def _filesystem(path: str) -> str:
    with open("/proc/self/mountinfo") as table:
        rows = [line.split() for line in table]
    return next(row[row.index("-") + 1] for row in reversed(rows) if row[4] == path)


def _mode(path: str) -> str:
    return stat.filemode(os.stat(path).st_mode)


async def test_secrets_are_in_memory_and_the_groups(node: Path) -> None:
    lookup = FakeLookup()
    lookup.secrets["s"] = secret(key="value", other="x")
    manager = VolumeManager(str(node), lookup)
    volume = {
        "name": "v",
        "secret": {"secretName": "s", "defaultMode": 0o440, "items": [{"key": "key", "path": "d/k", "mode": 0o400}]},
    }
    path = (await manager.mount_pod_volumes(pod(volume, securityContext={"fsGroup": 1001})))["v"]
    assert _filesystem(path) == "tmpfs"
    assert Path(path, "d/k").read_text() == "value" and not Path(path, "other").exists()
    assert os.stat(f"{path}/d/k").st_gid == 1001 and _mode(f"{path}/d/k") == "-r--r-----"
    assert os.stat(path).st_gid == 1001 and _mode(path) == "drwxrwsrwx"
    assert _mode(f"{path}/d/") == "drwxr-sr-x"
    before = os.readlink(f"{path}/..data")
    manager.changed("Secret", "ns", "s")
    await manager.settle()
    assert os.readlink(f"{path}/..data") == before
    lookup.secrets["s"] = secret(key="new")
    manager.changed("Secret", "ns", "s")
    await manager.settle()
    assert Path(path, "d/k").read_text() == "new" and os.stat(f"{path}/d/k").st_gid == 1001
    await manager.unmount_pod("u1")
    assert not Path(path).exists() and mounts.targets_below(str(node)) == []


@pytest.mark.parametrize(
    ("volume", "mode", "expected"),
    [
        ({"configMap": {"name": "cm"}}, 0o644, "-rw-r--r--"),
        ({"configMap": {"name": "cm", "defaultMode": 0o400}}, 0o400, "-r--------"),
        ({"configMap": {"name": "cm", "items": [{"key": "k", "path": "k", "mode": 0o400}]}}, 0o400, "-r--------"),
        ({"projected": {"sources": [{"configMap": {"name": "cm"}}]}}, 0o644, "-rw-r--r--"),
        ({"configMap": {"name": "cm", "defaultMode": 0o600, "defaultUser": 33}}, 0o600, "-rw-------"),
    ],
)
async def test_modes(node: Path, volume: dict[str, Any], mode: int, expected: str) -> None:
    lookup = FakeLookup()
    lookup.config_maps["cm"] = config_map(k="1")
    manager = VolumeManager(str(node), lookup)
    path = (await manager.mount_pod_volumes(pod({"name": "v", **volume})))["v"]
    assert _mode(f"{path}/k") == expected
    assert os.stat(f"{path}/k").st_uid == volume.get("configMap", {}).get("defaultUser", 0)
    await manager.unmount_pod("u1")


def test_tokens_are_renewed_by_the_clock(node: Path) -> None:
    volume = {
        "name": "v",
        "projected": {"sources": [{"serviceAccountToken": {"path": "token", "expirationSeconds": 600}}]},
    }

    async def scenario() -> None:
        lookup = FakeLookup()
        manager = VolumeManager(str(node), lookup)
        path = (await manager.mount_pod_volumes(pod(volume)))["v"]
        token = Path(path, "token")
        assert token.read_text() == "token-1"
        await asyncio.sleep(460)
        assert token.read_text() == "token-1"
        await asyncio.sleep(30)
        assert token.read_text() == "token-2"
        lookup.tokens_fail = True
        await asyncio.sleep(500)
        assert token.read_text() == "token-2"
        lookup.tokens_fail = False
        await asyncio.sleep(70)
        assert token.read_text() == "token-3"
        await manager.close()

    clock.run_virtual(scenario())


async def test_labels_follow_the_pod(node: Path) -> None:
    items = [
        {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
        {"path": "cpu", "resourceFieldRef": {"containerName": "c", "resource": "limits.cpu"}},
    ]
    manager = VolumeManager(str(node), FakeLookup())
    mine = pod({"name": "v", "downwardAPI": {"items": items}})
    path = (await manager.mount_pod_volumes(mine))["v"]
    assert Path(path, "labels").read_text() == 'a="1"' and Path(path, "cpu").read_text() == "2"
    newer = struct.clone(mine)
    newer.metadata.labels = {"a": "2", "b": "3"}
    manager.pod_changed(newer)
    await manager.settle()
    assert Path(path, "labels").read_text() == 'a="2"\nb="3"'
    await manager.unmount_pod("u1")


async def test_a_restarted_agent_goes_on(node: Path) -> None:
    lookup = FakeLookup()
    lookup.secrets["s"] = secret(k="1")
    mine = pod({"name": "v", "secret": {"secretName": "s"}}, {"name": "m", "emptyDir": {"medium": "Memory"}})
    first = VolumeManager(str(node), lookup)
    paths = await first.mount_pod_volumes(mine)
    Path(paths["m"], "kept").write_text("x")
    os.chmod(paths["m"], 0o700)
    data = os.readlink(f"{paths['v']}/..data")
    await first.close()
    second = VolumeManager(str(node), lookup)
    assert await second.clean_orphans({"u1"}) == []
    assert await second.mount_pod_volumes(mine) == paths
    assert os.readlink(f"{paths['v']}/..data") == data
    assert Path(paths["m"], "kept").exists() and _mode(paths["m"]) == "drwx------"
    assert len(mounts.targets_below(str(node))) == 2
    third = VolumeManager(str(node), lookup)
    assert await third.clean_orphans(set()) == ["u1"]
    assert mounts.targets_below(str(node)) == [] and list((node / "pods").iterdir()) == []
