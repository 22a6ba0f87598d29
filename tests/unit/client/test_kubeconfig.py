"""Kubeconfigs: what is found, where, and what is said when it is not."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from podling.client import kubeconfig
from podling.client.kubeconfig import Config, KubeconfigError


def document(user: dict[str, Any], cluster: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "n"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:6443", **(cluster or {})}}],
        "users": [{"name": "u", "user": user}],
    }


def test_what_is_dumped_is_loaded(tmp_path: Path) -> None:
    config = Config(server="https://127.0.0.1:6443", ca=b"CA", cert=b"CERT", key=b"KEY", namespace="x")
    path = tmp_path / "config"
    path.write_text(kubeconfig.dump(config))
    assert kubeconfig.load(str(path)) == config


def test_files_are_relative_to_the_kubeconfig_and_embedded_data_wins(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_bytes(b"from file")
    embedded = base64.b64encode(b"embedded").decode()
    data = document(
        {"client-certificate": "ca.crt", "client-certificate-data": embedded, "tokenFile": "token"},
        {"certificate-authority": "ca.crt"},
    )
    config = kubeconfig.parse(data, directory=str(tmp_path))
    assert (config.ca, config.cert, config.namespace) == (b"from file", b"embedded", "n")
    assert config.token_file == str(tmp_path / "token")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"current-context": ""}, "no current-context"),
        ({"current-context": "there"}, 'no context "there"'),
        ({"clusters": []}, 'no cluster "c"'),
        ({"users": [{"name": "u", "user": {"exec": {}}}]}, "plugin"),
        ({"users": [{"name": "u", "user": {"client-key": "absent.key"}}]}, "client-key"),
    ],
)
def test_what_is_missing_is_said(change: dict[str, Any], message: str) -> None:
    with pytest.raises(KubeconfigError, match=message):
        kubeconfig.parse({**document({}), **change})


def test_no_file_and_no_yaml_are_said(tmp_path: Path) -> None:
    with pytest.raises(KubeconfigError, match="cannot read"):
        kubeconfig.load(str(tmp_path / "absent"))
    (tmp_path / "broken").write_text("{")
    with pytest.raises(KubeconfigError, match="not YAML"):
        kubeconfig.load(str(tmp_path / "broken"))


def test_the_default_is_the_first_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", ":/a/b:/c")
    assert kubeconfig.default_path() == "/a/b"
