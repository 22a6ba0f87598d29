"""What stands in a container's /etc/hosts."""

from __future__ import annotations

import pytest

from podling.api import core_v1
from podling.kubelet import hosts_file

ALIASES = [core_v1.HostAlias(ip="10.1.2.3", hostnames=["foo", "bar"])]
ALIASED = "\n# Entries added by HostAliases.\n10.1.2.3\tfoo\tbar\n"


def test_a_pod_with_a_network_of_its_own() -> None:
    made = hosts_file.managed(["10.244.0.5", "fd00::5"], "p", "sub.ns.svc.cluster.local", ALIASES)
    assert made.startswith("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n")
    names = "p.sub.ns.svc.cluster.local\tp"
    assert made.endswith(f"fe00::2\tip6-allrouters\n10.244.0.5\t{names}\nfd00::5\t{names}\n{ALIASED}")
    assert hosts_file.managed(["10.244.0.5"], "p", "", None).endswith("\n10.244.0.5\tp\n")


@pytest.mark.parametrize(
    ("own", "shown"),
    [
        ("127.0.0.1 localhost\n", "127.0.0.1 localhost\n10.213.0.2\tduo-1\nfd01::2\tduo-1\n"),
        ("127.0.0.1 localhost", "127.0.0.1 localhost\n10.213.0.2\tduo-1\nfd01::2\tduo-1\n"),
        ("", "10.213.0.2\tduo-1\nfd01::2\tduo-1\n"),
        ("127.0.1.1 here duo-1 # me\n", "127.0.1.1 here duo-1 # me\n"),
        ("127.0.1.1 duo-10 # duo-1\n", "127.0.1.1 duo-10 # duo-1\n10.213.0.2\tduo-1\nfd01::2\tduo-1\n"),
    ],
)
def test_a_pod_of_the_nodes_network_has_the_nodes_file_and_the_nodes_name(own: str, shown: str) -> None:
    made = hosts_file.host_network(own, "duo-1", ["10.213.0.2", "fd01::2"], None)
    assert made == f"# Kubernetes-managed hosts file (host network).\n{shown}"
    assert hosts_file.host_network(own, "duo-1", ["10.213.0.2", "fd01::2"], ALIASES) == made + ALIASED
