"""The store keeps what it was given, mounts it, and survives kills and company."""

import asyncio
import gzip
import os
import signal
import stat
import sys
from pathlib import Path

import pytest

from podling.images.archive import import_archive
from podling.images.base import ImageConfig, ImageError, ImageInUse, ImageNotFound
from podling.images.build import create_from_rootfs
from podling.images.store import ImageStore
from tests.real.images.making import Built, member, simple, tar, write_layout

pytestmark = pytest.mark.real


async def _add(store: ImageStore, tmp_path: Path, image: Built, name: str) -> str:
    folder = write_layout(tmp_path / f"layout.{os.urandom(4).hex()}", (image, name))
    return (await import_archive(store, str(folder)))[0].id


async def test_status_by_every_name(store: ImageStore, tmp_path: Path) -> None:
    image = simple()
    await _add(store, tmp_path, image, "example.com/app:v1")
    found = await store.status("example.com/app:v1")
    assert found is not None and found.id == image.id
    assert found.repo_tags == ("example.com/app:v1",)
    assert found.repo_digests == (f"example.com/app@{image.target['digest']}",)
    assert found.config.cmd == ("/bin/sh",) and found.config.env == ("A=1",)
    for name in (found.id, found.id.partition(":")[2], *found.repo_digests):
        assert await store.status(name) == found
    assert await store.status("example.com/app:v2") is None


async def test_layers_merge_with_whiteouts(store: ImageStore, tmp_path: Path, root: Path) -> None:
    lower = tar(member("d"), member("d/gone", b"1"), member("d/kept", b"1"), member("o"), member("o/old", b"1"))
    again = tar(member("d"), member("d/gone", b"1"), member("d/kepu", b"1"), member("o"), member("o/old", b"1"))
    upper = tar(member("d"), member("d/.wh.gone", b""), member("o"), member("o/.wh..wh..opq", b""), member("o/n", b"1"))
    image = await _add(store, tmp_path, Built([lower, upper, again, upper]), "x:1")
    await store.mount(image, "c1", str(root))
    assert sorted(p.name for p in (root / "d").iterdir()) == ["kept", "kepu"]
    assert [p.name for p in (root / "o").iterdir()] == ["n"]


async def test_directories_without_entries_keep_their_modes(store: ImageStore, tmp_path: Path, root: Path) -> None:
    base = tar(member("tmp", mode=0o1777), member("srv", mode=0o750, uid=5), member("srv/www", mode=0o700, gid=6))
    image = await _add(store, tmp_path, Built([base, tar(member("tmp/x", b"1"), member("srv/www/y", b"1"))]), "x:1")
    await store.mount(image, "c1", str(root))
    found = {name: (root / name).stat() for name in ("tmp", "srv", "srv/www")}
    assert [stat.S_IMODE(s.st_mode) for s in found.values()] == [0o1777, 0o750, 0o700]
    assert (found["srv"].st_uid, found["srv/www"].st_gid) == (5, 6)
    assert (root / "srv/www/y").exists()


async def test_mounts_are_private_to_their_key(store: ImageStore, tmp_path: Path, root: Path) -> None:
    image = await _add(store, tmp_path, simple(), "x:1")
    other = tmp_path / "other"
    await store.mount(image, "c1", str(root))
    await store.mount(image, "c2", str(other))
    (root / "etc/greeting").write_text("changed")
    assert (other / "etc/greeting").read_text() == "hello"
    used, inodes = await store.written("c1")
    assert used > 0 and inodes == 2
    assert await store.written("c2") == (0, 0)
    with pytest.raises(ImageInUse):
        await store.remove(image)
    for key, target in (("c1", root), ("c2", other)):
        await store.unmount(key, str(target))
        await store.unmount(key, str(target))
        assert list(target.iterdir()) == []
    await store.mount(image, "c1", str(root))
    assert (root / "etc/greeting").read_text() == "hello"


async def test_readonly_mounts(store: ImageStore, tmp_path: Path, root: Path) -> None:
    image = await _add(store, tmp_path, simple(), "x:1")
    await store.mount(image, "c1", str(root), readonly=True)
    with pytest.raises(OSError, match="Read-only file system"):
        (root / "new").touch()


async def test_more_layers_than_a_page_of_options(tmp_path: Path, root: Path) -> None:
    place = tmp_path / ("long,name:" + "x" * 60)
    store = ImageStore(place)
    layers = [tar(member(f"f{number}", b"1")) for number in range(100)]
    image = await _add(store, tmp_path, Built(layers), "x:1")
    await store.mount(image, "c1", str(root))
    assert len(list(root.iterdir())) == 100
    await store.unmount("c1", str(root))
    await store.close()


async def test_removal_takes_only_what_nobody_needs(store: ImageStore, tmp_path: Path) -> None:
    shared, own = tar(member("shared", b"1")), tar(member("own", b"1"))
    one = await _add(store, tmp_path, Built([shared, own]), "one:1")
    two = await _add(store, tmp_path, Built([shared]), "two:1")
    await store.tag("one:1", "one:2")
    await store.remove("one:1")
    assert (await store.status(one)) is not None
    await store.remove("one:2")
    assert await store.status(one) is None and await store.status(two) is not None
    assert len(os.listdir(store.layout.root + "/layers")) == 1
    await store.remove(two)
    for folder in ("layers", "l", "blobs/sha256", "images", "refs", "ingest"):
        assert os.listdir(f"{store.layout.root}/{folder}") == [], folder
    with pytest.raises(ImageNotFound):
        await store.remove("two:1")


async def test_a_tag_moves(store: ImageStore, tmp_path: Path) -> None:
    first = await _add(store, tmp_path, simple("1"), "x:1")
    second = await _add(store, tmp_path, simple("2"), "x:1")
    found = await store.status("x:1")
    assert found is not None and found.id == second
    old = await store.status(first)
    assert old is not None and old.repo_tags == ()


async def test_two_stores_on_one_folder_see_each_other(store: ImageStore, tmp_path: Path) -> None:
    other = ImageStore(store.layout.root)
    assert await other.list() == []
    image = await _add(store, tmp_path, simple(), "x:1")
    assert [i.id for i in await other.list()] == [image]
    await other.remove("x:1")
    assert await store.list() == []


async def test_two_imports_at_once_share_layers(store: ImageStore, tmp_path: Path) -> None:
    other = ImageStore(store.layout.root)
    image = Built([tar(member(f"f{n}", os.urandom(200_000))) for n in range(4)])
    ids = await asyncio.gather(*(_add(s, tmp_path, image, f"x:{n}") for n, s in enumerate((store, other, store))))
    assert set(ids) == {image.id}
    assert len(os.listdir(f"{store.layout.root}/layers")) == 4
    found = await store.status(image.id)
    assert found is not None and len(found.repo_tags) == 3


_IMPORTER = """
import asyncio, sys
from podling.images.archive import import_archive
from podling.images.store import ImageStore
print("ready", flush=True)
asyncio.run(import_archive(ImageStore(sys.argv[1]), sys.argv[2]))
"""


@pytest.mark.parametrize("delay_ms", [0, 40, 80, 120, 200, 300])
async def test_killed_in_the_middle(tmp_path: Path, root: Path, delay_ms: int) -> None:
    files = [member(f"dir{n}/f{n}", os.urandom(20_000)) for n in range(300)]
    image = Built([tar(*files[:150]), tar(*files[150:])], compression="")
    folder = write_layout(tmp_path / "layout", (image, "x:1"))
    place = str(tmp_path / "store")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _IMPORTER, place, str(folder), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    await process.stdout.readline()
    await asyncio.sleep(delay_ms / 1000)
    if process.returncode is None:
        os.kill(process.pid, signal.SIGKILL)
    await process.wait()
    store = ImageStore(place)
    before = await store.status("x:1")
    assert before is None or before.id == image.id
    assert (await import_archive(store, str(folder)))[0].id == image.id
    await store.mount(image.id, "c1", str(root))
    for info, data in files:
        assert (root / info.name).read_bytes() == data
    await store.unmount("c1", str(root))
    assert len(os.listdir(f"{place}/layers")) == 2


async def test_an_image_of_a_directory_is_reproducible(store: ImageStore, tmp_path: Path, root: Path) -> None:
    source = tmp_path / "source"
    (source / "bin").mkdir(parents=True)
    (source / "bin/x").write_text("#!/bin/sh\n")
    (source / "bin/x").chmod(0o755)
    os.link(source / "bin/x", source / "bin/y")
    (source / "link").symlink_to("bin/x")
    os.utime(source, (1, 1))
    config = ImageConfig(entrypoint=("/bin/x",), env=("B=2",), labels={"a": "b"})
    one = await create_from_rootfs(store, "made:1", str(source), config)
    two = await create_from_rootfs(store, "made:2", str(source), config)
    assert one.id == two.id and two.repo_tags == ("docker.io/library/made:1", "docker.io/library/made:2")
    assert two.config.entrypoint == ("/bin/x",) and two.config.labels == {"a": "b"}
    assert two.config.env[0].startswith("PATH=") and two.config.env[1] == "B=2"
    await store.mount(one.id, "c1", str(root))
    assert os.access(root / "link", os.X_OK)
    assert (root / "bin/x").stat().st_ino == (root / "bin/y").stat().st_ino


async def test_an_image_of_a_tarball(
    store: ImageStore, tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tar(member("f", b"1"))
    (tmp_path / "root.tar.gz").write_bytes(gzip.compress(data))
    one = await create_from_rootfs(store, "made:1", str(tmp_path / "root.tar.gz"))
    with monkeypatch.context() as patched:
        patched.setattr(os, "geteuid", lambda: 1000)
        other = ImageStore(tmp_path / "other")
        two = await create_from_rootfs(other, "made:1", str(tmp_path / "root.tar.gz"))
    assert one.id == two.id and one.repo_digests == two.repo_digests
    await store.mount(one.id, "c1", str(root))
    assert (root / "f").exists()
    (tmp_path / "noise").write_bytes(os.urandom(1000))
    with pytest.raises(ImageError, match="noise cannot be an image: the layer is damaged"):
        await create_from_rootfs(store, "x", str(tmp_path / "noise"))
    assert not any(name.endswith(".tmp") for name in os.listdir(f"{store.layout.root}/layers"))


async def test_usage_counts_shared_layers_once(store: ImageStore, tmp_path: Path) -> None:
    layer = tar(member("f", b"x" * 50_000))
    await _add(store, tmp_path, Built([layer]), "one:1")
    before = await store.usage()
    await _add(store, tmp_path, Built([layer], Labels={"other": "image"}), "two:1")
    after = await store.usage()
    assert before.used_bytes >= 53_248
    assert after.used_bytes - before.used_bytes < 20_000


async def test_without_root_layers_wait_for_the_first_mount(
    store: ImageStore, tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tar(member("tmp", mode=0o1777))
    built = Built([base, tar(member("tmp/x", b"1"))])
    with monkeypatch.context() as patched:
        patched.setattr(os, "geteuid", lambda: 1000)
        image = await _add(store, tmp_path, built, "x:1")
        assert os.listdir(f"{store.layout.root}/layers") == []
        found = await store.status("x:1")
        assert found is not None and found.size == sum(layer["size"] for layer in built.layers)
        # Nothing that is needed is swept away.
        await _add(ImageStore(store.layout.root), tmp_path, simple(), "y:1")
    await store.mount(image, "c1", str(root))
    assert (root / "tmp/x").exists() and stat.S_IMODE((root / "tmp").stat().st_mode) == 0o1777
    await store.unmount("c1", str(root))
    await store.remove("y:1")
    kept = {f"sha256:{name}" for name in os.listdir(f"{store.layout.root}/blobs/sha256")}
    assert kept.isdisjoint(layer["digest"] for layer in built.layers)
    assert await store.status("x:1") is not None


async def test_use_is_remembered(store: ImageStore, tmp_path: Path, root: Path) -> None:
    image = await _add(store, tmp_path, simple(), "x:1")
    os.utime(store.layout.used(image), (1, 1))
    assert store.last_used(image).timestamp() == 1
    await store.mount(image, "c1", str(root))
    assert store.last_used(image).timestamp() > 1_000_000
    assert await store.in_use() == {image} and await store.mounted() == {"c1": str(root)}


async def test_pins_stay_through_a_new_import(store: ImageStore, tmp_path: Path) -> None:
    image = await _add(store, tmp_path, simple(), "x:1")
    await store.pin("x:1")
    await _add(store, tmp_path, simple(), "x:1")
    found = await store.status(image)
    assert found is not None and found.pinned


async def test_many_processes_change_the_store_at_once(tmp_path: Path) -> None:
    """Pulls, tags and removals of four processes; in the end nothing is lost and nothing is left."""
    place = str(tmp_path / "store")
    folders = [str(write_layout(tmp_path / f"l{n}", (simple(str(n)), f"x{n}:1"))) for n in range(4)]
    script = """
import asyncio, sys
from podling.images.archive import import_archive
from podling.images.store import ImageStore
async def main(place, folder, number):
    store = ImageStore(place)
    for turn in range(5):
        image = (await import_archive(store, folder))[0]
        await store.tag(image.id, f"t{number}:{turn}")
        assert (await store.status(f"t{number}:{turn}")).id == image.id
        if turn < 4:
            await store.remove(image.id)
            assert await store.status(f"t{number}:{turn}") is None
asyncio.run(main(*sys.argv[1:]))
"""
    processes = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", script, place, folder, str(number))
        for number, folder in enumerate(folders)
    ]
    assert [await process.wait() for process in processes] == [0, 0, 0, 0]
    store = ImageStore(place)
    names = sorted(tag for image in await store.list() for tag in image.repo_tags)
    assert names == sorted(f"docker.io/library/{tag}" for n in range(4) for tag in (f"x{n}:1", f"t{n}:4"))
    for name in names:
        await store.remove(name)
    assert os.listdir(f"{place}/layers") == [] and os.listdir(f"{place}/refs") == []
