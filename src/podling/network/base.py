"""What a pod's sandbox asks of the network, and what it gets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import msgspec

from podling.errors import PodlingError


class NetworkFailure(PodlingError):
    """The network could not be changed as asked; the text is fit for an event."""


class PortMapping(msgspec.Struct, frozen=True):
    """A hostPort. `protocol` is TCP, UDP or SCTP; an empty `host_ip` means every address of the node."""

    host_port: int
    container_port: int
    protocol: str = "TCP"
    host_ip: str = ""


class Attachment(msgspec.Struct, frozen=True):
    """A sandbox that is on the network. `ips` is the primary address first."""

    sandbox_id: str
    ips: tuple[str, ...]
    interface: str = "eth0"


class SandboxNetwork(Protocol):
    """Puts sandboxes on the pod network: podling's own bridge, or CNI plugins."""

    async def attach(self, sandbox_id: str, netns: str, port_mappings: tuple[PortMapping, ...] = ()) -> Attachment:
        """Give the network namespace pinned at path `netns` its interface, address, routes and loopback.

        Repeating it for the same sandbox gives the same answer. Nothing stays behind if it fails (NetworkFailure).
        """

    async def detach(self, sandbox_id: str, netns: str | None) -> None:
        """Take all of it back; a sandbox that is not attached is no error."""

    async def attachments(self) -> dict[str, Attachment]:
        """All sandboxes on the network by id, also after a restart."""

    async def retain(self, sandbox_ids: Iterable[str]) -> None:
        """Detach every sandbox but these. They are read after it is known who is attached, so what gives the ids of
        the moment may be passed while sandboxes come."""
