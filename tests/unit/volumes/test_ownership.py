"""The bits that fsGroup adds."""

import stat

import pytest

from podling.volumes import ownership


@pytest.mark.parametrize(
    ("type_", "readonly", "bits"),
    [
        (stat.S_IFREG, False, 0o660),
        (stat.S_IFREG, True, 0o440),
        (stat.S_IFDIR, False, 0o2770),
        (stat.S_IFDIR, True, 0o2550),
    ],
)
def test_mask(type_: int, readonly: bool, bits: int) -> None:
    assert ownership.mask(type_, readonly=readonly) == bits
