"""Getting along with the machine's own firewall.

Docker and ufw make the machine drop what it forwards, or what comes in, unless a rule of theirs lets it pass; an accept
in a table of ours does not help, for each table has its say. So podling's bridges are let pass at the head of their
chains. (A firewall with a table of its own, such as firewalld's, must be told by its user.)
"""

from __future__ import annotations

import contextlib
import re

from podling.network.base import NetworkFailure
from podling.network.nftables import Nft

#: The chains that iptables' nftables flavour keeps for everybody; IPv4 and IPv6 alike.
_CHAINS = ("FORWARD", "INPUT")
_TABLES = ("ip filter", "ip6 filter")
_COMMENT = "podling bridge"


def let_pass(nft: Nft, bridge: str) -> bool:
    """Let traffic of `bridge` pass where a chain drops by default; whether any rule was needed."""
    needed = False
    for table in _TABLES:
        for chain in _CHAINS:
            text = _chain(nft, table, chain)
            # Docker's chains may drop as well, whatever the policy is.
            if "policy drop" not in text and "DOCKER" not in text and "ufw" not in text:
                continue
            needed = True
            if f'"{_COMMENT} {bridge}"' in text:
                continue
            sides = ("iifname", "oifname") if chain == "FORWARD" else ("iifname",)
            for side in sides:
                nft.run(f'insert rule {table} {chain} {side} "{bridge}" counter accept comment "{_COMMENT} {bridge}"')
    return needed


def forget(nft: Nft, bridge: str) -> None:
    """Take the rules of `bridge` back."""
    for table in _TABLES:
        for chain in _CHAINS:
            text = _chain(nft, table, chain)
            for handle in re.findall(rf'comment "{_COMMENT} {re.escape(bridge)}" # handle (\d+)', text):
                with contextlib.suppress(NetworkFailure):
                    nft.run(f"delete rule {table} {chain} handle {handle}")


def _chain(nft: Nft, table: str, chain: str) -> str:
    """The chain with its handles; empty if there is none."""
    try:
        return nft.run(f"list chain {table} {chain}", handles=True)
    except NetworkFailure:
        return ""
