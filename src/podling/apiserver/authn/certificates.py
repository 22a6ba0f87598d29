"""Users by client certificate: the common name is the user, the organizations are its groups."""

from __future__ import annotations

import hashlib
from functools import lru_cache

from podling import clock
from podling.api.request import User
from podling.apiserver.authn import metrics
from podling.apiserver.authn.names import AUTHENTICATED, CREDENTIAL_ID

#: Subject attribute for the user's uid (k8s.io/apimachinery pkg/apis/asn1).
_UID_OID = "1.3.6.1.4.1.57683.2"


def user_of(der: bytes) -> User | None:
    """The user of a certificate that TLS has verified against the client CA; None without a common name or expired.

    A connection outlives its handshake: so the validity is looked at on every request.
    """
    user, begins, ends = _parsed(der)
    now = clock.now().timestamp()
    if user is None or not begins <= now <= ends:
        return None
    metrics.certificate(ends - now)
    return user


@lru_cache(maxsize=1024)
def _parsed(der: bytes) -> tuple[User | None, float, float]:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    certificate = x509.load_der_x509_certificate(der)
    subject = certificate.subject
    begins, ends = certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
    names = [str(a.value) for a in subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if not names or not names[0]:
        return None, begins, ends
    groups = tuple(str(a.value) for a in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME))
    uids = [str(a.value) for a in subject.get_attributes_for_oid(x509.ObjectIdentifier(_UID_OID))]
    if len(uids) > 1:
        return None, begins, ends
    extra = {CREDENTIAL_ID: (f"X509SHA256={hashlib.sha256(der).hexdigest()}",)}
    user = User(names[0], with_authenticated(groups), uids[0] if uids else "", extra)
    return user, begins, ends


def with_authenticated(groups: tuple[str, ...]) -> tuple[str, ...]:
    """`groups` with system:authenticated, once."""
    return groups if AUTHENTICATED in groups else (*groups, AUTHENTICATED)
