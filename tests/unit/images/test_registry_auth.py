"""Challenges of registries."""

import pytest

from podling.images.registry_auth import Challenge, parse_challenges


@pytest.mark.parametrize(
    ("header", "challenge"),
    [
        ('Basic realm="a b"', Challenge("basic", {"realm": "a b"})),
        (
            'Bearer realm="https://a/t",service="s",scope="repository:x/y:pull,push"',
            Challenge("bearer", {"realm": "https://a/t", "service": "s", "scope": "repository:x/y:pull,push"}),
        ),
        (
            "Bearer realm=https://a/t, error=invalid_token",
            Challenge("bearer", {"realm": "https://a/t", "error": "invalid_token"}),
        ),
        ('Bearer realm="with \\"quotes\\""', Challenge("bearer", {"realm": 'with "quotes"'})),
        ("Negotiate", Challenge("negotiate", {})),
    ],
)
def test_parses(header: str, challenge: Challenge) -> None:
    assert parse_challenges([header]) == [challenge]


def test_bearer_comes_first() -> None:
    assert [c.scheme for c in parse_challenges(["Basic realm=x", "Bearer realm=y"])] == ["bearer", "basic"]
