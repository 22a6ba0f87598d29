"""What a container is asked for, and what comes of asking: the words of all probe handlers (pkg/probe)."""

from __future__ import annotations

from enum import StrEnum

import msgspec

USER_AGENT = "kube-probe/1.37"


class Outcome(StrEnum):
    SUCCESS = "success"
    #: Success, with something to say.
    WARNING = "warning"
    FAILURE = "failure"
    #: The probe itself could not be made.
    UNKNOWN = "unknown"


class Result(msgspec.Struct, frozen=True):
    outcome: Outcome
    output: str = ""


class Target(msgspec.Struct, frozen=True):
    """Where a container answers: its id (simulations), host and port."""

    container_id: str
    host: str
    port: int


class HTTPRequest(msgspec.Struct, frozen=True):
    """`headers` are as given, repeated ones in order."""

    scheme: str
    path: str
    headers: tuple[tuple[str, str], ...] = ()


def host_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
