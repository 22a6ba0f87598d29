"""hosts.toml decides where a registry's images come from."""

from pathlib import Path

import pytest

from podling.images.registry_config import InvalidRegistryConfig, RegistryConfig, is_loopback


def _urls(config: RegistryConfig, domain: str) -> list[str]:
    return [f"{e.url}{e.base}" for e in config.endpoints(domain)]


@pytest.mark.parametrize(
    ("domain", "urls"),
    [
        ("docker.io", ["https://registry-1.docker.io/v2"]),
        ("quay.io", ["https://quay.io/v2"]),
        ("plain.internal:5000", ["http://plain.internal:5000/v2"]),
        ("localhost:5000", ["http://localhost:5000/v2", "https://localhost:5000/v2"]),
        ("[::1]:5000", ["http://[::1]:5000/v2", "https://[::1]:5000/v2"]),
    ],
)
def test_without_configuration(domain: str, urls: list[str]) -> None:
    assert _urls(RegistryConfig(insecure=frozenset({"plain.internal:5000"})), domain) == urls


def test_mirrors_come_before_the_server(tmp_path: Path) -> None:
    (tmp_path / "docker.io").mkdir()
    (tmp_path / "docker.io" / "hosts.toml").write_text(
        'server = "https://origin.io"\n'
        '[host."http://mirror:5000"]\n  capabilities = ["pull"]\n  ca = "ca.pem"\n'
        '[host."https://proxy/v2/hub"]\n  override_path = true\n  skip_verify = true\n'
        '[host."https://push-only"]\n  capabilities = ["push"]\n'
    )
    first, second, last = RegistryConfig(tmp_path).endpoints("docker.io")
    assert (first.url, first.resolve, first.ca, first.mirror) == (
        "http://mirror:5000",
        False,
        (str(tmp_path / "docker.io" / "ca.pem"),),
        True,
    )
    assert (second.url, second.base, second.skip_verify) == ("https://proxy", "/v2/hub", True)
    assert (last.url, last.base, last.mirror) == ("https://origin.io", "/v2", False)


def test_default_configuration_is_for_all_others(tmp_path: Path) -> None:
    (tmp_path / "_default").mkdir()
    (tmp_path / "_default" / "hosts.toml").write_text('[host."https://cache"]\n')
    assert _urls(RegistryConfig(tmp_path), "quay.io") == ["https://cache/v2", "https://quay.io/v2"]


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "quay.io").mkdir()
    (tmp_path / "quay.io" / "hosts.toml").write_text("server = ")
    with pytest.raises(InvalidRegistryConfig, match=r"quay\.io/hosts\.toml is no valid registry configuration"):
        RegistryConfig(tmp_path).endpoints("quay.io")


@pytest.mark.parametrize(
    ("domain", "expected"),
    [("127.0.0.1:5000", True), ("localhost", True), ("[::1]", True), ("10.0.0.1:5000", False), ("example.com", False)],
)
def test_loopback(domain: str, expected: bool) -> None:
    assert is_loopback(domain) is expected
