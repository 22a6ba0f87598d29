"""subPath shows a part of a volume, and nothing else whatever a container does."""

import os
import stat
from pathlib import Path

import pytest

from podling import mounts
from podling.volumes import subpath
from podling.volumes.manager import VolumeManager
from tests.unit.volumes.fakes import FakeLookup, config_map, pod

pytestmark = pytest.mark.real


@pytest.fixture
def volume(node: Path) -> Path:
    made = node / "volume"
    made.mkdir()
    made.chmod(0o2775)
    return made


def _prepare(volume: Path, path: str, node: Path, index: int = 0) -> str:
    return subpath.prepare(str(volume), path, str(node / "pods/u1"), "v", "c", index)


def test_directories_and_files(volume: Path, node: Path) -> None:
    (volume / "d").mkdir()
    (volume / "d/f").write_text("1")
    shown = _prepare(volume, "d", node)
    assert shown == f"{node}/pods/u1/volume-subpaths/v/c/0"
    assert Path(shown, "f").read_text() == "1"
    assert Path(_prepare(volume, "d/f", node, 1)).read_text() == "1"
    assert _prepare(volume, "d", node) == shown
    assert len(mounts.targets_below(str(node))) == 2


def test_what_is_missing_is_made_like_the_volume(volume: Path, node: Path) -> None:
    shown = _prepare(volume, "a/b/c", node)
    assert Path(shown).is_dir()
    for part in ("a", "a/b", "a/b/c"):
        assert stat.S_IMODE((volume / part).stat().st_mode) == 0o2775


@pytest.mark.parametrize("path", ["/abs", "..", "a/../../b"])
def test_paths_that_say_so_do_not_leave(volume: Path, node: Path, path: str) -> None:
    with pytest.raises(ValueError, match="is not a path inside of a volume"):
        _prepare(volume, path, node)


@pytest.mark.parametrize("walk", [False, True])
def test_links_do_not_leave(volume: Path, node: Path, walk: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if walk:
        monkeypatch.setattr(subpath, "_openat2", lambda root, path, resolve=0: subpath._walk(root, path))
    outside = node / "outside"
    outside.mkdir()
    (volume / "up").symlink_to("../outside")
    (volume / "absolute").symlink_to(outside)
    (volume / "inner").mkdir()
    (volume / "inside").symlink_to("inner")
    for path in ("up", "up/new", "absolute", "absolute/new"):
        with pytest.raises((OSError, ValueError)):
            _prepare(volume, path, node)
    assert list(outside.iterdir()) == []
    Path(_prepare(volume, "inside", node), "x").touch()
    assert (volume / "inner/x").exists()


def test_what_was_bound_stays_when_names_change(volume: Path, node: Path) -> None:
    (volume / "d").mkdir()
    (volume / "d/mine").touch()
    shown = _prepare(volume, "d", node)
    (volume / "d").rename(volume / "old")
    (volume / "d").symlink_to("/etc")
    assert [p.name for p in Path(shown).iterdir()] == ["mine"]
    with pytest.raises((OSError, ValueError)):
        _prepare(volume, "d", node)


def test_secure_join(volume: Path) -> None:
    (volume / "etc").mkdir()
    (volume / "etc/env").touch()
    (volume / "link").symlink_to("/etc/env")
    assert subpath.secure_join(str(volume), "link") == f"{volume}/etc/env"
    assert subpath.secure_join(str(volume), "../../etc/env") == f"{volume}/etc/env"
    assert subpath.secure_join(str(volume), "../none") == f"{volume}/none"


async def test_a_key_of_a_config_map(node: Path) -> None:
    lookup = FakeLookup()
    lookup.config_maps["cm"] = config_map(key="1")
    manager = VolumeManager(str(node), lookup)
    path = (await manager.mount_pod_volumes(pod({"name": "v", "configMap": {"name": "cm"}})))["v"]
    shown = _prepare(Path(path), "key", node)
    lookup.config_maps["cm"] = config_map(key="2")
    manager.changed("ConfigMap", "ns", "cm")
    await manager.settle()
    assert Path(path, "key").read_text() == "2" and Path(shown).read_text() == "1"
    assert Path(_prepare(Path(path), "key", node)).read_text() == "2"
    await manager.unmount_pod("u1")
    assert mounts.targets_below(str(node)) == []
    assert os.listdir(node / "pods/u1") == []
