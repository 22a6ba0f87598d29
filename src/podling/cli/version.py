"""`podling version`: ours, Kubernetes', Python's, and the programs that run containers."""

from __future__ import annotations

import argparse
import platform
import shutil
import subprocess

from podling import __version__


def configure(parser: argparse.ArgumentParser) -> None:
    pass


def run(arguments: argparse.Namespace) -> int:
    print(f"podling {__version__}\nKubernetes API v1.37\nPython {platform.python_version()}")
    for program in ("crun", "runc", "conmon", "nft"):
        print(f"{program} {_version(program)}")
    return 0


def _version(program: str) -> str:
    path = shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/bin")
    if path is None:
        return "is not installed"
    output = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
    first = next(iter(output.splitlines()), "unknown")
    return first.removeprefix(program).removeprefix(" version").strip()
