"""`podling logs`: what the cluster's own processes say (pods: `podling kubectl logs`)."""

from __future__ import annotations

import argparse
import os
import shutil
import sys

from podling.cluster import lifecycle
from podling.cluster.config import ClusterError


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "part", nargs="?", default=None, help="supervisor, control-plane or a node's name; all if left out"
    )
    parser.add_argument("-f", "--follow", action="store_true", help="go on as more is written")
    parser.add_argument("-n", "--tail", type=int, default=50, metavar="LINES", help="how many lines (default 50)")


def run(arguments: argparse.Namespace) -> int:
    paths = lifecycle.find(arguments.data_dir)
    lifecycle.require(paths)
    known = {path.stem: path for path in sorted(paths.logs.glob("*.log"))}
    if arguments.part and arguments.part not in known:
        raise ClusterError(f"there is no log of {arguments.part}: there are {', '.join(known) or 'none'}")
    files = [str(known[arguments.part])] if arguments.part else [str(p) for p in known.values()]
    if not files:
        raise ClusterError(f"nothing was logged in {paths.logs}")
    program = shutil.which("tail")
    if program is None:
        raise ClusterError(f"`tail` is not installed; the logs are {', '.join(files)}")
    sys.stdout.flush()
    os.execv(program, [program, "-n", str(arguments.tail), *(["-F"] if arguments.follow else []), *files])
