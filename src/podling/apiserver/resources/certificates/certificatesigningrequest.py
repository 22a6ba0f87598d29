"""CertificateSigningRequests: a spec that never changes, decided on under /approval, answered under /status."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from podling.api import certificates_v1, names, times
from podling.apiserver.resources import printing
from podling.apiserver.strategy import Context, Strategy
from podling.machinery.validation import Findings, Path, duplicate, each, forbidden, invalid, not_supported, required

_SPEC = Path("spec")
_CONDITIONS = Path("status").child("conditions")
_USAGES = (
    "any", "cert sign", "client auth", "code signing", "content commitment", "crl sign", "data encipherment",
    "decipher only", "digital signature", "email protection", "encipher only", "ipsec end system", "ipsec tunnel",
    "ipsec user", "key agreement", "key encipherment", "microsoft sgc", "netscape sgc", "ocsp signing", "s/mime",
    "server auth", "signing", "timestamping",
)  # fmt: skip


class CertificateSigningRequestStrategy(Strategy[certificates_v1.CertificateSigningRequest]):
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

    def prepare_create(self, obj: certificates_v1.CertificateSigningRequest, context: Context) -> None:
        spec = obj.spec
        spec.username, spec.uid = context.user.name, context.user.uid or None
        spec.groups = list(context.user.groups) or None
        spec.extra = {k: list(v) for k, v in context.user.extra.items()} or None
        obj.status = certificates_v1.CertificateSigningRequestStatus()

    def validate(self, obj: certificates_v1.CertificateSigningRequest) -> Findings:
        spec = obj.spec
        found: Findings = []
        try:
            _check_pem(spec.request)
        except ValueError as error:
            found.append(invalid(_SPEC.child("request"), spec.request, str(error)))
        usages = spec.usages or []
        if not usages:
            found.append(required(_SPEC.child("usages")))
        for index, usage in enumerate(usages):
            if usage not in _USAGES:
                found.append(not_supported(_SPEC.child("usages").index(index), usage, _USAGES))
            if usage in usages[:index]:
                found.append(duplicate(_SPEC.child("usages").index(index), usage))
        found += _signer_name(spec.signer_name, _SPEC.child("signerName"))
        seconds = spec.expiration_seconds
        if seconds is not None and seconds < 600:
            at = _SPEC.child("expirationSeconds")
            found.append(invalid(at, seconds, "may not specify a duration less than 600 seconds (10 minutes)"))
        return found

    def prepare_update(
        self,
        new: certificates_v1.CertificateSigningRequest,
        old: certificates_v1.CertificateSigningRequest,
        context: Context,
    ) -> None:
        new.spec = old.spec

    def validate_update(
        self, new: certificates_v1.CertificateSigningRequest, old: certificates_v1.CertificateSigningRequest
    ) -> Findings:
        return []

    def prepare_status_update(
        self,
        new: certificates_v1.CertificateSigningRequest,
        old: certificates_v1.CertificateSigningRequest,
        context: Context,
    ) -> None:
        # Approval and denial are said elsewhere.
        decided = [c for c in old.status.conditions or () if c.type in ("Approved", "Denied")]
        rest = [c for c in new.status.conditions or () if c.type not in ("Approved", "Denied")]
        new.status.conditions = [*decided, *rest] or None
        self.stamp(new, old, context)

    def stamp(
        self,
        new: certificates_v1.CertificateSigningRequest,
        old: certificates_v1.CertificateSigningRequest,
        context: Context,
    ) -> None:
        """Times of conditions that are new or changed."""
        now = times.format(context.now)
        before = {c.type: c for c in old.status.conditions or ()}
        for condition in new.status.conditions or ():
            previous = before.get(condition.type)
            if not condition.last_update_time:
                condition.last_update_time = now
            if not condition.last_transition_time:
                same = previous is not None and previous.status == condition.status
                condition.last_transition_time = previous.last_transition_time if previous and same else now

    def validate_status_update(
        self, new: certificates_v1.CertificateSigningRequest, old: certificates_v1.CertificateSigningRequest
    ) -> Findings:
        found = _conditions(new.status.conditions or [])
        at = Path("status").child("certificate")
        if old.status.certificate and new.status.certificate != old.status.certificate:
            found.append(forbidden(at, "updates may not modify a certificate once it is set"))
        return found + _kept(new, old)

    def prepare_approval(
        self,
        new: certificates_v1.CertificateSigningRequest,
        old: certificates_v1.CertificateSigningRequest,
        context: Context,
    ) -> None:
        """certificatesigningrequests/approval: only conditions change."""
        conditions = new.status.conditions
        new.spec = old.spec
        new.status = certificates_v1.CertificateSigningRequestStatus(
            certificate=old.status.certificate, conditions=conditions
        )
        self.stamp(new, old, context)

    def validate_approval(
        self, new: certificates_v1.CertificateSigningRequest, old: certificates_v1.CertificateSigningRequest
    ) -> Findings:
        return _conditions(new.status.conditions or []) + _kept(new, old)

    def fields(self, obj: certificates_v1.CertificateSigningRequest) -> dict[str, str]:
        return {"spec.signerName": obj.spec.signer_name}

    def row(self, obj: certificates_v1.CertificateSigningRequest, now: datetime) -> list[Any]:
        seconds = obj.spec.expiration_seconds
        return [
            printing.name(obj.metadata),
            printing.age(obj.metadata, now),
            obj.spec.signer_name or printing.NONE,
            obj.spec.username or "",
            printing.NONE if seconds is None else times.human_duration(timedelta(seconds=seconds)),
            _state(obj),
        ]


def _check_pem(request: str) -> None:
    """Raises ValueError with upstream's text."""
    try:
        text = base64.b64decode(request, validate=True).decode()
    except (ValueError, UnicodeDecodeError):
        text = ""
    if "-----BEGIN CERTIFICATE REQUEST-----" not in text:
        raise ValueError("PEM block type must be CERTIFICATE REQUEST")
    from cryptography import x509

    x509.load_pem_x509_csr(text.encode())


def _signer_name(name: str, path: Path) -> Findings:
    if not name:
        return [required(path)]
    domain, slash, rest = name.partition("/")
    if not slash or "/" in rest:
        return [invalid(path, name, "must be a fully qualified domain and path of the form 'example.com/signer-name'")]
    found = each(path, domain, names.dns_subdomain(domain))
    if "." not in domain:
        found.append(invalid(path, domain, "should be a domain with at least two segments separated by dots"))
    return found + each(path, rest, names.dns_subdomain(rest))


def _conditions(conditions: Sequence[certificates_v1.CertificateSigningRequestCondition]) -> Findings:
    found: Findings = []
    types: set[str] = set()
    for index, condition in enumerate(conditions):
        at = _CONDITIONS.index(index)
        if not condition.type:
            found.append(required(at.child("type")))
        if condition.type in types:
            found.append(duplicate(at.child("type"), condition.type))
        types.add(condition.type)
        if condition.type in ("Approved", "Denied", "Failed"):
            if condition.status != "True":
                found.append(not_supported(at.child("status"), condition.status, ("True",)))
        elif condition.status not in ("True", "False", "Unknown"):
            found.append(not_supported(at.child("status"), condition.status, ("False", "True", "Unknown")))
        if {"Approved", "Denied"} <= types and condition.type in ("Approved", "Denied"):
            detail = "Approved and Denied conditions are mutually exclusive"
            found.append(invalid(at.child("type"), condition.type, detail))
    return found


def _kept(new: certificates_v1.CertificateSigningRequest, old: certificates_v1.CertificateSigningRequest) -> Findings:
    """What was decided stays decided."""
    now = {c.type for c in new.status.conditions or ()}
    return [
        forbidden(_CONDITIONS, f'updates may not remove a condition of type "{condition.type}"')
        for condition in old.status.conditions or ()
        if condition.type in ("Approved", "Denied", "Failed") and condition.type not in now
    ]


def _state(obj: certificates_v1.CertificateSigningRequest) -> str:
    types = {c.type for c in obj.status.conditions or ()}
    words: list[str] = [word for word in ("Approved", "Denied", "Failed") if word in types]
    if "Denied" in words and "Approved" in words:
        words.remove("Approved")
    if not {"Approved", "Denied"} & set(words):
        words.insert(0, "Pending")
    if obj.status.certificate:
        words.append("Issued")
    return ",".join(words)
