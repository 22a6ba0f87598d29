"""A container's /etc/hosts."""

from __future__ import annotations

from collections.abc import Iterable

from podling.api import core_v1

HEADER = "# Kubernetes-managed hosts file.\n"
HOST_NETWORK_HEADER = "# Kubernetes-managed hosts file (host network).\n"

_STANDARD = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
fe00::0\tip6-mcastprefix
fe00::1\tip6-allnodes
fe00::2\tip6-allrouters
"""


def managed(ips: Iterable[str], hostname: str, domain: str, aliases: Iterable[core_v1.HostAlias] | None) -> str:
    """The file of a pod with a network of its own; `domain` is "" without a subdomain."""
    names = f"{hostname}.{domain}\t{hostname}" if domain else hostname
    own = "".join(f"{ip}\t{names}\n" for ip in ips)
    return HEADER + _STANDARD + own + _aliases(aliases)


def host_network(nodes_own: str, node: str, ips: Iterable[str], aliases: Iterable[core_v1.HostAlias] | None) -> str:
    """The node's own file, with the pod's aliases.

    Every machine knows its own name. A node that is a part of a machine is told its name here, at its addresses.
    """
    if not any(node in line.partition("#")[0].split()[1:] for line in nodes_own.splitlines()):
        end = "" if not nodes_own or nodes_own.endswith("\n") else "\n"
        nodes_own += end + "".join(f"{ip}\t{node}\n" for ip in ips)
    return HOST_NETWORK_HEADER + nodes_own + _aliases(aliases)


def _aliases(aliases: Iterable[core_v1.HostAlias] | None) -> str:
    lines = "".join("\t".join((alias.ip, *(alias.hostnames or ()))) + "\n" for alias in aliases or ())
    return f"\n# Entries added by HostAliases.\n{lines}" if lines else ""
