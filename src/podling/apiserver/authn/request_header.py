"""Requests of the front proxy: it has authenticated their users already, and names them in headers.

The headers count only on a connection with a certificate of the front proxy's own CA (and of a name that is allowed);
from anybody else they are nothing. Both the proxy's certificates and, beside a front proxy, those of clients must be
signed directly by a CA of their file: a chain that leads to the one must not be taken for the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from podling import clock
from podling.api.request import User
from podling.apiserver.authn import names
from podling.apiserver.authn.certificates import with_authenticated

if TYPE_CHECKING:
    from cryptography.x509 import Certificate


class FrontProxy:
    """`ca` and `client_ca` are PEM, with one or more certificates. No `allowed_names` are all names."""

    def __init__(
        self,
        ca: bytes,
        client_ca: bytes,
        *,
        allowed_names: Sequence[str] = (),
        user_headers: Sequence[str] = ("X-Remote-User",),
        uid_headers: Sequence[str] = (),
        group_headers: Sequence[str] = ("X-Remote-Group",),
        extra_prefixes: Sequence[str] = ("X-Remote-Extra-",),
    ) -> None:
        from cryptography import x509

        self._ca = x509.load_pem_x509_certificates(ca)
        self._client_ca = x509.load_pem_x509_certificates(client_ca)
        self._allowed = frozenset(allowed_names)
        self._user_headers = [h.strip().lower() for h in user_headers]
        self._uid_headers = [h.strip().lower() for h in uid_headers]
        self._group_headers = [h.strip().lower() for h in group_headers]
        self._extra_prefixes = [p.strip().lower() for p in extra_prefixes]
        self.is_client = lru_cache(1024)(self._is_client)
        self._span = lru_cache(1024)(self._read)

    def user_of(self, der: bytes, headers: Mapping[str, str]) -> User | None:
        """The user that the headers name; None unless the certificate is the proxy's and there is a name."""
        span = self._span(der)
        if span is None or not span[0] <= clock.now().timestamp() <= span[1]:
            return None
        name = _first(headers, self._user_headers)
        if not name:
            return None
        groups = tuple(g for h in self._group_headers for g in names.values(headers, h) if g)
        extra: dict[str, tuple[str, ...]] = {}
        for prefix in self._extra_prefixes:
            for key, values in names.extra(headers, prefix).items():
                extra[key] = (*extra.get(key, ()), *values)
        return User(name, _with_default(name, groups), _first(headers, self._uid_headers), extra)

    def _read(self, der: bytes) -> tuple[float, float] | None:
        """From when to when the certificate is good; None if it is not the proxy's."""
        from cryptography import x509
        from cryptography.x509.oid import NameOID

        certificate = x509.load_der_x509_certificate(der)
        if not _issued(certificate, self._ca):
            return None
        common = [str(a.value) for a in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        if self._allowed and not (common and common[0] in self._allowed):
            return None
        return certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()

    def _is_client(self, der: bytes) -> bool:
        """Whether a certificate is of the CA of clients."""
        from cryptography import x509

        return _issued(x509.load_der_x509_certificate(der), self._client_ca)


def _issued(certificate: Certificate, authorities: Sequence[Certificate]) -> bool:
    from cryptography.exceptions import InvalidSignature

    for authority in authorities:
        try:
            certificate.verify_directly_issued_by(authority)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return True
    return False


def _first(headers: Mapping[str, str], wanted: Sequence[str]) -> str:
    """The first header with a value wins."""
    return next((value for name in wanted if (value := next(iter(names.values(headers, name)), ""))), "")


def _with_default(name: str, groups: tuple[str, ...]) -> tuple[str, ...]:
    if name == names.ANONYMOUS or names.UNAUTHENTICATED in groups:
        return groups
    return with_authenticated(groups)
