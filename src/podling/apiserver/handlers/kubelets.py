"""How the API server reaches the node agents: where a node's is, and by which certificate it is known there."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path

import msgspec

from podling.api import core_v1, errors
from podling.apiserver.core import Core

DEFAULT_PORT = 10250
#: Which of a node's addresses is taken, first one that it has.
ADDRESS_TYPES = ("InternalIP", "ExternalIP", "Hostname", "InternalDNS", "ExternalDNS")


class Location(msgspec.Struct, frozen=True):
    """Where a node agent listens. `tls` is None for plain HTTP (tests)."""

    host: str
    port: int
    tls: ssl.SSLContext | None

    @property
    def authority(self) -> str:
        """`10.213.0.2:10250`, as in URLs."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def client_tls(certificate: Path, key: Path, ca: Path) -> ssl.SSLContext:
    """TLS towards node agents: they are verified against the cluster's CA and see the API server's certificate."""
    context = ssl.create_default_context(cafile=str(ca))
    context.load_cert_chain(certificate, key)
    return context


class Kubelets:
    """Finds node agents by the name of their node."""

    def __init__(self, app: Core, tls: ssl.SSLContext | None, *, address_types: Sequence[str] = ADDRESS_TYPES) -> None:
        self._app = app
        self.tls = tls
        self._address_types = tuple(address_types)

    async def summary(self, node_name: str) -> bytes:
        """CPU and memory of a node and its pods (`usage.Summaries`). StatusError, OSError."""
        import aiohttp

        place = self.locate(node_name)
        scheme, tls = ("https", place.tls) if place.tls is not None else ("http", True)
        url = f"{scheme}://{place.authority}/stats/summary?only_cpu_and_memory=true"
        # A session of its own: there is a second or more between two questions, and most clusters are never asked.
        async with aiohttp.ClientSession() as session, session.get(url, ssl=tls) as answer:
            body = await answer.read()
            if answer.status != 200:
                raise errors.internal(f"{url}: {answer.status} {body[:200].decode(errors='replace')}")
            return body

    def locate(self, node_name: str) -> Location:
        """StatusError if there is no such node, or it has no address."""
        node = self._app.cached("", "nodes", node_name)
        if node is None:
            raise errors.not_found("nodes", "", node_name)
        return Location(address_of(node, self._address_types), port_of(node), self.tls)


def address_of(node: core_v1.Node, types: Sequence[str] = ADDRESS_TYPES) -> str:
    """The address by which `node` is reached. StatusError 500 without one."""
    addresses = (node.status.addresses if node.status is not None else None) or []
    for kind in types:
        for address in addresses:
            if address.type == kind and address.address:
                return address.address
    raise errors.internal(f"no preferred addresses found; known addresses: {[a.address for a in addresses]}")


def port_of(node: core_v1.Node) -> int:
    """The port that `node`'s agent says it listens on."""
    endpoints = node.status.daemon_endpoints if node.status is not None else None
    endpoint = endpoints.kubelet_endpoint if endpoints is not None else None
    return endpoint.port if endpoint is not None and endpoint.port else DEFAULT_PORT
