"""What the index says, to whom, and when."""

from pathlib import Path

import pytest

from podling.images.base import ImageError, InvalidReference
from podling.images.index import Index, Record
from podling.images.layout import Layout

ONE, TWO = "sha256:" + "a1" * 32, "sha256:" + "b2" * 32


async def _made(path: Path) -> tuple[Layout, Index]:
    layout = Layout(str(path))
    layout.create()
    index = Index(layout)
    async with index.changing():
        await index.put(Record(id=ONE))
        await index.put(Record(id=TWO))
        await index.point("docker.io/library/x:1", ONE)
        await index.point(f"docker.io/library/x@sha256:{'c' * 64}", ONE)
        await index.point("docker.io/library/abcdef12345:latest", TWO)
    return layout, index


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("x:1", ONE),
        ("docker.io/library/x:1", ONE),
        (f"x@sha256:{'c' * 64}", ONE),
        (f"x:any@sha256:{'c' * 64}", ONE),
        ("x", None),
        (ONE, ONE),
        ("b2" * 32, TWO),
        ("a1a1a1a", ONE),
        ("a1a1a1", None),
        ("abcdef12345", TWO),
    ],
)
async def test_finds_by_name_and_id(tmp_path: Path, text: str, found: str | None) -> None:
    _, index = await _made(tmp_path)
    record = index.find(text)
    assert (record.id if record else None) == found


async def test_names_that_are_none(tmp_path: Path) -> None:
    _, index = await _made(tmp_path)
    with pytest.raises(InvalidReference):
        index.find("No Name")


async def test_a_change_elsewhere_is_seen_at_once(tmp_path: Path) -> None:
    layout, index = await _made(tmp_path)
    other = Index(layout)
    assert other.find("x:1") is not None
    async with index.changing():
        index.drop(ONE)
        assert other.find("x:1") is None
    assert other.find("x:1") is None


async def test_a_writer_killed_in_the_middle_hides_nothing(tmp_path: Path) -> None:
    layout, index = await _made(tmp_path)
    other = Index(layout)
    assert other.find("y:1") is None
    Path(layout.generation).write_text("1001")
    await index.point("docker.io/library/y:1", ONE)
    assert other.find("y:1") is not None
    async with index.changing():
        pass
    assert int(Path(layout.generation).read_text()) % 2 == 0


async def test_an_empty_generation_after_a_power_cut(tmp_path: Path) -> None:
    layout, index = await _made(tmp_path)
    Path(layout.generation).write_text("")
    assert Index(layout).find("x:1") is not None
    async with index.changing():
        await index.point("docker.io/library/z:1", TWO)
    assert index.find("z:1") is not None


async def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    layout, _ = await _made(tmp_path)
    Path(layout.image(ONE)).write_text("{")
    with pytest.raises(ImageError, match=r"\.json is damaged .*: delete it and pull the image again"):
        Index(layout).records()
