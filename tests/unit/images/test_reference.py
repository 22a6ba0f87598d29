"""Image references are normalised as Docker's library does, and refused in its words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podling.images import reference
from podling.images.base import InvalidReference

A64, B64 = "a" * 64, "b" * 64


@pytest.mark.parametrize(
    ("text", "normalised"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36"),
        ("library/busybox", "docker.io/library/busybox:latest"),
        ("someone/thing", "docker.io/someone/thing:latest"),
        ("index.docker.io/busybox", "docker.io/library/busybox:latest"),
        ("docker.io/busybox", "docker.io/library/busybox:latest"),
        ("quay.io/a/b/c:v1", "quay.io/a/b/c:v1"),
        ("localhost/x", "localhost/x:latest"),
        ("localhost:5000/x", "localhost:5000/x:latest"),
        ("[::1]:5000/x", "[::1]:5000/x:latest"),
        ("host:5000/x:y", "host:5000/x:y"),
        ("UPPER/x", "UPPER/x:latest"),
        (f"busybox@sha256:{A64}", f"docker.io/library/busybox@sha256:{A64}"),
        (f"busybox:1@sha256:{A64}", f"docker.io/library/busybox:1@sha256:{A64}"),
        ("a__b/c-_d".replace("-_", "--"), "docker.io/a__b/c--d:latest"),
    ],
)
def test_normalises(text: str, normalised: str) -> None:
    assert str(reference.parse(text)) == normalised


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "invalid reference format"),
        ("a b", "invalid reference format"),
        ("x:", "invalid reference format"),
        ("x:-tag", "invalid reference format"),
        ("x@sha256:abc", "invalid reference format"),
        ("-x/y", "invalid reference format"),
        ("a//b", "invalid reference format"),
        ("https://x.io/y", "invalid reference format"),
        ("nginx:" + "t" * 129, "invalid reference format"),
        ("Busybox", "invalid reference format: repository name (library/Busybox) must be lowercase"),
        ("quay.io/Foo/bar:1", "invalid reference format: repository name (Foo/bar) must be lowercase"),
        (A64, f"invalid repository name ({A64}), cannot specify 64-byte hexadecimal strings"),
        ("x/" + "a" * 256, "repository name must not be more than 255 characters"),
        ("x@md5:" + "a" * 32, "unsupported digest algorithm"),
        ("x@sha256:" + "a" * 40, "invalid checksum digest length"),
        ("x@sha256:" + "A" * 64, "invalid checksum digest format"),
    ],
)
def test_refuses_in_the_librarys_words(text: str, words: str) -> None:
    with pytest.raises(InvalidReference) as caught:
        reference.parse(text)
    assert str(caught.value) == words


@pytest.mark.parametrize(
    ("text", "found"),
    [(A64, f"sha256:{A64}"), (f"sha256:{B64}", f"sha256:{B64}"), ("busybox", None), (f"md5:{A64}", None)],
)
def test_tells_ids_from_names(text: str, found: str | None) -> None:
    assert reference.image_id(text) == found


@pytest.mark.parametrize("text", ["busybox:latest", "someone/thing:1", "quay.io/a/b:c"])
def test_familiar_form_leads_back(text: str) -> None:
    assert reference.familiar(reference.parse(text)) == text


_component = st.from_regex(r"[a-z0-9]{1,8}(?:(?:_|__|-+)[a-z0-9]{1,8}){0,2}", fullmatch=True)


@given(
    st.sampled_from(["", "docker.io/", "quay.io/", "localhost:5000/", "10.0.0.1:80/"]),
    st.lists(_component, min_size=1, max_size=3),
    st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True),
)
def test_normal_form_is_stable(domain: str, components: list[str], tag: str) -> None:
    text = f"{domain}{'/'.join(components)}:{tag}"
    once = reference.parse(text)
    assert reference.parse(str(once)) == once
    assert reference.parse(reference.familiar(once)) == once
