"""PodCertificateRequests: a kubelet asks a signer for a certificate of one of its pods."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from podling import clock
from podling.api import certificates_v1, names, times
from podling.api.certificates_v1 import PodCertificateRequest, PodCertificateRequestStatus
from podling.apiserver.resources import printing
from podling.apiserver.resources.certificates import signers
from podling.apiserver.strategy import Context, Strategy
from podling.machinery.validation import (
    Findings,
    Path,
    annotations_,
    each,
    immutable,
    invalid,
    not_supported,
    required,
    too_long,
)

_SPEC = Path("spec")
_STATUS = Path("status")
_CHAIN = _STATUS.child("certificateChain")
_REQUEST = _SPEC.child("stubPKCS10Request")
_TYPES = ("Issued", "Denied", "Failed")
_HOUR, _DAY, _QUARTER = 3600, 24 * 3600, 91 * 24 * 3600
_MAX_UID = 128
_MAX_REQUEST = 10 * 1024
_MAX_CHAIN = 100 * 1024
_MARGIN = timedelta(minutes=10)


class PodCertificateRequestStrategy(Strategy[PodCertificateRequest]):
    has_status = True
    selectable_fields = ("spec.signerName", "spec.podName", "spec.nodeName")
    unconditional_update = False
    columns = (
        printing.NAME,
        printing.text("PodName"),
        printing.text("ServiceAccountName"),
        printing.text("NodeName"),
        printing.text("SignerName"),
        printing.text("State"),
    )

    def default(self, obj: PodCertificateRequest) -> None:
        if obj.spec.max_expiration_seconds is None:
            obj.spec.max_expiration_seconds = _DAY

    def prepare_create(self, obj: PodCertificateRequest, context: Context) -> None:
        obj.status = PodCertificateRequestStatus()

    def validate(self, obj: PodCertificateRequest) -> Findings:
        spec = obj.spec
        found = signers.signer_name(spec.signer_name, _SPEC.child("signerName"))
        found += _user_annotations(spec.unverified_user_annotations)
        rules: tuple[tuple[str, str, Callable[[str], list[str]]], ...] = (
            ("podName", spec.pod_name, names.dns_subdomain),
            ("podUID", spec.pod_uid, _uid),
            ("serviceAccountName", spec.service_account_name, names.dns_subdomain),
            ("serviceAccountUID", spec.service_account_uid, _uid),
            ("nodeName", spec.node_name, names.dns_subdomain),
            ("nodeUID", spec.node_uid, _uid),
        )
        for name, value, rule in rules:
            at = _SPEC.child(name)
            found += (
                [too_long(at, _MAX_UID)] if rule is _uid and len(value) > _MAX_UID else each(at, value, rule(value))
            )
        return found + _lifetime(spec) + _stub(spec.stub_pkcs10_request)

    def validate_update(self, new: PodCertificateRequest, old: PodCertificateRequest) -> Findings:
        return immutable(new.spec, old.spec, _SPEC)

    def validate_status_update(self, new: PodCertificateRequest, old: PodCertificateRequest) -> Findings:
        if found := _conditions(new.status):
            return found
        if _state(old.status):
            if new.status == old.status:
                return []
            detail = "immutable after PodCertificateRequest is issued, denied, or failed"
            return [invalid(_STATUS, new.status, detail)]
        state = _state(new.status)
        if state == "Issued":
            return _issued(new, clock.now())
        rest = PodCertificateRequestStatus(conditions=new.status.conditions)
        if new.status == rest:
            return []
        if state:
            detail = "non-condition status fields must be empty when denying or failing the PodCertificateRequest"
        else:
            detail = "non-condition status fields must be empty when the PodCertificateRequest is pending"
        return [invalid(_STATUS, new.status, detail)]

    def fields(self, obj: PodCertificateRequest) -> dict[str, str]:
        spec = obj.spec
        return {
            "spec.signerName": spec.signer_name,
            "spec.podName": spec.pod_name,
            "spec.nodeName": spec.node_name,
        }

    def row(self, obj: PodCertificateRequest, now: datetime) -> list[Any]:
        spec = obj.spec
        return [
            printing.name(obj.metadata),
            spec.pod_name,
            spec.service_account_name,
            spec.node_name,
            spec.signer_name,
            _state(obj.status) or "Pending",
        ]


def _uid(value: str) -> list[str]:
    return [] if value else ["must not be empty"]


def _state(status: PodCertificateRequestStatus) -> str:
    return next((c.type for c in status.conditions or () if c.type in _TYPES), "")


def _user_annotations(values: dict[str, str] | None) -> Findings:
    at = _SPEC.child("unverifiedUserAnnotations")
    found = annotations_(values, at)
    for key in values or ():
        if "/" not in key:
            found.append(invalid(at, key, "must have a domain prefix"))
    return found


def _lifetime(spec: certificates_v1.PodCertificateRequestSpec) -> Findings:
    at, seconds = _SPEC.child("maxExpirationSeconds"), spec.max_expiration_seconds
    if seconds is None:
        return [required(at, "must be set")]
    longest = _DAY if signers.is_native(spec.signer_name) else _QUARTER
    if _HOUR <= seconds <= longest:
        return []
    return [invalid(at, seconds, f"must be in the range [{_HOUR}, {longest}]")]


def _stub(request: str) -> Findings:
    """A signed PKCS#10 request in DER: it proves that the kubelet has the key."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm

    der = base64.b64decode(request)
    if not der:
        return [required(_REQUEST)]
    if len(der) > _MAX_REQUEST:
        return [too_long(_REQUEST, _MAX_REQUEST)]
    try:
        parsed = x509.load_der_x509_csr(der)
        if not parsed.is_signature_valid:
            return [invalid(_REQUEST, request, "could not verify the signature of the certificate signing request")]
        problem = _key_problem(parsed.public_key())
    except (ValueError, UnsupportedAlgorithm):
        return [invalid(_REQUEST, request, "must be a valid PKCS#10 certificate signing request")]
    return [invalid(_REQUEST, *problem)] if problem else []


def _key_problem(key: Any) -> tuple[str, str] | None:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if isinstance(key, ed25519.Ed25519PublicKey):
        return None
    if isinstance(key, ec.EllipticCurvePublicKey):
        if key.curve.name in ("secp256r1", "secp384r1", "secp521r1"):
            return None
        return f"curve {key.curve.name}", "elliptic public keys must use curve P256 or P384"
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size in (3072, 4096):
            return None
        return f"{key.key_size}-bit modulus", "RSA keys must have modulus size 3072 or 4096"
    return type(key).__name__, "unknown public key type; supported types are Ed25519, ECDSA, and RSA"


def _conditions(status: PodCertificateRequestStatus) -> Findings:
    """At most one of the known conditions, and it is true."""
    found: Findings = []
    for index, condition in enumerate(status.conditions or ()):
        at = _STATUS.child("conditions").child(f"[{index}]")
        if condition.type not in _TYPES:
            found.append(not_supported(at.child("type"), condition.type, _TYPES))
            continue
        if index > 0:
            detail = 'There may be at most one condition with type "Issued", "Denied", or "Failed"'
            found.append(invalid(at.child("type"), condition.type, detail))
        if condition.status != "True":
            found.append(not_supported(at.child("status"), condition.status, ("True",)))
    return found


def _issued(obj: PodCertificateRequest, now: datetime) -> Findings:
    """That the certificate is what was asked for, and the times are the certificate's."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    chain = obj.status.certificate_chain or ""
    if len(chain) > _MAX_CHAIN:
        return [too_long(_CHAIN, _MAX_CHAIN)]
    found_blocks = list(signers.blocks(chain))
    if not found_blocks:
        return [invalid(_CHAIN, chain, "issued certificate chain must contain at least one certificate")]
    if any(block.type != "CERTIFICATE" for block in found_blocks):
        return [invalid(_CHAIN, chain, "issued certificate chain must consist entirely of CERTIFICATE PEM blocks")]
    try:
        leaf = x509.load_der_x509_certificate(found_blocks[0].der)
    except ValueError:
        return [invalid(_CHAIN, chain, "leaf certificate does not parse as valid X.509")]
    asked = x509.load_der_x509_csr(base64.b64decode(obj.spec.stub_pkcs10_request)).public_key()
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if leaf.public_key().public_bytes(*form) != asked.public_bytes(*form):
        return [invalid(_CHAIN, chain, "leaf certificate was not issued to the requested public key")]
    times_of_leaf = (leaf.not_valid_before_utc, leaf.not_valid_after_utc)
    return _times(obj, *times_of_leaf, now) or _rest_of_chain(found_blocks[1:], chain)


def _rest_of_chain(rest: list[signers.Block], chain: str) -> Findings:
    from cryptography import x509

    for block in rest:
        try:
            x509.load_der_x509_certificate(block.der)
        except ValueError:
            return [invalid(_CHAIN, chain, "intermediate certificate does not parse as valid X.509")]
    return []


def _times(obj: PodCertificateRequest, first: datetime, last: datetime, now: datetime) -> Findings:
    status = obj.status
    found: Findings = []
    for name, value, detail in (
        ("notBefore", status.not_before, "must be present and consistent with the issued certificate"),
        ("notAfter", status.not_after, "must be present and consistent with the issued certificate"),
        (
            "beginRefreshAt",
            status.begin_refresh_at,
            "must be present and in the range [notbefore+10min, notafter-10min]",
        ),
    ):
        if not value:
            found.append(required(_STATUS.child(name), detail))
    if found or not (status.not_before and status.not_after and status.begin_refresh_at):
        return found
    not_before, not_after = times.parse(status.not_before), times.parse(status.not_after)
    at = _STATUS.child("notBefore")
    if not_before != first:
        detail = "must be set to the NotBefore time encoded in the leaf certificate"
        return [invalid(at, status.not_before, detail)]
    if abs(not_before - now) > timedelta(minutes=5):
        return [invalid(at, status.not_before, "must be set to within 5 minutes of kube-apiserver's current time")]
    if not_after != last:
        detail = "must be set to the NotAfter time encoded in the leaf certificate"
        return [invalid(_STATUS.child("notAfter"), status.not_after, detail)]
    lifetime, longest = (last - first).total_seconds(), obj.spec.max_expiration_seconds or _DAY
    if lifetime < _HOUR:
        return [invalid(_CHAIN, int(lifetime), "leaf certificate lifetime must be >= 1 hour")]
    if lifetime > longest:
        detail = f"leaf certificate lifetime must be <= spec.maxExpirationSeconds ({longest})"
        return [invalid(_CHAIN, int(lifetime), detail)]
    at, refresh = _STATUS.child("beginRefreshAt"), times.parse(status.begin_refresh_at)
    if refresh < not_before + _MARGIN:
        return [invalid(at, status.begin_refresh_at, "must be at least 10 minutes after status.notBefore")]
    if refresh > not_after - _MARGIN:
        return [invalid(at, status.begin_refresh_at, "must be at least 10 minutes before status.notAfter")]
    return []
