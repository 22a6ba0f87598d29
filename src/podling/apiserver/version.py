"""/version."""

from __future__ import annotations

import platform

from podling import __version__
from podling.api import version
from podling.api.request import Request, User
from podling.api.struct import encode
from podling.apiserver.answer import Answer
from podling.apiserver.request_info import RequestInfo

#: The version of Kubernetes whose API is served.
KUBERNETES = ("1", "37", "0")


def version_info() -> version.Info:
    """What /version says."""
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    major, minor, patch = KUBERNETES
    return version.Info(
        major=major,
        minor=minor,
        git_version=f"v{major}.{minor}.{patch}+podling-{__version__}",
        git_commit="0000000000000000000000000000000000000000",
        git_tree_state="clean",
        build_date="1970-01-01T00:00:00Z",
        go_version="none",
        compiler="python",
        platform=f"{platform.system().lower()}/{machine}",
    )


async def answer(request: Request, info: RequestInfo, user: User) -> Answer:
    """The path's handler."""
    return Answer(body=encode(version_info()))
