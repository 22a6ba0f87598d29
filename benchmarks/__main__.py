"""`python -m benchmarks`: see the package's docstring."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import platform
import sys
import tempfile
from pathlib import Path

from benchmarks import own
from benchmarks.common import HEADER, Result

#: The order: idle first, while the cluster is fresh.
ALL = ("idle", "kubectl", "pods", "api", "watch", "size")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("benchmarks", nargs="*", help=f"which of {', '.join(ALL)} (default: all)")
    parser.add_argument("--kubeconfig", help="measure this cluster instead of starting one")
    parser.add_argument("--image", default="localhost/busybox:1", help="an image with `sleep` that the nodes have")
    parser.add_argument("--pid", type=int, action="append", help="root of the cluster's processes, for idle")
    arguments = parser.parse_args()
    chosen = arguments.benchmarks or list(ALL)
    if unknown := set(chosen) - set(ALL):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    results: list[Result] = []
    print(f"{platform.machine()}, Linux {platform.release()}, Python {platform.python_version()}\n\n{HEADER}")

    def show(more: list[Result]) -> None:
        results.extend(more)
        for result in more:
            print(result.row(), flush=True)

    def measure() -> None:
        for name in chosen:
            module = importlib.import_module(f"benchmarks.{name}")
            show(asyncio.run(module.run(arguments.kubeconfig, arguments)))

    if arguments.kubeconfig:
        measure()
    else:
        with (
            tempfile.TemporaryDirectory(prefix="podling-bench-") as folder,
            own.cluster(Path(folder), arguments, show),
        ):
            measure()
    return 0


if __name__ == "__main__":
    sys.exit(main())
