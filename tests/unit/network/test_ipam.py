"""Addresses: handed out in turn, never twice, not again too soon, and known after a restart."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podling.network.base import NetworkFailure, PortMapping
from podling.network.ipam import Allocator, Leases, NoAddresses


def test_addresses_come_in_turn() -> None:
    allocator = Allocator("10.244.1.0/24", quarantine=60)
    assert [allocator.allocate(0) for _ in range(3)] == ["10.244.1.2", "10.244.1.3", "10.244.1.4"]


def test_an_address_rests_before_it_comes_again() -> None:
    allocator = Allocator("10.244.1.0/29", quarantine=60)
    five = [allocator.allocate(0) for _ in range(5)]
    assert five == [f"10.244.1.{i}" for i in range(2, 7)]
    allocator.release("10.244.1.4", 10)
    allocator.release("10.244.1.3", 20)
    assert allocator.allocate(30) == "10.244.1.4", "when none is left, the one that has rested longest"
    allocator.release("10.244.1.2", 31)
    assert allocator.allocate(85) == "10.244.1.3"


def test_exhaustion_is_an_error_that_names_the_range() -> None:
    allocator = Allocator("10.244.1.0/30", quarantine=60)
    allocator.allocate(0)
    with pytest.raises(NoAddresses, match=r"^no addresses left in 10\.244\.1\.0/30$"):
        allocator.allocate(0)


def test_a_range_without_room_is_refused() -> None:
    with pytest.raises(NetworkFailure, match="has no room for a pod"):
        Allocator("10.244.1.0/31", quarantine=60)


@given(
    st.sampled_from(["10.0.0.0/28", "10.0.0.0/29", "fd00::/124"]),
    st.lists(st.tuples(st.booleans(), st.integers(0, 20), st.integers(0, 30)), max_size=80),
)
def test_no_address_is_used_twice_or_out_of_range(cidr: str, steps: list[tuple[bool, int, int]]) -> None:
    allocator, used, now = Allocator(cidr, quarantine=60), [], 0
    network = ipaddress.ip_network(cidr)
    usable = {str(ip) for ip in network} - {str(network[0]), str(network[1])}
    if network.version == 4:
        usable.discard(str(network[-1]))
    for allocate, which, passed in steps:
        now += passed
        if not allocate:
            if used:
                allocator.release(used.pop(which % len(used)), now)
            continue
        if len(used) == len(usable):
            with pytest.raises(NoAddresses):
                allocator.allocate(now)
            continue
        ip = allocator.allocate(now)
        assert ip in usable
        assert ip not in used
        used.append(ip)


def leases(path: Path, *, boot: str = "boot-1", cidrs: tuple[str, ...] = ("10.244.1.0/24",)) -> Leases:
    return Leases(str(path / "sub" / "leases.json"), cidrs, boot=boot, quarantine=60)


def test_leases_outlive_the_agent(tmp_path: Path) -> None:
    first = leases(tmp_path)
    ports = (PortMapping(host_port=80, container_port=8080),)
    lease = first.acquire("one", "pod1", ports, 0)
    second = leases(tmp_path)
    assert second.items() == {"one": lease}
    assert second.acquire("one", "pod1", (), 0) == lease
    assert second.acquire("two", "pod2", (), 0).ips == ("10.244.1.3",)
    assert second.release("two", 0) is not None
    assert second.release("two", 0) is None
    assert leases(tmp_path).acquire("three", "pod3", (), 0).ips == ("10.244.1.4",), "it goes on where it was"


def test_leases_do_not_outlive_the_boot(tmp_path: Path) -> None:
    leases(tmp_path).acquire("one", "pod1", (), 0)
    after = leases(tmp_path, boot="boot-2")
    assert after.items() == {}
    assert after.acquire("two", "pod2", (), 0).ips == ("10.244.1.3",)


def test_with_two_ranges_both_or_none(tmp_path: Path) -> None:
    both = leases(tmp_path, cidrs=("10.244.1.0/24", "fd00::/126"))
    assert both.acquire("one", "pod1", (), 0).ips == ("10.244.1.2", "fd00::2")
    assert both.acquire("two", "pod2", (), 0).ips == ("10.244.1.3", "fd00::3")
    with pytest.raises(NoAddresses):
        both.acquire("three", "pod3", (), 0)
    both.release("one", 1)
    assert both.acquire("four", "pod4", (), 2).ips[1] == "fd00::2"
    assert list(both.items()) == ["two", "four"]


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    leases(tmp_path).acquire("one", "pod1", (), 0)
    path = tmp_path / "sub" / "leases.json"
    path.write_text("{")
    with pytest.raises(NetworkFailure, match=f"cannot read the address leases in {path}"):
        leases(tmp_path)
