"""A pod's /etc/resolv.conf: dnsPolicy, dnsConfig and the node's own resolver (pkg/kubelet/network/dns)."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from podling.api import core_v1
from podling.kubelet import pods
from podling.runtime.base import DNSConfig

MAX_NAMESERVERS, MAX_SEARCHES, MAX_SEARCH_CHARACTERS = 3, 32, 2048


class ResolvConf(msgspec.Struct, frozen=True):
    """What a resolv.conf(5) says."""

    servers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def parse_resolv_conf(text: str) -> ResolvConf:
    """The last `search` and `options` lines count; a trailing dot of a search domain is dropped."""
    servers: list[str] = []
    searches: list[str] = []
    options: list[str] = []
    for line in text.splitlines():
        words = line.strip().split()
        if not words or words[0].startswith(("#", ";")):
            continue
        match words[0]:
            case "nameserver" if len(words) >= 2:
                servers.append(words[1])
            case "search":
                searches = [w if w == "." else w.removesuffix(".") for w in words[1:]]
            case "options":
                options = [*options, *(w for w in words[1:] if w not in options)]
    return ResolvConf(tuple(servers), tuple(searches), tuple(options))


class PodDNS(msgspec.Struct, frozen=True):
    """The configuration, and what has to be said of it: (event reason, message)."""

    config: DNSConfig
    warnings: tuple[tuple[str, str], ...] = ()


def pod_dns(pod: core_v1.Pod, host: ResolvConf, cluster_dns: tuple[str, ...], cluster_domain: str) -> PodDNS:
    """The resolver configuration of the pod."""
    policy = pod.spec.dns_policy or "ClusterFirst"
    if policy == "ClusterFirstWithHostNet":
        policy = "ClusterFirst"
    elif policy == "ClusterFirst" and pods.is_host_network(pod):
        policy = "Default"
    warnings: list[tuple[str, str]] = []
    if policy == "ClusterFirst" and not cluster_dns:
        warnings.append((
            "MissingClusterDNS",
            f'pod: "{pods.described(pod)}". kubelet does not have ClusterDNS IP configured and cannot create Pod using '
            '"ClusterFirst" policy. Falling back to "Default" policy.',
        ))  # fmt: skip
        policy = "Default"
    match policy:
        case "None":
            base = ResolvConf()
        case "ClusterFirst":
            base = _cluster_first(pod, host, cluster_dns, cluster_domain)
        case _:
            base = host
    return _fit(pod, _with_config(base, pod.spec.dns_config), warnings)


def _cluster_first(pod: core_v1.Pod, host: ResolvConf, cluster_dns: tuple[str, ...], domain: str) -> ResolvConf:
    home = pods.namespace(pod)
    own = (f"{home}.svc.{domain}", f"svc.{domain}", domain) if domain else ()
    return ResolvConf(cluster_dns, _unique((*own, *host.searches)), ("ndots:5",))


def _unique(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))


def _with_config(base: ResolvConf, config: core_v1.PodDNSConfig | None) -> ResolvConf:
    if config is None:
        return base
    options = {option.partition(":")[0]: option for option in base.options}
    for given in config.options or ():
        if given.name:
            options[given.name] = f"{given.name}:{given.value}" if given.value is not None else given.name
    return ResolvConf(
        _unique((*base.servers, *(config.nameservers or ()))),
        _unique((*base.searches, *(config.searches or ()))),
        tuple(options.values()),
    )


def _fit(pod: core_v1.Pod, conf: ResolvConf, warnings: list[tuple[str, str]]) -> PodDNS:
    """Cut to what resolvers take."""
    servers = conf.servers
    if len(servers) > MAX_NAMESERVERS:
        servers = servers[:MAX_NAMESERVERS]
        applied = " ".join(servers)
        warnings.append((
            "DNSConfigForming",
            "Nameserver limits were exceeded, some nameservers have been omitted, "
            f"the applied nameserver line is: {applied}",
        ))  # fmt: skip
    searches = conf.searches[:MAX_SEARCHES]
    while len(" ".join(searches)) > MAX_SEARCH_CHARACTERS:
        searches = searches[:-1]
    if len(searches) < len(conf.searches):
        warnings.append((
            "DNSConfigForming",
            "Search Line limits were exceeded, some search paths have been omitted, "
            f"the applied search line is: {' '.join(searches)}",
        ))  # fmt: skip
    return PodDNS(DNSConfig(servers, searches, conf.options), tuple(warnings))
