from __future__ import annotations

from typing import Any

import pytest

from podling.api.struct import to_dict
from tests.unit.apiserver.resources.certificates.material import base64_of, certificate, request
from tests.unit.apiserver.resources.kinds import GONE, NOW, Kind, changed

CSR = Kind("certificates.k8s.io/v1", "CertificateSigningRequest")
ALICE: dict[str, Any] = {
    "metadata": {"name": "alice"},
    "spec": {
        "request": request(),
        "signerName": "kubernetes.io/kube-apiserver-client",
        "usages": ["client auth"],
    },
}
APPROVED = {"type": "Approved", "status": "True", "reason": "Fine"}
ISSUED = base64_of(certificate(NOW).encode())


def test_the_requestor_is_who_asks() -> None:
    made = CSR.created(changed(ALICE, spec__username="root", status={"conditions": [APPROVED]}))
    assert (made.spec.username, made.spec.groups) == ("alice", ["dev", "system:authenticated"])
    assert made.status.conditions is None
    assert CSR.create(ALICE) == []


USAGES = (
    '"any", "cert sign", "client auth", "code signing", "content commitment", "crl sign", "data encipherment", '
    '"decipher only", "digital signature", "email protection", "encipher only", "ipsec end system", "ipsec tunnel", '
    '"ipsec user", "key agreement", "key encipherment", "microsoft sgc", "netscape sgc", "ocsp signing", "s/mime", '
    '"server auth", "signing", "timestamping"'
)


@pytest.mark.parametrize(
    ("path", "value", "findings"),
    [
        ("request", "QUJD", ['request: Invalid value: "QUJD": PEM block type must be CERTIFICATE REQUEST']),
        ("usages", GONE, ["usages: Required value"]),
        ("usages", ["client auth", "client auth"], ['usages[1]: Duplicate value: "client auth"']),
        ("usages", ["magic"], [f'usages[0]: Unsupported value: "magic": supported values: {USAGES}']),
        ("signerName", "", ["signerName: Required value"]),
        ("signerName", "kubernetes.io/legacy-unknown", [
            'signerName: Invalid value: "kubernetes.io/legacy-unknown": the legacy signerName is not allowed via '
            'this API '
            "version"
        ]),
        ("signerName", "example.com", [
            'signerName: Invalid value: "example.com": must be a fully qualified domain and path of the form '
            "'example.com/signer-name'"
        ]),
        ("signerName", "local/s", [
            'signerName: Invalid value: "local": should be a domain with at least two segments separated by dots'
        ]),
        ("expirationSeconds", 599, [
            "expirationSeconds: Invalid value: 599: may not specify a duration less than 600 seconds (10 minutes)"
        ]),
    ],
)  # fmt: skip
def test_invalid(path: str, value: Any, findings: list[str]) -> None:
    assert CSR.create(changed(ALICE, **{f"spec__{path}": value})) == [f"spec.{f}" for f in findings]


def test_labels_of_signers_are_checked() -> None:
    (found,) = CSR.create(changed(ALICE, spec__signerName="example.com/Server"))
    assert found.startswith('spec.signerName: Invalid value: "Server": validating label "Server": a lowercase RFC 1123')


def test_the_spec_never_changes() -> None:
    new, old = CSR.make(changed(ALICE, spec__signerName="example.com/other")), CSR.make(ALICE)
    CSR.strategy.prepare_update(new, old, CSR.context())
    assert new.spec.signer_name == "kubernetes.io/kube-apiserver-client"


def approval(new: dict[str, Any], old: dict[str, Any]) -> tuple[list[str], Any]:
    after, before = CSR.make(new), CSR.make(old)
    CSR.strategy.prepare_subresource_update("approval", after, before, CSR.context())
    return [str(e) for e in CSR.strategy.validate_subresource_update("approval", after, before)], after


def test_approval_is_stamped_and_changes_nothing_else() -> None:
    found, after = approval(changed(ALICE, status={"conditions": [APPROVED], "certificate": ISSUED}), ALICE)
    assert found == []
    assert to_dict(after.status) == {
        "conditions": [
            {
                **APPROVED,
                "lastUpdateTime": "2026-01-01T12:00:00Z",
                "lastTransitionTime": "2026-01-01T12:00:00Z",
            }
        ]
    }


@pytest.mark.parametrize(
    ("new", "old", "findings"),
    [
        ([APPROVED], [], []),
        ([], [APPROVED], ['status.conditions: Forbidden: updates may not remove a condition of type "Approved"']),
        ([APPROVED, {**APPROVED, "type": "Denied"}], [APPROVED], [
            'status.conditions[1].type: Invalid value: "Denied": Approved and Denied conditions are mutually exclusive'
        ]),
        ([{**APPROVED, "status": "False"}], [], [
            'status.conditions[0].status: Unsupported value: "False": supported values: "True"'
        ]),
        ([{"type": "Odd", "status": ""}], [], ["status.conditions[0].status: Required value"]),
    ],
)  # fmt: skip
def test_decisions(new: list[Any], old: list[Any], findings: list[str]) -> None:
    stamped = approval(changed(ALICE, status={"conditions": old}), ALICE)[1]
    before = {**ALICE, "status": to_dict(stamped.status)}
    assert approval(changed(ALICE, status={"conditions": new}), before)[0] == findings


@pytest.mark.parametrize(
    ("new", "old", "findings"),
    [
        ({"certificate": ISSUED}, {}, []),
        ({"conditions": [APPROVED]}, {}, [
            'status.conditions: Forbidden: updates may not add a condition of type "Approved"'
        ]),
        ({}, {"certificate": ISSUED}, [
            "status.certificate: Forbidden: updates may not modify existing certificate content"
        ]),
        ({"certificate": "QUJD"}, {}, [
            'status.certificate: Invalid value: "<certificate data>": must contain at least one CERTIFICATE PEM block'
        ]),
        ({"certificate": ALICE["spec"]["request"]}, {}, [
            'status.certificate: Invalid value: "<certificate data>": only CERTIFICATE PEM blocks are allowed, found '
            '"CERTIFICATE REQUEST"'
        ]),
    ],
)  # fmt: skip
def test_status(new: dict[str, Any], old: dict[str, Any], findings: list[str]) -> None:
    assert CSR.status_update(changed(ALICE, status=new), changed(ALICE, status=old)) == findings


@pytest.mark.parametrize(
    ("types", "certificate", "state"),
    [
        ([], None, "Pending"),
        (["Approved"], None, "Approved"),
        (["Approved"], ISSUED, "Approved,Issued"),
        (["Approved", "Denied"], None, "Denied"),
        (["Failed"], None, "Pending,Failed"),
    ],
)
def test_row(types: list[str], certificate: str | None, state: str) -> None:
    status = {"conditions": [{"type": t, "status": "True"} for t in types], "certificate": certificate}
    assert CSR.row(changed(ALICE, spec__username="alice", spec__expirationSeconds=3600, status=status)) == {
        "Name": "alice",
        "Age": "<unknown>",
        "SignerName": "kubernetes.io/kube-apiserver-client",
        "Requestor": "alice",
        "RequestedDuration": "60m",
        "Condition": state,
    }
