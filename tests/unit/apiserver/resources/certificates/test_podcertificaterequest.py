from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from podling import clock
from podling.api import times
from tests.unit.apiserver.resources.certificates.material import OTHER_KEY, certificate, request
from tests.unit.apiserver.resources.kinds import Kind, changed

PCR = Kind("certificates.k8s.io/v1", "PodCertificateRequest")
WEB: dict[str, Any] = {
    "metadata": {"name": "web", "namespace": "default"},
    "spec": {
        "signerName": "example.com/server",
        "podName": "web-0",
        "podUID": "u1",
        "serviceAccountName": "default",
        "serviceAccountUID": "u2",
        "nodeName": "n",
        "nodeUID": "u3",
        "stubPKCS10Request": request(Encoding.DER),
    },
}


def test_defaults() -> None:
    assert PCR.defaulted(WEB)["spec"]["maxExpirationSeconds"] == 86400
    assert PCR.create(WEB) == []


@pytest.mark.parametrize(
    ("changes", "findings"),
    [
        ({"podUID": ""}, ['podUID: Invalid value: "": must not be empty']),
        ({"nodeUID": "u" * 129}, ["nodeUID: Too long: may not be more than 128 bytes"]),
        ({"maxExpirationSeconds": 3599}, [
            "maxExpirationSeconds: Invalid value: 3599: must be in the range [3600, 7862400]"
        ]),
        ({"maxExpirationSeconds": 86401, "signerName": "kubernetes.io/kube-apiserver-client-pod"}, [
            "maxExpirationSeconds: Invalid value: 86401: must be in the range [3600, 86400]"
        ]),
        ({"stubPKCS10Request": "QUJD"}, [
            'stubPKCS10Request: Invalid value: "QUJD": must be a valid PKCS#10 certificate signing request'
        ]),
        ({"signerName": ""}, ["signerName: Required value"]),
    ],
)  # fmt: skip
def test_invalid(changes: dict[str, Any], findings: list[str]) -> None:
    bad = changed(WEB, **{f"spec__{path}": value for path, value in changes.items()})
    assert PCR.create(bad) == [f"spec.{f}" for f in findings]


def test_the_spec_is_immutable() -> None:
    (found,) = PCR.update(changed(WEB, spec__podName="web-1"), WEB)
    assert found.startswith("spec: Invalid value: ")
    assert found.endswith(": field is immutable")


def condition(kind: str) -> dict[str, Any]:
    return {"type": kind, "status": "True", "reason": "R", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}


def issued(start_after: float = 0, hours: float = 24, refresh_after: float = 60, **more: Any) -> dict[str, Any]:
    """A status with a certificate that begins `start_after` minutes from now."""
    start = clock.now().replace(microsecond=0) + timedelta(minutes=start_after)
    return {
        "conditions": [condition("Issued")],
        "certificateChain": certificate(start, hours, **more),
        "notBefore": times.format(start),
        "notAfter": times.format(start + timedelta(hours=hours)),
        "beginRefreshAt": times.format(start + timedelta(minutes=refresh_after)),
    }


def test_issued() -> None:
    done = changed(WEB, status=issued())
    assert PCR.status_update(done, WEB) == []
    assert PCR.status_update(done, done) == []
    (found,) = PCR.status_update(changed(done, status__beginRefreshAt="2026-01-01T00:00:00Z"), done)
    assert found.endswith("immutable after PodCertificateRequest is issued, denied, or failed")


def test_issued_status_is_the_certificates() -> None:
    for status, end in (
        (issued(start_after=-6), "must be set to within 5 minutes of kube-apiserver's current time"),
        (issued(hours=0.5), "leaf certificate lifetime must be >= 1 hour"),
        (issued(hours=25), "leaf certificate lifetime must be <= spec.maxExpirationSeconds (86400)"),
        (issued(refresh_after=9), "must be at least 10 minutes after status.notBefore"),
        (issued(refresh_after=1435), "must be at least 10 minutes before status.notAfter"),
        (issued(key=OTHER_KEY), "leaf certificate was not issued to the requested public key"),
        ({"conditions": [condition("Issued")]}, "issued certificate chain must contain at least one certificate"),
        ({**issued(), "notAfter": None}, "must be present and consistent with the issued certificate"),
    ):
        (found,) = PCR.status_update(changed(WEB, status=status), WEB)
        assert found.endswith(end)


@pytest.mark.parametrize(
    ("kinds", "findings"),
    [
        (["Denied"], []),
        (["Odd"], [
            'status.conditions.[0].type: Unsupported value: "Odd": supported values: "Issued", "Denied", "Failed"'
        ]),
        (["Denied", "Failed"], [
            'status.conditions.[1].type: Invalid value: "Failed": There may be at most one condition with type '
            '"Issued", '
            '"Denied", or "Failed"'
        ]),
    ],
)  # fmt: skip
def test_conditions(kinds: list[str], findings: list[str]) -> None:
    status = {"conditions": [condition(kind) for kind in kinds]}
    assert PCR.status_update(changed(WEB, status=status), WEB) == findings


def test_row() -> None:
    assert PCR.row(WEB) == {
        "Name": "web",
        "PodName": "web-0",
        "ServiceAccountName": "default",
        "NodeName": "n",
        "SignerName": "example.com/server",
        "State": "Pending",
    }
    assert PCR.row(changed(WEB, status={"conditions": [condition("Failed")]}))["State"] == "Failed"
