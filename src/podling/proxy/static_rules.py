"""The rules of the service proxy that are there with or without services: what hooks in where, and in which order."""

from __future__ import annotations

from collections.abc import Iterable

from podling.proxy.config import ProxyConfig

_MARK = 0x4000
_IP = {4: "ip", 6: "ip6"}


def static_rules(config: ProxyConfig) -> list[str]:
    """The sets, maps and chains that are there with or without services, as lines inside the table's braces."""
    lines: list[str] = []
    for family in config.families:
        lines += _containers(config, family)
    lines += [
        *_chain("mark-for-masquerade", [f"meta mark set meta mark or {_MARK:#x}"]),
        *_chain("refusal", ["meta l4proto tcp reject with tcp reset", "reject with icmpx type port-unreachable"]),
        *_chain("services", [rule for family in config.families for rule in _dispatch(family)]),
        *_chain("refuse", ["ct state new jump refuse-new"]),
        *_chain("refuse-new", _refuse(config)),
        *_chain("prerouting", [*_from_outside(config), "jump services"], "nat hook prerouting priority dstnat"),
        *_chain("output", ["jump services"], "nat hook output priority -100"),
        *_chain("postrouting", _postrouting(config), "nat hook postrouting priority srcnat"),
        *_chain("filter-input", ["jump refuse"], "filter hook input priority -110"),
        *_chain("filter-forward", ["jump refuse"], "filter hook forward priority -110"),
        # After address translation (-100), so that only what no service took is looked at.
        *_chain("filter-output", ["jump refuse"], "filter hook output priority 0"),
    ]
    return lines


def _chain(name: str, rules: Iterable[str], hook: str = "") -> list[str]:
    head = [f"\t\ttype {hook}; policy accept;"] if hook else []
    return [f"\tchain {name} {{", *head, *(f"\t\t{rule}" for rule in rules), "\t}"]


def _containers(config: ProxyConfig, family: int) -> list[str]:
    address = f"ipv{family}_addr"

    def ranges(name: str, cidrs: Iterable[str]) -> str:
        mine = sorted({cidr for cidr in cidrs if (6 if ":" in cidr else 4) == family})
        values = f" elements = {{ {', '.join(mine)} }}" if mine else ""
        return f"\tset {name}{family} {{ type {address}; flags interval; auto-merge;{values} }}"

    whole, port = f"{address} . inet_proto . inet_service : verdict", "inet_proto . inet_service : verdict"
    return [
        ranges("pods", config.pod_ranges),
        ranges("inside", (*config.pod_ranges, *config.node_ranges)),
        ranges("service-ranges", config.service_ranges),
        f"\tset cluster-ips{family} {{ type {address} ; }}",
        f"\tset hairpin{family} {{ type {address} . {address} ; }}",
        f"\tmap services{family} {{ type {whole} ; }}",
        f"\tmap node-ports{family} {{ type {port} ; }}",
        f"\tmap no-endpoints{family} {{ type {whole} ; }}",
        f"\tmap no-endpoint-node-ports{family} {{ type {port} ; }}",
    ]


def _dispatch(family: int) -> list[str]:
    ip = _IP[family]
    return [
        f"{ip} daddr . meta l4proto . th dport vmap @services{family}",
        f"meta nfproto ipv{family} fib daddr type local meta l4proto . th dport vmap @node-ports{family}",
    ]


def _from_outside(config: ProxyConfig) -> list[str]:
    """Who is neither pod nor node may use the node as its way to a ClusterIP, but answers must come back this way."""
    return [
        f"{_IP[f]} daddr @service-ranges{f} {_IP[f]} saddr != @inside{f} jump mark-for-masquerade"
        for f in config.families
    ]


def _postrouting(config: ProxyConfig) -> list[str]:
    return [
        *(f"ct status dnat {_IP[f]} saddr . {_IP[f]} daddr @hairpin{f} masquerade" for f in config.families),
        f"meta mark and {_MARK:#x} == 0 return",
        f"meta mark set meta mark xor {_MARK:#x}",
        "masquerade fully-random",
    ]


def _refuse(config: ProxyConfig) -> list[str]:
    """Refuse at once what would otherwise wait for an answer that never comes."""
    rules: list[str] = []
    for family in config.families:
        ip = _IP[family]
        rules += [
            f"{ip} daddr . meta l4proto . th dport vmap @no-endpoints{family}",
            f"meta nfproto ipv{family} fib daddr type local"
            f" meta l4proto . th dport vmap @no-endpoint-node-ports{family}",
        ]
    rules.append("fib daddr type local return")
    for family in config.families:
        ip = _IP[family]
        rules += [
            f"{ip} daddr @cluster-ips{family} goto refusal",
            f"{ip} daddr @service-ranges{family} reject with icmpx type host-unreachable",
        ]
    return rules
