from __future__ import annotations

from typing import Any

import pytest

from tests.unit.apiserver.resources.certificates.material import certificate
from tests.unit.apiserver.resources.kinds import NOW, Kind, changed

BUNDLE = Kind("certificates.k8s.io/v1", "ClusterTrustBundle")
CA, LEAF = certificate(NOW, ca=True), certificate(NOW, ca=False)
ROOTS: dict[str, Any] = {"metadata": {"name": "roots"}, "spec": {"trustBundle": CA}}
SIGNED = changed(ROOTS, metadata__name="example.com:server:a", spec__signerName="example.com/server")


@pytest.mark.parametrize("good", [ROOTS, SIGNED, changed(ROOTS, spec__trustBundle=f"# a comment\n{CA}")])
def test_valid(good: dict[str, Any]) -> None:
    assert BUNDLE.create(good) == []


@pytest.mark.parametrize(
    ("good", "changes", "findings"),
    [
        (ROOTS, {"metadata__name": "a:b"}, [
            'metadata.name: Invalid value: "a:b": ClusterTrustBundle without signer name must not have ":" in its name'
        ]),
        (SIGNED, {"metadata__name": "roots"}, [
            'metadata.name: Invalid value: "roots": ClusterTrustBundle for signerName example.com/server must be named '
            "with prefix example.com:server:"
        ]),
        (ROOTS, {"spec__trustBundle": ""}, ["at least one trust anchor must be provided"]),
        (ROOTS, {"spec__trustBundle": CA + CA}, ["duplicate trust anchor (indices [0 1])"]),
        (ROOTS, {"spec__trustBundle": CA + LEAF}, ["entry 1 does not have the CA bit set"]),
        (ROOTS, {"spec__trustBundle": certificate(NOW)}, ["entry 0 does not have the CA bit set"]),
        (ROOTS, {"spec__trustBundle": CA.replace("CERTIFICATE", "KEY")}, ["entry 0 has bad block type: KEY"]),
        (ROOTS, {"spec__trustBundle": CA.replace("TE-----\nMI", "TE-----\nA: b\n\nMI")}, [
            "entry 0 has PEM block headers"
        ]),
        (ROOTS, {"spec__trustBundle": "-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n"}, [
            "entry 0 does not parse as X.509"
        ]),
    ],
)  # fmt: skip
def test_invalid(good: dict[str, Any], changes: dict[str, Any], findings: list[str]) -> None:
    omitted = 'spec.trustBundle: Invalid value: "<value omitted>": '
    expected = [f if f.startswith("metadata") else omitted + f for f in findings]
    assert BUNDLE.create(changed(good, **changes)) == expected


def test_updates() -> None:
    broken = changed(SIGNED, spec__trustBundle="")
    assert BUNDLE.update(broken, broken) == []
    assert len(BUNDLE.update(broken, SIGNED)) == 1
    moved = changed(SIGNED, metadata__name="example.com:client:a", spec__signerName="example.com/client")
    assert BUNDLE.update(moved, SIGNED) == ['spec.signerName: Invalid value: "example.com/client": field is immutable']


def test_row() -> None:
    assert BUNDLE.row(ROOTS) == {"Name": "roots", "SignerName": "<none>"}
    assert BUNDLE.row(SIGNED)["SignerName"] == "example.com/server"
