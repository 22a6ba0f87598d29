"""Archives of every form come in; broken ones give one sentence."""

import asyncio
import gzip
import json
import os
import tarfile
from pathlib import Path

import pytest

from podling.images.archive import import_archive
from podling.images.base import ImageError, InvalidArchive
from podling.images.store import ImageStore
from tests.real.images.conftest import skopeo
from tests.real.images.making import Built, index_of, member, simple, tar, write_layout

pytestmark = pytest.mark.real


def _pack(folder: Path, target: Path) -> Path:
    with tarfile.open(target, "w") as archive:
        archive.add(folder, ".")
    return target


@pytest.mark.parametrize(
    ("transport", "compression"),
    [
        ("docker-archive", ""),
        ("docker-archive", "+gzip"),
        ("oci-archive", ""),
        ("oci-archive", "+gzip"),
        ("oci-archive", "+zstd"),
    ],
)
async def test_what_skopeo_makes(
    store: ImageStore, tmp_path: Path, root: Path, transport: str, compression: str
) -> None:
    folder = write_layout(tmp_path / "layout", (simple(compression=compression), "v1"))
    archive = tmp_path / "archive.tar"
    await skopeo("copy", f"oci:{folder}:v1", f"{transport}:{archive}:example.com/app:v1")
    found = await import_archive(store, str(archive))
    assert [i.repo_tags for i in found] == [("example.com/app:v1",)]
    await store.mount(found[0].id, "c1", str(root))
    assert (root / "etc/greeting").read_text() == "hello"


async def test_a_compressed_archive(store: ImageStore, tmp_path: Path) -> None:
    archive = _pack(write_layout(tmp_path / "layout", (simple(), "x:1")), tmp_path / "a.tar")
    packed = tmp_path / "a.tar.gz"
    packed.write_bytes(gzip.compress(archive.read_bytes()))
    assert [i.repo_tags for i in await import_archive(store, str(packed))] == [("docker.io/library/x:1",)]
    assert all(name.endswith(".lock") for name in os.listdir(f"{store.layout.root}/ingest"))


async def test_several_images_in_one(store: ImageStore, tmp_path: Path) -> None:
    images = [simple("1"), simple("2")]
    folder = write_layout(tmp_path / "layout", (images[0], "one:1"), (images[1], "two:1"), (images[0], "one:2"))
    found = await import_archive(store, str(_pack(folder, tmp_path / "a.tar")))
    assert [i.id for i in found] == [i.id for i in images]
    assert found[0].repo_tags == ("docker.io/library/one:1", "docker.io/library/one:2")
    with pytest.raises(InvalidArchive, match="holds 2 images, which cannot all be named"):
        await import_archive(store, str(folder), "name:1")


async def test_the_right_platform_of_an_index(store: ImageStore, tmp_path: Path) -> None:
    mine, other = simple("mine"), simple("other")
    native = store.platform.architecture
    index = index_of((other, "s390x" if native != "s390x" else "amd64"), (mine, native))
    found = await import_archive(store, str(write_layout(tmp_path / "layout", (index, "x:1"))))
    assert found[0].id == mine.id
    assert found[0].repo_digests == (f"docker.io/library/x@{index.target['digest']}",)


async def test_old_docker_archives_with_links(store: ImageStore, tmp_path: Path) -> None:
    image = simple(compression="")
    config = image.blobs[image.config["digest"]]
    layer = image.blobs[image.layers[0]["digest"]]
    listing = json.dumps([{"Config": "c.json", "RepoTags": ["old:1"], "Layers": ["b/layer.tar"]}]).encode()
    data = tar(
        member("a"),
        member("a/layer.tar", layer),
        member("b"),
        member("b/layer.tar", type=tarfile.SYMTYPE, linkname="../a/layer.tar"),
        member("c.json", config),
        member("manifest.json", listing),
    )
    (tmp_path / "old.tar").write_bytes(data)
    found = await import_archive(store, str(tmp_path / "old.tar"))
    assert (found[0].id, found[0].repo_tags) == (image.id, ("docker.io/library/old:1",))


async def test_a_name_for_the_only_image(store: ImageStore, tmp_path: Path) -> None:
    folder = write_layout(tmp_path / "layout", (simple(), ""))
    assert (await import_archive(store, str(folder)))[0].repo_tags == ()
    assert (await import_archive(store, str(folder), "given:1"))[0].repo_tags == ("docker.io/library/given:1",)


async def test_broken_archives_say_what_is_wrong(store: ImageStore, tmp_path: Path) -> None:
    image = simple()
    whole = _pack(write_layout(tmp_path / "whole", (image, "x:1")), tmp_path / "whole.tar").read_bytes()
    folder = write_layout(tmp_path / "changed", (image, "x:1"))
    blob = folder / "blobs/sha256" / image.layers[0]["digest"].partition(":")[2]
    blob.write_bytes(Built([tar(member("evil", b"1"))]).blobs.popitem()[1])
    missing = write_layout(tmp_path / "missing", (image, "x:1"))
    (missing / "blobs/sha256" / image.config["digest"].partition(":")[2]).unlink()
    (tmp_path / "noise").write_bytes(os.urandom(5000))
    (tmp_path / "cut.tar").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "cut.gz").write_bytes(gzip.compress(whole)[:-50])
    (tmp_path / "plain.tar").write_bytes(tar(member("etc")))
    for name, words in {
        "noise": "is no image archive",
        "cut.gz": "is no image archive: the compressed data ends too early",
        "cut.tar": "is (damaged|no image archive)",
        "plain.tar": "it has neither an index.json nor a manifest.json",
        "changed": "is damaged: failed to extract layer",
        "missing": "is damaged: blobs/sha256/[0-9a-f]+ is missing",
        "absent": "cannot be read: no such file or directory",
    }.items():
        with pytest.raises(ImageError, match=words) as caught:
            await import_archive(store, str(tmp_path / name))
        assert "\n" not in str(caught.value)
    assert await store.list() == []


@pytest.mark.parametrize("packed", [False, True])
async def test_an_archive_through_a_pipe(store: ImageStore, tmp_path: Path, packed: bool) -> None:
    image = simple()
    archive = _pack(write_layout(tmp_path / "layout", (image, "x:1")), tmp_path / "a.tar").read_bytes()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writing = asyncio.create_task(asyncio.to_thread(pipe.write_bytes, gzip.compress(archive) if packed else archive))
    assert [i.id for i in await import_archive(store, str(pipe))] == [image.id]
    await writing
    assert not any(name.startswith("archive.") for name in os.listdir(f"{store.layout.root}/ingest"))
