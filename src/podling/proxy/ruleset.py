"""The proxy's table as a whole: the rules that are always there, and the fragments of all services.

`Ruleset` remembers what the kernel has. Changes are collected and come out as one script, that holds only what differs;
several services may claim one element (an external address and port), and the first that did has it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from podling.proxy.config import ProxyConfig
from podling.proxy.rules import Fragment

_MARK = 0x4000
_IP = {4: "ip", 6: "ip6"}

V = TypeVar("V")
Element = tuple[str, str]


class Ruleset:
    """Fragments by service key, and the difference between them and what was last said to be installed."""

    def __init__(self, config: ProxyConfig) -> None:
        self.config = config
        self._fragments: dict[str, Fragment] = {}
        self._claims: dict[Element, dict[str, str]] = {}
        self._chains: dict[str, tuple[str, ...]] = {}
        self._sets: dict[str, str] = {}
        # What the kernel has of that which has changed since; None where it has nothing.
        self._old_elements: dict[Element, str | None] = {}
        self._old_chains: dict[str, tuple[str, ...] | None] = {}
        self._old_sets: dict[str, str | None] = {}

    def get(self, key: str) -> Fragment | None:
        return self._fragments.get(key)

    def fragments(self) -> dict[str, Fragment]:
        return self._fragments

    def update(self, key: str, fragment: Fragment | None) -> None:
        """The service `key` now needs `fragment`, or nothing."""
        old = self._fragments.pop(key, None)
        if fragment is not None:
            self._fragments[key] = fragment
        before, after = old or Fragment(), fragment or Fragment()
        for element in {**before.elements, **after.elements}:
            self._claim(element, key, after.elements.get(element))
        for name in {**before.chains, **after.chains}:
            _set(self._chains, self._old_chains, name, after.chains.get(name))
        for name in {**before.sets, **after.sets}:
            _set(self._sets, self._old_sets, name, after.sets.get(name))

    def _claim(self, element: Element, key: str, value: str | None) -> None:
        claims = self._claims.setdefault(element, {})
        before = next(iter(claims.values()), None)
        if value is None:
            claims.pop(key, None)
        else:
            claims[key] = value
        after = next(iter(claims.values()), None)
        if after != before:
            self._old_elements.setdefault(element, before)
        if not claims:
            del self._claims[element]

    def _value(self, element: Element) -> str | None:
        return next(iter(self._claims.get(element, {}).values()), None)

    def installed(self) -> None:
        """The kernel has it all: begin to collect anew."""
        self._old_elements, self._old_chains, self._old_sets = {}, {}, {}

    def changes(self) -> str:
        """The script that takes the kernel from what it has to what is wanted; empty if it has it."""
        table = f"inet {self.config.table}"
        chains = {n: (o, self._chains.get(n)) for n, o in self._old_chains.items() if o != self._chains.get(n)}
        sets = {n: (o, self._sets.get(n)) for n, o in self._old_sets.items() if o != self._sets.get(n)}
        elements = {e: (o, self._value(e)) for e, o in self._old_elements.items() if o != self._value(e)}
        # What is referred to must exist first and go last: chains before elements, elements before chains go.
        lines = [f"add set {table} {name} {{ {new} }}" for name, (_, new) in sets.items() if new is not None]
        lines += [f"add chain {table} {name}" for name, (old, _) in chains.items() if old is None]
        lines += _grouped("delete", table, {e: None for e, (old, _) in elements.items() if old is not None})
        for name, (old, new) in chains.items():
            if old is not None:
                lines.append(f"flush chain {table} {name}")
            lines += [f"add rule {table} {name} {rule}" for rule in new or ()]
        lines += _grouped("add", table, {e: new for e, (_, new) in elements.items() if new is not None})
        lines += [f"delete chain {table} {name}" for name, (_, new) in chains.items() if new is None]
        lines += [f"delete set {table} {name}" for name, (_, new) in sets.items() if new is None]
        return "\n".join(lines) + "\n" if lines else ""

    def full(self) -> str:
        """The script that puts the whole table in place of whatever there is."""
        table = f"inet {self.config.table}"
        lines = [f"add table {table}", f"delete table {table}", f"table {table} {{"]
        lines += static_rules(self.config)
        lines += [f"\tset {name} {{ {text} }}" for name, text in self._sets.items()]
        lines += ["}"]
        lines += [f"add chain {table} {name}" for name in self._chains]
        lines += [f"add rule {table} {name} {rule}" for name, rules in self._chains.items() for rule in rules]
        lines += _grouped("add", table, {element: self._value(element) for element in self._claims})
        return "\n".join(lines) + "\n"


def _set(now: dict[str, V], old: dict[str, V | None], name: str, value: V | None) -> None:
    before = now.get(name)
    if before == value:
        return
    old.setdefault(name, before)
    if value is None:
        del now[name]
    else:
        now[name] = value


def _grouped(verb: str, table: str, elements: dict[Element, str | None]) -> Iterable[str]:
    """One statement for each set or map."""
    by_name: dict[str, list[str]] = {}
    for (name, key), value in elements.items():
        by_name.setdefault(name, []).append(f"{key} : {value}" if value else key)
    return [f"{verb} element {table} {name} {{ {', '.join(values)} }}" for name, values in by_name.items()]


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
