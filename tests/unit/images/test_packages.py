"""Paths of packages in the merged-/usr layout."""

import pytest

from podling.images.packages import merged_link, merged_path


@pytest.mark.parametrize(
    ("path", "merged"),
    [
        ("bin/busybox", "usr/bin/busybox"),
        ("lib64/ld.so", "usr/lib64/ld.so"),
        ("usr/bin/x", "usr/bin/x"),
        ("etc/x", "etc/x"),
    ],
)
def test_paths(path: str, merged: str) -> None:
    assert merged_path(path) == merged


@pytest.mark.parametrize(
    ("path", "target", "moved"),
    [
        ("bin/sh", "dash", "dash"),
        ("bin/x", "../usr/bin/y", "/usr/bin/y"),
        ("lib64/ld.so", "/lib/x/ld.so", "/lib/x/ld.so"),
        ("usr/bin/a", "../lib/b", "../lib/b"),
    ],
)
def test_links_still_lead_where_they_led(path: str, target: str, moved: str) -> None:
    assert merged_link(path, target) == moved
