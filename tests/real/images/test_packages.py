"""Images of Debian packages, from packages made on the spot."""

import asyncio
import os
import shutil
import stat
import tarfile
from pathlib import Path

import pytest

from podling.images import packages
from podling.images.base import ImageConfig, ImageError
from podling.images.build import create_from_packages
from podling.images.store import ImageStore

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is not installed"),
]


async def _package(folder: Path, name: str, files: dict[str, tuple[str, int]], links: dict[str, str]) -> str:
    tree = folder / f"{name}.tree"
    for path, (text, mode) in files.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text)
        (tree / path).chmod(mode)
    for path, target in links.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).symlink_to(target)
    (tree / "DEBIAN").mkdir()
    control = f"Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: nobody <n@example.com>\nDescription: x\n"
    (tree / "DEBIAN/control").write_text(control)
    deb = folder / f"{name}.deb"
    process = await asyncio.create_subprocess_exec(
        *("dpkg-deb", "--build", "--root-owner-group", str(tree), str(deb)), stdout=asyncio.subprocess.DEVNULL
    )
    assert await process.wait() == 0
    return str(deb)


async def test_packages_become_one_reproducible_layer(tmp_path: Path) -> None:
    debs = [
        await _package(
            tmp_path,
            "one",
            {"bin/tool": ("#!/bin/sh\n", 0o4755), "usr/share/man/man1/tool.1": ("x", 0o644)},
            {"bin/alias": "../usr/bin/other", "lib/libx.so": "libx.so.1"},
        ),
        await _package(
            tmp_path, "two", {"usr/bin/other": ("other", 0o755), "etc/passwd": ("me:x:1:1::/:\n", 0o644)}, {}
        ),
    ]
    digests = []
    for number in range(2):
        work = tmp_path / f"work{number}"
        work.mkdir()
        digests.append(await packages.write_layer(debs, str(work / "layer.tar"), str(work)))
    assert digests[0] == digests[1]
    with tarfile.open(tmp_path / "work0/layer.tar") as archive:
        members = {m.name: m for m in archive.getmembers()}
        passwd = archive.extractfile("etc/passwd")
        assert passwd is not None and passwd.read() == b"me:x:1:1::/:\n"
    assert members["usr/bin/tool"].mode == 0o4755 and members["usr/bin/tool"].uid == 0
    assert members["usr/bin/alias"].linkname == "/usr/bin/other"
    assert members["usr/lib/libx.so"].linkname == "libx.so.1"
    assert members["bin"].linkname == "usr/bin" and members["lib"].linkname == "usr/lib"
    assert stat.S_IMODE(members["tmp"].mode) == 0o1777
    assert "usr/share/man/man1/tool.1" not in members and "DEBIAN" not in members


async def test_an_image_of_downloaded_packages(
    store: ImageStore, tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deb = await _package(tmp_path, "tool", {"usr/bin/tool": ("#!/bin/sh\n", 0o755)}, {})

    async def downloaded(names: list[str], folder: str, *, dependencies: bool) -> list[str]:
        assert names == ["tool"] and dependencies
        return [shutil.copy(deb, folder)]

    monkeypatch.setattr(packages, "download", downloaded)
    image = await create_from_packages(store, "tool", ["tool"], ImageConfig(entrypoint=("tool",)), dependencies=True)
    assert image.repo_tags == ("docker.io/library/tool:latest",)
    await store.mount(image.id, "c1", str(root))
    assert os.access(root / "bin/tool", os.X_OK)
    assert not any(name.startswith("build.") for name in os.listdir(f"{store.layout.root}/ingest"))


async def test_own_files_are_laid_over_packages(
    store: ImageStore, tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deb = await _package(tmp_path, "tool", {"usr/bin/tool": ("#!/bin/sh\n", 0o755), "etc/tool": ("theirs", 0o644)}, {})

    async def downloaded(names: list[str], folder: str, *, dependencies: bool) -> list[str]:
        return [shutil.copy(deb, folder)]

    monkeypatch.setattr(packages, "download", downloaded)
    for name, text in (("etc/tool", "mine"), ("bin/start", "#!/bin/sh\n"), ("usr/share/man/page", "kept")):
        (tmp_path / "over" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "over" / name).write_text(text)
    image = await create_from_packages(store, "tool", ["tool"], rootfs=str(tmp_path / "over"))
    await store.mount(image.id, "c1", str(root))
    assert (root / "etc/tool").read_text() == "mine" and (root / "usr/share/man/page").read_text() == "kept"
    assert (root / "bin/tool").exists() and (root / "usr/bin/start").exists()
    (tmp_path / "not-a-tar").write_text("x" * 2000)
    with pytest.raises(ImageError, match="not-a-tar cannot be an image"):
        await create_from_packages(store, "tool", ["tool"], rootfs=str(tmp_path / "not-a-tar"))
    with pytest.raises(ImageError, match="nowhere: no such file or directory"):
        await create_from_packages(store, "tool", ["tool"], rootfs="/nowhere")


@pytest.mark.parametrize("names", [[], ["--evil"], ["a b"], ["x;y"]])
async def test_names_of_packages_are_checked(store: ImageStore, names: list[str]) -> None:
    with pytest.raises(ImageError, match="package"):
        await create_from_packages(store, "x", names)


async def test_a_file_that_is_no_package(tmp_path: Path) -> None:
    (tmp_path / "x.deb").write_text("nothing")
    with pytest.raises(ImageError, match=r"^dpkg-deb failed: [^:]+ in .*x\.deb"):
        await packages.write_layer([str(tmp_path / "x.deb")], str(tmp_path / "layer"), str(tmp_path))
