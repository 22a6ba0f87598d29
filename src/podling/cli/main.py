"""`podling COMMAND ...`: finds the command's file and runs it; failures that a person can mend are one sentence."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

from podling import __version__
from podling.errors import PodlingError

#: Command -> what it does. Each is a module of this package with `configure(parser)` and `run(arguments) -> int`.
COMMANDS = {
    "up": "start a cluster in the background and wait until its nodes are ready",
    "down": "stop it and leave nothing behind but its data",
    "status": "show whether it runs, its nodes and its processes",
    "kubeconfig": "print the administrator's kubeconfig, or merge it into ~/.kube/config",
    "kubectl": "run kubectl against the cluster",
    "image": "pull, import, create, list and remove images",
    "logs": "show what the cluster's processes say",
    "version": "show versions",
}


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(
        prog="podling",
        description="A whole, real Kubernetes in one Python package.",
        epilog="`podling up` starts a cluster; `podling kubectl get pods -A` looks at it.",
    )
    root.add_argument("--version", action="version", version=f"podling {__version__}")
    commands = root.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        command.add_argument(
            "--data-dir", type=Path, default=None, metavar="DIR", help="where the cluster keeps its data"
        )
        importlib.import_module(f"podling.cli.{name}").configure(command)
    return root


def main(argv: list[str] | None = None) -> int:
    """The exit code: 0, 1 for a failure told in one sentence, 2 for unusable arguments, 130 when interrupted."""
    words = sys.argv[1:] if argv is None else argv
    if sys.platform == "win32":
        print("podling: clusters need a Unix system: use WSL, or podling.cluster.inprocess in Python", file=sys.stderr)
        return 1
    try:
        if words[:1] == ["kubectl"]:
            # Everything behind `kubectl` is kubectl's own, options included.
            from podling.cli import kubectl

            return kubectl.pass_on(words[1:])
        arguments = parser().parse_args(words)
        code: int = importlib.import_module(f"podling.cli.{arguments.command}").run(arguments)
        return code
    except PodlingError as error:
        print(f"podling: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
