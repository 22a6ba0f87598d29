"""Baseline: only kernel parameters that concern the pod alone."""

from __future__ import annotations

from podling.api import core_v1, meta_v1
from podling.machinery.pod_security.check import BASELINE, Check, Forbidden, Revision, Test

#: What each version added.
_ADDED = {
    0: (
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.ping_group_range",
        "net.ipv4.ip_unprivileged_port_start",
    ),
    27: ("net.ipv4.ip_local_reserved_ports",),
    29: (
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
    ),
    32: ("net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"),
    37: ("net.ipv4.tcp_slow_start_after_idle", "net.ipv4.tcp_notsent_lowat"),
}


def _allowing(names: frozenset[str]) -> Test:
    def test(meta: meta_v1.ObjectMeta, spec: core_v1.PodSpec) -> Forbidden | None:
        given = spec.security_context.sysctls if spec.security_context is not None else None
        bad = [sysctl.name for sysctl in given or () if sysctl.name not in names]
        return Forbidden("forbidden sysctls", ", ".join(bad)) if bad else None

    return test


def _revision(minor: int) -> Revision:
    return Revision(minor, _allowing(frozenset(n for since, names in _ADDED.items() if since <= minor for n in names)))


CHECK = Check("sysctls", BASELINE, tuple(map(_revision, _ADDED)))
