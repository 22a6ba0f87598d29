"""When a range of service addresses may go; how it is held on a whole cluster: tests/conformance/test_networking.py."""

from __future__ import annotations

import pytest

from podling.api.meta_v1 import ObjectMeta
from podling.api.networking_v1 import ServiceCIDR
from podling.controllers.service_cidr import may_go


def range_(name: str, *cidrs: str, deleting: bool = False) -> ServiceCIDR:
    made = ServiceCIDR(metadata=ObjectMeta(name=name))
    made.metadata.deletion_timestamp = "2026-01-01T00:00:00Z" if deleting else None
    made.spec.cidrs = list(cidrs)
    return made


GOING = range_("going", "10.0.0.0/24", "fd00::/120", deleting=True)


@pytest.mark.parametrize(
    ("others", "addresses", "expected"),
    [
        ([], [], True),
        ([], ["10.0.1.1", "fd00::1:1"], True),
        ([], ["10.0.0.1"], False),
        ([], ["fd00::1"], False),
        ([range_("wider", "10.0.0.0/16")], ["10.0.0.1"], True),
        ([range_("wider", "10.0.0.0/16")], ["10.0.0.1", "fd00::1"], False),
        ([range_("part", "10.0.0.0/28")], ["10.0.0.1"], True),
        ([range_("part", "10.0.0.0/28")], ["10.0.0.100"], False),
        ([range_("wider", "10.0.0.0/16", deleting=True)], ["10.0.0.1"], False),
    ],
)
def test_no_address_is_left_without_a_range(others: list[ServiceCIDR], addresses: list[str], expected: bool) -> None:
    assert may_go(GOING, [GOING, *others], addresses) is expected
