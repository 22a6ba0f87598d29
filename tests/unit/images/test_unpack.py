"""Names of entries; the rest of unpacking needs root."""

import pytest

from podling.images.unpack import clean


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("a/b", "a/b"),
        ("./a//b/", "a/b"),
        ("/a", "a"),
        ("//a", "a"),
        ("./", ""),
        ("/", ""),
        ("a/../b", "b"),
        ("..", None),
        ("../a", None),
        ("a/../../b", None),
        ("/../a", None),
        ("a\0b", None),
    ],
)
def test_names_stay_below_the_root(name: str, path: str | None) -> None:
    assert clean(name) == path
