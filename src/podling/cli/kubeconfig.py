"""`podling kubeconfig`: print it, or add it to one's own as a context. An existing file is never overwritten."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import yaml

from podling.cluster import lifecycle
from podling.cluster.config import ClusterError


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--merge", action="store_true", help="add the cluster as a context to ~/.kube/config")


def run(arguments: argparse.Namespace) -> int:
    paths = lifecycle.find(arguments.data_dir)
    lifecycle.require(paths)
    if not paths.kubeconfig.exists():
        raise ClusterError("the cluster was never started: `podling up` does it")
    text = paths.kubeconfig.read_text()
    if not arguments.merge:
        print(text, end="")
        return 0
    target = Path(os.environ.get("KUBECONFIG", "").split(os.pathsep)[0] or Path.home() / ".kube" / "config")
    context = merge(target, yaml.safe_load(text))
    print(f"Added the context {context} to {target}; use it with `kubectl config use-context {context}`.")
    return 0


def merge(target: Path, ours: dict[str, Any]) -> str:
    """Put our cluster, user and context into the kubeconfig at `target`; everything else in it stays as it is.

    The current context is set only if there is none. Gives our context's name. Raises ClusterError.
    """
    try:
        theirs = yaml.safe_load(target.read_text()) if target.exists() else None
    except (OSError, yaml.YAMLError) as error:
        raise ClusterError(f"can't read {target}, nothing was changed: {error}") from error
    theirs = theirs or {"apiVersion": "v1", "kind": "Config", "preferences": {}}
    if not isinstance(theirs, dict):
        raise ClusterError(f"{target} is not a kubeconfig, nothing was changed")
    for section in ("clusters", "users", "contexts"):
        kept = theirs.get(section) or []
        names = {entry["name"] for entry in ours[section]}
        theirs[section] = [entry for entry in kept if entry.get("name") not in names] + ours[section]
    theirs["current-context"] = theirs.get("current-context") or ours["current-context"]
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(target.name + ".podling")
    temporary.touch(mode=0o600)
    temporary.write_text(yaml.safe_dump(theirs, sort_keys=False))
    os.replace(temporary, target)
    name: str = ours["current-context"]
    return name
