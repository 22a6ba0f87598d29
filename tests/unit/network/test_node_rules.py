"""hostPorts as elements of maps."""

from __future__ import annotations

import pytest

from podling.network.base import PortMapping
from podling.network.config import NodeNetworkConfig, PodNetworkConfig
from podling.network.ipam import Lease
from podling.network.node_rules import change_host_ports, host_port_elements

POD = ("10.244.1.5", "fd00::5")


@pytest.mark.parametrize(
    ("port", "ips", "expected"),
    [
        (PortMapping(80, 8080), POD[:1], {("any-host-ports4", "tcp . 80 : 10.244.1.5 . 8080")}),
        (PortMapping(53, 53, "UDP", "0.0.0.0"), POD[:1], {("any-host-ports4", "udp . 53 : 10.244.1.5 . 53")}),
        (
            PortMapping(80, 8080, "SCTP", "127.0.0.1"),
            POD,
            {("host-ports4", "127.0.0.1 . sctp . 80 : 10.244.1.5 . 8080")},
        ),
        (
            PortMapping(80, 8080),
            POD,
            {
                ("any-host-ports4", "tcp . 80 : 10.244.1.5 . 8080"),
                ("any-host-ports6", "tcp . 80 : fd00::5 . 8080"),
            },
        ),
        (PortMapping(80, 8080, "TCP", "::"), POD, {("any-host-ports6", "tcp . 80 : fd00::5 . 8080")}),
        (PortMapping(80, 8080, "TCP", "fd01::1"), POD, {("host-ports6", "fd01::1 . tcp . 80 : fd00::5 . 8080")}),
    ],
)
def test_elements(port: PortMapping, ips: tuple[str, ...], expected: set[tuple[str, str]]) -> None:
    found = host_port_elements(Lease(ips=ips, link="pod1", ports=(port,)))
    assert {element for element in found if not element[0].startswith("hairpin")} == expected
    assert any(name.startswith("hairpin") for name, _ in found)


def test_a_sandbox_without_ports_changes_nothing() -> None:
    assert change_host_ports("podling", "add", Lease(ips=POD, link="pod1")) == ""


def test_addresses_follow_from_the_ranges() -> None:
    nodes = NodeNetworkConfig(cidr="10.213.0.0/24")
    assert (nodes.host_ip, nodes.node_ip(1), nodes.node_ip(2)) == ("10.213.0.1", "10.213.0.11", "10.213.0.12")
    pods = PodNetworkConfig(pod_cidrs=("10.244.3.0/24", "fd00:0:0:3::/64"), state_file="")
    assert pods.gateways == ("10.244.3.1", "fd00:0:0:3::1")
    assert pods.dual_stack
