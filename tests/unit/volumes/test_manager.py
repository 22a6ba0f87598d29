"""The manager mounts once, follows changes, waits for what is missing, and forgets."""

import asyncio
from pathlib import Path

import pytest

from podling.api import core_v1, struct
from podling.volumes.base import MountFailed
from podling.volumes.manager import VolumeManager, mentioned, message
from tests.unit.volumes.fakes import FakeLookup, config_map, pod

CONFIG = {"name": "config", "configMap": {"name": "cm"}}


def _read(path: str, key: str) -> str:
    return (Path(path) / key).read_text()


async def test_follows_its_config_map(tmp_path: Path) -> None:
    lookup = FakeLookup()
    manager = VolumeManager(str(tmp_path), lookup)
    lookup.config_maps["cm"] = config_map(key="1")
    paths = await manager.mount_pod_volumes(pod(CONFIG))
    assert paths == {"config": f"{tmp_path}/pods/u1/volumes/kubernetes.io~configmap/config"}
    assert _read(paths["config"], "key") == "1"
    lookup.config_maps["cm"] = config_map(key="2", other="x")
    assert manager.changed("ConfigMap", "ns", "another") == set()
    await manager.settle()
    assert _read(paths["config"], "key") == "1"
    assert manager.changed("ConfigMap", "ns", "cm") == set()
    await manager.settle()
    assert _read(paths["config"], "key") == "2" and _read(paths["config"], "other") == "x"
    del lookup.config_maps["cm"]
    manager.changed("ConfigMap", "ns", "cm")
    await manager.settle()
    assert _read(paths["config"], "key") == "2"
    assert await manager.mount_pod_volumes(pod(CONFIG)) == paths
    await manager.unmount_pod("u1")
    assert not (tmp_path / "pods/u1/volumes").exists()
    assert manager.changed("ConfigMap", "ns", "cm") == set()
    await manager.close()


async def test_optional_maps_come_and_go(tmp_path: Path) -> None:
    lookup = FakeLookup()
    manager = VolumeManager(str(tmp_path), lookup)
    volume = {"name": "config", "configMap": {"name": "cm", "optional": True}}
    path = (await manager.mount_pod_volumes(pod(volume)))["config"]
    for data in ({"a": "1"}, None, {"b": "2"}):
        lookup.config_maps = {"cm": config_map(**data)} if data else {}
        manager.changed("ConfigMap", "ns", "cm")
        await manager.settle()
        assert {p.name for p in Path(path).iterdir() if not p.name.startswith("..")} == set(data or ())
    await manager.unmount_pod("u1")


async def test_what_is_missing_is_named_and_waited_for(tmp_path: Path) -> None:
    lookup = FakeLookup()
    manager = VolumeManager(str(tmp_path), lookup)
    mine = pod(CONFIG, {"name": "tmp", "emptyDir": {}}, {"name": "h", "hostPath": {"path": "/x", "type": "File"}})
    with pytest.raises(MountFailed) as caught:
        await manager.mount_pod_volumes(mine)
    assert caught.value.messages == (
        'MountVolume.SetUp failed for volume "config" : configmap "cm" not found',
        'MountVolume.SetUp failed for volume "h" : hostPath type check failed: /x is not a file',
    )
    assert set(manager.mounted("u1")) == {"tmp"}
    lookup.config_maps["cm"] = config_map(key="1")
    assert manager.changed("ConfigMap", "ns", "cm") == {"u1"}
    await manager.unmount_pod("u1")
    assert manager.changed("ConfigMap", "ns", "cm") == set()


async def test_claims_have_their_own_words() -> None:
    manager = VolumeManager("/nowhere", FakeLookup())
    with pytest.raises(MountFailed) as caught:
        await manager.mount_pod_volumes(pod({"name": "data", "persistentVolumeClaim": {"claimName": "c"}}))
    assert str(caught.value) == (
        "Unable to attach or mount volumes: unmounted volumes=[data], unattached volumes=[], "
        "failed to process volumes=[data]: error processing PVC ns/c: "
        'failed to fetch PVC from API server: persistentvolumeclaim "c" not found'
    )
    assert manager.changed("PersistentVolumeClaim", "ns", "c") == {"u1"}


async def test_only_what_containers_mention_is_mounted(tmp_path: Path) -> None:
    mine = pod({"name": "used", "emptyDir": {}})
    assert mine.spec.volumes is not None
    mine.spec.volumes.append(core_v1.Volume(name="idle", secret=core_v1.SecretVolumeSource(secret_name="none")))
    manager = VolumeManager(str(tmp_path), FakeLookup())
    assert set(await manager.mount_pod_volumes(mine)) == {"used"}
    assert mentioned(mine) == {"used"}


async def test_orphans_are_cleaned(tmp_path: Path) -> None:
    lookup = FakeLookup()
    lookup.config_maps["cm"] = config_map(key="1")
    before = VolumeManager(str(tmp_path), lookup)
    await before.mount_pod_volumes(pod(CONFIG))
    gone = pod(CONFIG)
    gone.metadata.uid = "u2"
    await before.mount_pod_volumes(gone)
    await before.close()
    after = VolumeManager(str(tmp_path), lookup)
    assert await after.clean_orphans({"u1"}) == ["u2"]
    assert [p.name for p in (tmp_path / "pods").iterdir()] == ["u1"]
    assert _read((await after.mount_pod_volumes(pod(CONFIG)))["config"], "key") == "1"


async def test_many_changes_at_once_are_one_update(tmp_path: Path) -> None:
    lookup = FakeLookup()
    lookup.config_maps["cm"] = config_map(key="1")
    manager = VolumeManager(str(tmp_path), lookup)
    path = (await manager.mount_pod_volumes(pod(CONFIG)))["config"]
    reads = 0
    original = lookup.config_map

    async def counting(namespace: str, name: str) -> core_v1.ConfigMap | None:
        nonlocal reads
        reads += 1
        await asyncio.sleep(0.02)
        return await original(namespace, name)

    lookup.config_map = counting  # type: ignore[method-assign]
    for number in range(10):
        lookup.config_maps["cm"] = config_map(key=str(number))
        manager.changed("ConfigMap", "ns", "cm")
    await manager.settle()
    assert _read(path, "key") == "9" and reads == 1
    await manager.close()


def test_messages_of_system_errors() -> None:
    error = PermissionError(13, "Permission denied", "/x")
    assert message("v", error) == 'MountVolume.SetUp failed for volume "v" : /x: permission denied'


async def test_pod_versions_are_followed(tmp_path: Path) -> None:
    manager = VolumeManager(str(tmp_path), FakeLookup())
    mine = pod({"name": "t", "emptyDir": {}})
    await manager.mount_pod_volumes(mine)
    newer = struct.clone(mine)
    newer.metadata.labels = {"b": "2"}
    manager.pod_changed(newer)
    await manager.settle()
    unknown = struct.clone(mine)
    unknown.metadata.uid = "other"
    manager.pod_changed(unknown)
    await manager.close()


@pytest.mark.parametrize("there", [True, False])
async def test_a_change_during_the_set_up_is_not_missed(tmp_path: Path, there: bool) -> None:
    lookup = FakeLookup()
    manager = VolumeManager(str(tmp_path), lookup)
    original, asked = lookup.config_map, 0

    async def slow(namespace: str, name: str) -> core_v1.ConfigMap | None:
        nonlocal asked
        asked += 1
        found = await original(namespace, name)
        await asyncio.sleep(0.01)
        return found

    lookup.config_map = slow  # type: ignore[method-assign]
    if there:
        lookup.config_maps["cm"] = config_map(key="old")
    mounting = asyncio.create_task(manager.mount_pod_volumes(pod(CONFIG)))
    while not asked:
        await asyncio.sleep(0)
    lookup.config_maps["cm"] = config_map(key="new")
    manager.changed("ConfigMap", "ns", "cm")
    assert _read((await mounting)["config"], "key") == "new"
    assert asked == 2
    await manager.unmount_pod("u1")
