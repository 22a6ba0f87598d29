"""Tokens between the pages of a list."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from podling.api.errors import StatusError
from podling.apiserver import continuation


def _token(**fields: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(fields).encode()).decode().rstrip("=")


def test_round_trip() -> None:
    assert continuation.decode(continuation.encode("default/\u00e4\0", 7)) == ("default/\u00e4\0", 7)
    assert continuation.decode(_token(v="meta.k8s.io/v1", rv=-1, start="/a")) == ("a", -1)


@pytest.mark.parametrize(("token", "why"), [
    ("%", "illegal base64 data at input byte 0"),
    ("abc=", "illegal base64 data at input byte 3"),
    ("ab\u00e4", "illegal base64 data at input byte 2"),
    ("a", "illegal base64 data at input byte 1"),
    ("bm90IGpzb24", ""),
    ("W10", ""),
    (_token(), "server does not recognize this encoded version "),
    (_token(v="v2", rv=1, start="a"), "server does not recognize this encoded version v2"),
    (_token(v="meta.k8s.io/v1", start="a"), "incorrect encoded start resourceVersion (version meta.k8s.io/v1)"),
    (_token(v="meta.k8s.io/v1", rv=1), "encoded start key empty (version meta.k8s.io/v1)"),
    (_token(v="meta.k8s.io/v1", rv=1, start="../a"), "../a"),
    (_token(v="meta.k8s.io/v1", rv=1, start="a//b"), "a//b"),
    (_token(v="meta.k8s.io/v1", rv=2**70, start="a"), ""),
    (_token(v="meta.k8s.io/v1", rv="1", start="a"), ""),
])  # fmt: skip
def test_what_is_no_token(token: str, why: str) -> None:
    with pytest.raises(StatusError) as caught:
        continuation.decode(token)
    said = "invalid continue token: continue key is not valid"
    assert caught.value.code == 400 and str(caught.value).startswith(f"{said}: {why}")
