"""CertificateSigningRequests: a spec that never changes, decided on under /approval, answered under /status."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from podling.api import certificates_v1, names, times
from podling.api.certificates_v1 import CertificateSigningRequest
from podling.apiserver.resources import printing
from podling.apiserver.resources.certificates import signers
from podling.apiserver.strategy import Context, Strategy
from podling.machinery.validation import Findings, Path, duplicate, forbidden, invalid, not_supported, required

_SPEC = Path("spec")
_STATUS = Path("status")
_CONDITIONS = _STATUS.child("conditions")
_LEGACY = "kubernetes.io/legacy-unknown"
_DECISIONS = ("Approved", "Denied")
_FINAL = (*_DECISIONS, "Failed")
_USAGES = (
    "any", "cert sign", "client auth", "code signing", "content commitment", "crl sign", "data encipherment",
    "decipher only", "digital signature", "email protection", "encipher only", "ipsec end system", "ipsec tunnel",
    "ipsec user", "key agreement", "key encipherment", "microsoft sgc", "netscape sgc", "ocsp signing", "s/mime",
    "server auth", "signing", "timestamping",
)  # fmt: skip


class CertificateSigningRequestStrategy(Strategy[CertificateSigningRequest]):
    has_status = True
    selectable_fields = ("spec.signerName",)
    columns = (
        printing.NAME,
        printing.AGE,
        printing.text("SignerName"),
        printing.text("Requestor"),
        printing.text("RequestedDuration"),
        printing.text("Condition"),
    )

    def prepare_create(self, obj: CertificateSigningRequest, context: Context) -> None:
        spec = obj.spec
        spec.username, spec.uid = context.user.name, context.user.uid or None
        spec.groups = list(context.user.groups) or None
        spec.extra = {k: list(v) for k, v in context.user.extra.items()} or None
        obj.status = certificates_v1.CertificateSigningRequestStatus()

    def validate(self, obj: CertificateSigningRequest) -> Findings:
        return _whole(obj, None)

    def prepare_update(self, new: CertificateSigningRequest, old: CertificateSigningRequest, context: Context) -> None:
        new.spec = old.spec

    def validate_update(self, new: CertificateSigningRequest, old: CertificateSigningRequest) -> Findings:
        return _whole(new, old) + _kept(new, old) + _undecided(new, old) + _certificate_kept(new, old, settable=False)

    def prepare_status_update(
        self, new: CertificateSigningRequest, old: CertificateSigningRequest, context: Context
    ) -> None:
        _stamp(new, old, context)

    def validate_status_update(self, new: CertificateSigningRequest, old: CertificateSigningRequest) -> Findings:
        return _whole(new, old) + _kept(new, old) + _undecided(new, old) + _certificate_kept(new, old, settable=True)

    def prepare_approval(
        self, new: CertificateSigningRequest, old: CertificateSigningRequest, context: Context
    ) -> None:
        """certificatesigningrequests/approval: only conditions change."""
        conditions = new.status.conditions
        new.spec = old.spec
        new.status = certificates_v1.CertificateSigningRequestStatus(
            certificate=old.status.certificate, conditions=conditions
        )
        _stamp(new, old, context)

    def validate_approval(self, new: CertificateSigningRequest, old: CertificateSigningRequest) -> Findings:
        return _whole(new, old) + _kept(new, old) + _certificate_kept(new, old, settable=False)

    def validate_name(self, name: str, *, prefix: bool) -> list[str]:
        return names.path_segment(name, prefix=prefix)

    def fields(self, obj: CertificateSigningRequest) -> dict[str, str]:
        return {"spec.signerName": obj.spec.signer_name}

    def row(self, obj: CertificateSigningRequest, now: datetime) -> list[Any]:
        seconds = obj.spec.expiration_seconds
        return [
            printing.name(obj.metadata),
            printing.age(obj.metadata, now),
            obj.spec.signer_name or printing.NONE,
            obj.spec.username or "",
            printing.NONE if seconds is None else times.human_duration(timedelta(seconds=seconds)),
            _state(obj),
        ]


def _stamp(new: CertificateSigningRequest, old: CertificateSigningRequest, context: Context) -> None:
    """Times of conditions that are new or changed."""
    now = times.format(context.now)
    for condition in new.status.conditions or ():
        condition.last_update_time = condition.last_update_time or now
        if not condition.last_transition_time:
            same = (
                c.last_transition_time
                for c in old.status.conditions or ()
                if (c.type, c.status) == (condition.type, condition.status) and c.last_transition_time
            )
            condition.last_transition_time = next(same, now)


def _whole(obj: CertificateSigningRequest, old: CertificateSigningRequest | None) -> Findings:
    """The whole object; what is wrong in an `old` one already may stay so."""
    found = _request(obj.spec.request, _SPEC.child("request"))
    found += _usages(obj.spec.usages or [], (old.spec.usages or []) if old is not None else [])
    name, at = obj.spec.signer_name, _SPEC.child("signerName")
    if name == _LEGACY and (old is None or old.spec.signer_name != _LEGACY):
        found.append(invalid(at, name, "the legacy signerName is not allowed via this API version"))
    else:
        found += signers.signer_name(name, at)
    seconds = obj.spec.expiration_seconds
    if seconds is not None and seconds < 600:
        at = _SPEC.child("expirationSeconds")
        found.append(invalid(at, seconds, "may not specify a duration less than 600 seconds (10 minutes)"))
    found += _conditions(obj.status.conditions or [], (old.status.conditions or []) if old is not None else [])
    certificate = obj.status.certificate
    known = old is not None and (certificate == old.status.certificate or _certificate_problem(old.status.certificate))
    if not known and (problem := _certificate_problem(certificate)):
        found.append(invalid(_STATUS.child("certificate"), "<certificate data>", problem))
    return found


def _request(request: str, path: Path) -> Findings:
    """A signed PKCS#10 request in PEM."""
    from cryptography import x509

    block = next(signers.blocks(base64.b64decode(request).decode(errors="replace")), None)
    if block is None or block.type != "CERTIFICATE REQUEST":
        return [invalid(path, request, "PEM block type must be CERTIFICATE REQUEST")]
    try:
        parsed = x509.load_der_x509_csr(block.der)
        if not parsed.is_signature_valid:
            return [invalid(path, request, "x509: invalid signature: parent certificate cannot sign this request")]
    except (ValueError, x509.UnsupportedGeneralNameType) as error:
        return [invalid(path, request, f"x509: malformed certificate request: {error}")]
    return []


def _usages(usages: Sequence[str], old: Sequence[str]) -> Findings:
    path = _SPEC.child("usages")
    found: Findings = [] if usages else [required(path)]
    if set(old) <= set(_USAGES):
        for index, usage in enumerate(usages):
            if usage not in _USAGES:
                found.append(not_supported(path.index(index), usage, _USAGES))
    if len(set(old)) == len(old):
        for index, usage in enumerate(usages):
            if usage in usages[:index]:
                found.append(duplicate(path.index(index), usage))
    return found


def _conditions(
    conditions: Sequence[certificates_v1.CertificateSigningRequestCondition],
    old: Sequence[certificates_v1.CertificateSigningRequestCondition],
) -> Findings:
    found: Findings = []
    before = [c.type for c in old]
    types: set[str] = set()
    for index, condition in enumerate(conditions):
        at = _CONDITIONS.index(index)
        if not condition.type and "" not in before:
            found.append(required(at.child("type")))
        supported = ("True",) if condition.type in _FINAL else ("False", "True", "Unknown")
        if not condition.status:
            found.append(required(at.child("status")))
        elif condition.status not in supported:
            found.append(not_supported(at.child("status"), condition.status, supported))
        other = {"Approved": "Denied", "Denied": "Approved"}.get(condition.type)
        if other in types and not set(_DECISIONS) <= set(before):
            detail = "Approved and Denied conditions are mutually exclusive"
            found.append(invalid(at.child("type"), condition.type, detail))
        if condition.type in types and len(set(before)) == len(before):
            found.append(duplicate(at.child("type"), condition.type))
        types.add(condition.type)
    return found


def _of_type(obj: CertificateSigningRequest, kind: str) -> list[certificates_v1.CertificateSigningRequestCondition]:
    return [c for c in obj.status.conditions or () if c.type == kind]


def _kept(new: CertificateSigningRequest, old: CertificateSigningRequest) -> Findings:
    """What was decided stays decided."""
    return [
        forbidden(_CONDITIONS, f'updates may not remove a condition of type "{kind}"')
        for kind in _FINAL
        if len(_of_type(new, kind)) < len(_of_type(old, kind))
    ]


def _undecided(new: CertificateSigningRequest, old: CertificateSigningRequest) -> Findings:
    """Decisions are taken under /approval."""
    found: Findings = []
    for kind in _DECISIONS:
        now, before = _of_type(new, kind), _of_type(old, kind)
        if len(now) > len(before):
            found.append(forbidden(_CONDITIONS, f'updates may not add a condition of type "{kind}"'))
        elif len(now) == len(before) and now != before:
            found.append(forbidden(_CONDITIONS, f'updates may not modify a condition of type "{kind}"'))
    return found


def _certificate_kept(new: CertificateSigningRequest, old: CertificateSigningRequest, *, settable: bool) -> Findings:
    at = _STATUS.child("certificate")
    if (new.status.certificate or "") == (old.status.certificate or ""):
        return []
    if not settable:
        return [forbidden(at, "updates may not set certificate content")]
    if old.status.certificate:
        return [forbidden(at, "updates may not modify existing certificate content")]
    return []


def _certificate_problem(certificate: str | None) -> str:
    """What is wrong with the certificates that were issued; "" if there are none."""
    if not certificate:
        return ""
    from cryptography import x509

    count = 0
    for block in signers.blocks(base64.b64decode(certificate).decode(errors="replace")):
        if block.type != "CERTIFICATE":
            return f'only CERTIFICATE PEM blocks are allowed, found "{block.type}"'
        if block.headers:
            return "no PEM block headers are permitted"
        try:
            x509.load_der_x509_certificate(block.der)
        except ValueError as error:
            return f"x509: malformed certificate: {error}"
        count += 1
    return "" if count else "must contain at least one CERTIFICATE PEM block"


def _state(obj: CertificateSigningRequest) -> str:
    types = {c.type for c in obj.status.conditions or ()}
    state = "Denied" if "Denied" in types else "Approved" if "Approved" in types else "Pending"
    if "Failed" in types:
        state += ",Failed"
    return f"{state},Issued" if obj.status.certificate else state
