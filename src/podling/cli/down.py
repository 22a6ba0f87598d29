"""`podling down`: everything stops, and nothing is left but the data."""

from __future__ import annotations

import argparse
import sys

from podling.cluster import lifecycle


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--purge", action="store_true", help="remove the cluster's data too")


def run(arguments: argparse.Namespace) -> int:
    paths = lifecycle.find(arguments.data_dir)
    stopped = lifecycle.down(paths, lambda text: print(f"  {text}", file=sys.stderr), purge=arguments.purge)
    print("The cluster is down." if stopped else "No cluster was running.")
    return 0
