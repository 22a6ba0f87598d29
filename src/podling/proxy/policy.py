"""NetworkPolicies as nftables rules: who may talk with the pods of this node.

    ingress4, egress4       address of a pod of this node that a policy selects -> goto that pod's chain
    pod-ingress/...         one pod: asks each of its policies, then drops
    ingress/...             one policy: accepts what one of its rules allows
    peers/...               the addresses of the pods that a peer selects
    ports/...               address . protocol . port, where a rule names a port instead of numbering it

Traffic between a pod and its own node is always allowed (the API documents it), and what a pod says to itself never
comes by: both do not pass the forward hook, where this is. Answers to what was allowed are allowed.

Pure. Each pod, policy and peer is a fact that is matched when it changes, against those that it could concern.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from podling.api import core_v1, networking_v1, selectors
from podling.proxy.rules import name_of
from podling.proxy.ruleset import Fragment

_IP = {4: "ip", 6: "ip6"}
_EVERYTHING = selectors.LabelSelector()


class PodFacts(msgspec.Struct, frozen=True):
    """What policies must know of a pod. `local` pods are this node's. `ports` are (name, protocol, number)."""

    key: str
    namespace: str
    labels: frozenset[tuple[str, str]]
    ips: tuple[str, ...]
    local: bool
    ports: tuple[tuple[str, str, int], ...]


def facts(pod: core_v1.Pod, node_name: str) -> PodFacts | None:
    """None for a pod that policies do not concern: it has no address yet or no more, or it is the node's."""
    status, meta = pod.status, pod.metadata
    if pod.spec.host_network or status is None or status.phase in ("Succeeded", "Failed"):
        return None
    ips = tuple(p.ip for p in status.pod_ips or () if p.ip) or ((status.pod_ip,) if status.pod_ip else ())
    if not ips:
        return None
    containers = [*pod.spec.containers, *(c for c in pod.spec.init_containers or () if c.restart_policy == "Always")]
    return PodFacts(
        key=f"{meta.namespace}/{meta.name}",
        namespace=meta.namespace or "",
        labels=frozenset((meta.labels or {}).items()),
        ips=ips,
        local=pod.spec.node_name == node_name,
        ports=tuple(
            (port.name, (port.protocol or "TCP").lower(), port.container_port)
            for container in containers
            for port in container.ports or ()
            if port.name
        ),
    )


class _Peer(msgspec.Struct):
    """A selector of a policy and the pods that it selects now. `namespaces` None stands for the policy's own."""

    namespace: str
    namespaces: selectors.LabelSelector | None
    pods: selectors.LabelSelector
    members: dict[str, PodFacts] = {}

    def selects(self, pod: PodFacts, namespace_labels: dict[str, str] | None) -> bool:
        if self.namespaces is None:
            if pod.namespace != self.namespace:
                return False
        elif namespace_labels is None or not self.namespaces.matches(namespace_labels):
            return False
        return self.pods.matches(dict(pod.labels))


class _Rule(msgspec.Struct):
    """One rule of a policy in one direction. No `peers` and no `blocks` with `anyone` set is everybody."""

    anyone: bool
    peers: list[_Peer]
    blocks: list[networking_v1.IPBlock]
    ports: list[networking_v1.NetworkPolicyPort]


class _Policy(msgspec.Struct):
    key: str
    selected: _Peer
    ingress: list[_Rule] | None
    egress: list[_Rule] | None

    def peers(self) -> Iterable[_Peer]:
        for rule in (*(self.ingress or ()), *(self.egress or ())):
            yield from rule.peers


class Policies:
    """All policies, and the fragments that they need on one node. `take` gives those that changed."""

    def __init__(self, families: tuple[int, ...] = (4,)) -> None:
        self._families = families
        self._policies: dict[str, _Policy] = {}
        self._pods: dict[str, PodFacts] = {}
        self._namespaces: dict[str, dict[str, str]] = {}
        self._by_namespace: dict[str, dict[str, PodFacts]] = {}
        self._dirty_policies: dict[str, None] = {}
        self._dirty_pods: dict[str, None] = {}

    # --- what is ---

    def put_namespace(self, name: str, labels: dict[str, str] | None) -> None:
        """`labels` None: it is gone. Its pods are matched anew if its labels changed."""
        if self._namespaces.get(name) == labels:
            return
        if labels is None:
            self._namespaces.pop(name, None)
        else:
            self._namespaces[name] = labels
        for pod in list(self._by_namespace.get(name, {}).values()):
            self._match(pod.key, pod)

    def put_pod(self, key: str, pod: PodFacts | None) -> None:
        """None: it is gone. Nothing happens unless a policy could tell the difference."""
        old = self._pods.get(key)
        if old == pod:
            return
        if old is not None:
            del self._pods[key]
            self._by_namespace[old.namespace].pop(key)
        if pod is not None:
            self._pods[key] = pod
            self._by_namespace.setdefault(pod.namespace, {})[key] = pod
        self._match(key, pod)

    def put_policy(self, policy: networking_v1.NetworkPolicy) -> None:
        key = f"{policy.metadata.namespace}/{policy.metadata.name}"
        self.remove_policy(key)
        made = self._policies[key] = _parse(key, policy)
        for pod in self._by_namespace.get(made.selected.namespace, {}).values():
            self._update(made, made.selected, pod.key, pod)
        for peer in made.peers():
            pods = self._pods if peer.namespaces is not None else self._by_namespace.get(peer.namespace, {})
            for pod in pods.values():
                self._update(made, peer, pod.key, pod)
        self._dirty_policies[key] = None

    def remove_policy(self, key: str) -> None:
        policy = self._policies.pop(key, None)
        if policy is not None:
            self._dirty_pods.update(dict.fromkeys(policy.selected.members))
            self._dirty_policies[key] = None

    def _match(self, key: str, pod: PodFacts | None) -> None:
        for policy in self._policies.values():
            self._update(policy, policy.selected, key, pod)
            for peer in policy.peers():
                self._update(policy, peer, key, pod)

    def _update(self, policy: _Policy, peer: _Peer, key: str, pod: PodFacts | None) -> None:
        """Put the pod among the peer's members or out, and remember whose rules that changes."""
        labels = self._namespaces.get(pod.namespace) if pod is not None else None
        member = pod if pod is not None and peer.selects(pod, labels) else None
        if peer.members.get(key) == member:
            return
        if member is None:
            del peer.members[key]
        else:
            peer.members[key] = member
        self._dirty_policies[policy.key] = None
        if peer is policy.selected:
            self._dirty_pods[key] = None

    # --- what it needs ---

    def __len__(self) -> int:
        return len(self._policies)

    @property
    def changed(self) -> bool:
        """Whether `take` has something to give."""
        return bool(self._dirty_policies or self._dirty_pods)

    def take(self) -> dict[str, Fragment | None]:
        """The fragments that changed since the last call, by a key of their own; None for those that go."""
        found: dict[str, Fragment | None] = {}
        for key in self._dirty_policies:
            policy = self._policies.get(key)
            found[f"policy {key}"] = self._policy_fragment(policy) if policy else None
        for key in self._dirty_pods:
            found[f"pod {key}"] = self._pod_fragment(self._pods.get(key))
        self._dirty_policies, self._dirty_pods = {}, {}
        return found

    def _pod_fragment(self, pod: PodFacts | None) -> Fragment | None:
        if pod is None or not pod.local:
            return None
        fragment = Fragment()
        mine = [p for p in self._policies.values() if pod.key in p.selected.members]
        for direction in ("ingress", "egress"):
            names = sorted(p.key for p in mine if getattr(p, direction) is not None)
            if names:
                chain = f"pod-{direction}/{name_of(pod.key)}"
                fragment.chains[chain] = (*(f"jump {direction}/{name_of(name)}" for name in names), "drop")
                for ip in pod.ips:
                    fragment.elements[f"{direction}{_version(ip)}", ip] = f"goto {chain}"
        return fragment

    def _policy_fragment(self, policy: _Policy) -> Fragment:
        fragment = Fragment()
        for direction, rules in (("ingress", policy.ingress), ("egress", policy.egress)):
            if rules is not None:
                lines = [
                    line
                    for number, rule in enumerate(rules)
                    for line in self._lines(fragment, policy, direction, number, rule)
                ]
                fragment.chains[f"{direction}/{name_of(policy.key)}"] = tuple(lines)
        return fragment

    def _lines(self, fragment: Fragment, policy: _Policy, direction: str, number: int, rule: _Rule) -> Iterable[str]:
        """One line for each way in which the rule may be met."""
        name = name_of(f"{policy.key}/{direction}/{number}")
        numbered = _numbered(rule.ports) if rule.ports else [""]
        named = [p for p in rule.ports if isinstance(p.port, str)]
        for family in self._families:
            for who in self._who(fragment, name, direction, family, rule):
                for port in numbered:
                    yield f"{who}{port}accept"
                if named and direction == "ingress":
                    ports = self._named(fragment, f"ports/{name}", family, named, policy.selected.members.values())
                    yield f"{who}{ports}accept"
            if named and direction == "egress":
                # The set holds addresses and ports together: whom the rule selects, at the port that each has so named.
                members = [m for peer in rule.peers for m in peer.members.values()]
                everybody = self._pods.values() if rule.anyone else members
                yield self._named(fragment, f"ports/{name}", family, named, everybody) + "accept"

    def _who(self, fragment: Fragment, name: str, direction: str, family: int, rule: _Rule) -> Iterable[str]:
        """What to match of the other side, each with a space at its end; "" matches everybody of the family."""
        other = f"{_IP[family]} {'saddr' if direction == 'ingress' else 'daddr'}"
        if rule.anyone:
            yield f"meta nfproto ipv{family} "
        if rule.peers:
            peers = f"peers/{family}/{name}"
            fragment.sets[peers] = f"type ipv{family}_addr;"
            for peer in rule.peers:
                for member in peer.members.values():
                    for ip in member.ips:
                        if _version(ip) == family:
                            fragment.elements[peers, ip] = ""
            yield f"{other} @{peers} "
        for block in rule.blocks:
            if _version(block.cidr) == family:
                but = f"{other} != {{ {', '.join(block.except_)} }} " if block.except_ else ""
                yield f"{other} {block.cidr} {but}"

    @staticmethod
    def _named(
        fragment: Fragment,
        name: str,
        family: int,
        ports: list[networking_v1.NetworkPolicyPort],
        pods: Iterable[PodFacts],
    ) -> str:
        wanted = {(str(p.port), (p.protocol or "TCP").lower()) for p in ports}
        full = f"{name}/{family}"
        fragment.sets[full] = f"type ipv{family}_addr . inet_proto . inet_service;"
        for pod in pods:
            for port_name, protocol, number in pod.ports:
                for ip in pod.ips:
                    if (port_name, protocol) in wanted and _version(ip) == family:
                        fragment.elements[full, f"{ip} . {protocol} . {number}"] = ""
        return f"{_IP[family]} daddr . meta l4proto . th dport @{full} "


def static_rules(families: tuple[int, ...]) -> list[str]:
    """What is there with or without policies. Both directions are asked, and each may say no."""
    lines: list[str] = []
    for family in families:
        for direction in ("ingress", "egress"):
            lines.append(f"\tmap {direction}{family} {{ type ipv{family}_addr : verdict ; }}")
    for direction, priority, field in (("egress", 0, "saddr"), ("ingress", 1, "daddr")):
        lines += [
            f"\tchain filter-{direction} {{",
            f"\t\ttype filter hook forward priority {priority}; policy accept;",
            "\t\tct state established,related accept",
            *(f"\t\t{_IP[family]} {field} vmap @{direction}{family}" for family in families),
            "\t}",
        ]
    return lines


def _numbered(ports: list[networking_v1.NetworkPolicyPort]) -> list[str]:
    """A match for each protocol, with a space at its end; a port that is not given is all of them."""
    by_protocol: dict[str, list[str]] = {}
    whole: dict[str, None] = {}
    for port in ports:
        protocol = (port.protocol or "TCP").lower()
        if port.port is None:
            whole[protocol] = None
        elif isinstance(port.port, int):
            text = f"{port.port}-{port.end_port}" if port.end_port else str(port.port)
            by_protocol.setdefault(protocol, []).append(text)
    found = [f"meta l4proto {protocol} " for protocol in whole]
    for protocol, numbers in by_protocol.items():
        if protocol not in whole:
            found.append(f"meta l4proto {protocol} th dport {{ {', '.join(_disjoint(numbers))} }} ")
    return found


def _disjoint(ranges: list[str]) -> list[str]:
    """Port ranges without overlap, which an nftables set would refuse."""
    pairs = sorted((int(r.split("-")[0]), int(r.split("-")[-1])) for r in ranges)
    merged: list[tuple[int, int]] = []
    for low, high in pairs:
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))
        else:
            merged.append((low, high))
    return [str(low) if low == high else f"{low}-{high}" for low, high in merged]


def _parse(key: str, policy: networking_v1.NetworkPolicy) -> _Policy:
    spec, namespace = policy.spec, policy.metadata.namespace or ""
    types = spec.policy_types or ["Ingress", *(["Egress"] if spec.egress is not None else [])]

    def selector(given: object) -> selectors.LabelSelector:
        return _EVERYTHING if given is None else selectors.from_label_selector(given)  # type: ignore[arg-type]

    def rule(
        peers: list[networking_v1.NetworkPolicyPeer] | None, ports: list[networking_v1.NetworkPolicyPort] | None
    ) -> _Rule:
        return _Rule(
            anyone=not peers,
            peers=[
                _Peer(
                    namespace,
                    selector(p.namespace_selector) if p.namespace_selector is not None else None,
                    selector(p.pod_selector),
                )
                for p in peers or ()
                if p.ip_block is None
            ],
            blocks=[p.ip_block for p in peers or () if p.ip_block is not None],
            ports=list(ports or ()),
        )

    return _Policy(
        key=key,
        selected=_Peer(namespace, None, selector(spec.pod_selector)),
        ingress=[rule(r.from_, r.ports) for r in spec.ingress or ()] if "Ingress" in types else None,
        egress=[rule(r.to, r.ports) for r in spec.egress or ()] if "Egress" in types else None,
    )


def _version(address: str) -> int:
    return 6 if ":" in address else 4
