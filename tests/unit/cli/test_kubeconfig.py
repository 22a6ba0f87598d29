"""Merging into somebody's kubeconfig: theirs stays theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from podling.cli.kubeconfig import merge
from podling.cluster.config import ClusterError


def ours(server: str = "https://127.0.0.1:6443") -> dict[str, Any]:
    return {
        "clusters": [{"name": "podling", "cluster": {"server": server}}],
        "users": [{"name": "podling-admin", "user": {}}],
        "contexts": [{"name": "podling", "context": {"cluster": "podling", "user": "podling-admin"}}],
        "current-context": "podling",
    }


def test_a_new_file_is_ours_and_private(tmp_path: Path) -> None:
    target = tmp_path / "kube" / "config"
    assert merge(target, ours()) == "podling"
    assert yaml.safe_load(target.read_text())["current-context"] == "podling"
    assert target.stat().st_mode & 0o777 == 0o600


def test_theirs_is_kept_and_ours_replaced(tmp_path: Path) -> None:
    target = tmp_path / "config"
    theirs = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "prod", "cluster": {"server": "https://prod"}}],
        "users": [{"name": "me", "user": {"token": "t"}}],
        "contexts": [{"name": "prod", "context": {"cluster": "prod", "user": "me"}}],
        "current-context": "prod",
        "extensions": ["kept"],
    }
    target.write_text(yaml.safe_dump(theirs))
    merge(target, ours("https://old"))
    merge(target, ours("https://new"))
    merged = yaml.safe_load(target.read_text())
    assert merged["current-context"] == "prod" and merged["extensions"] == ["kept"]
    assert [c["name"] for c in merged["clusters"]] == ["prod", "podling"]
    assert merged["clusters"][1]["cluster"]["server"] == "https://new"
    assert merged["users"][0] == theirs["users"][0]  # type: ignore[index]


@pytest.mark.parametrize("text", ["- a list", "{unclosed", "just text"])
def test_what_is_no_kubeconfig_is_left_alone(tmp_path: Path, text: str) -> None:
    target = tmp_path / "config"
    target.write_text(text)
    with pytest.raises(ClusterError, match="nothing was changed"):
        merge(target, ours())
    assert target.read_text() == text
