"""The cluster's own public key infrastructure, in files of the data directory.

    ca.crt ca.key                        signs everybody below; clients and kubelets are verified against it
    front-proxy-ca.crt .key              signs the API server's identity towards aggregated API servers
    sa.key sa.pub                        signs ServiceAccount tokens
    <name>.crt <name>.key                what `serving` and `client` made

A certificate is made once and made anew when it nears its end, or when its names or issuer are no longer the wanted
ones. Keys are elliptic (P-256): making one takes 0.1 ms, and this is on the start-up path. Key files are for their
owner alone (0600).
"""

from __future__ import annotations

import base64
import ipaddress
import json
import os
import tempfile
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from podling import clock
from podling.errors import PodlingError

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

CA_LIFETIME = timedelta(days=3650)
LIFETIME = timedelta(days=365)
#: A certificate is renewed when less than this share of its life is left.
RENEW_AT = 0.2
#: Clocks of other machines may be behind.
BACKDATE = timedelta(minutes=5)

SERVER_AUTH = "server auth"
CLIENT_AUTH = "client auth"

#: Purposes of certificates, by the usages of a CertificateSigningRequest (RFC 5280, section 4.2.1.12, and vendors').
_EXTENDED = {
    "any": "2.5.29.37.0",
    SERVER_AUTH: "1.3.6.1.5.5.7.3.1",
    CLIENT_AUTH: "1.3.6.1.5.5.7.3.2",
    "code signing": "1.3.6.1.5.5.7.3.3",
    "email protection": "1.3.6.1.5.5.7.3.4",
    "s/mime": "1.3.6.1.5.5.7.3.4",
    "ipsec end system": "1.3.6.1.5.5.7.3.5",
    "ipsec tunnel": "1.3.6.1.5.5.7.3.6",
    "ipsec user": "1.3.6.1.5.5.7.3.7",
    "timestamping": "1.3.6.1.5.5.7.3.8",
    "ocsp signing": "1.3.6.1.5.5.7.3.9",
    "microsoft sgc": "1.3.6.1.4.1.311.10.3.3",
    "netscape sgc": "2.16.840.1.113730.4.1",
}


class PkiError(PodlingError):
    """A file of the PKI can't be used; the text says which and what to do."""


class KeyPair(msgspec.Struct, frozen=True):
    """A certificate and its key, as PEM and as files."""

    certificate: bytes
    key: bytes
    certificate_path: Path
    key_path: Path


class SigningKey(msgspec.Struct, frozen=True):
    """The key that signs ServiceAccount tokens, as PEM; `key_path` and `public_path` are its files."""

    key: bytes
    public: bytes
    key_path: Path
    public_path: Path


class CertificateAuthority:
    """Signs certificates. Made by `Pki`, or from PEM (`load`)."""

    def __init__(self, certificate: x509.Certificate, key: EllipticCurvePrivateKey, pem: bytes) -> None:
        self._certificate = certificate
        self._key = key
        self.certificate = pem

    @classmethod
    def load(cls, certificate: bytes, key: bytes) -> CertificateAuthority:
        from cryptography import x509

        return cls(x509.load_pem_x509_certificate(certificate), _load_key(key), certificate)

    @classmethod
    def make(cls, common_name: str) -> tuple[CertificateAuthority, bytes]:
        """A new self-signed authority and its key as PEM."""
        from cryptography import x509

        key = _new_key()
        builder = _builder(_name(common_name), key.public_key(), CA_LIFETIME)
        builder = builder.issuer_name(_name(common_name))
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        builder = builder.add_extension(_key_usage(authority=True), critical=True)
        certificate = _sign(builder, key)
        return cls(certificate, key, _pem(certificate)), _key_pem(key)

    @property
    def not_after(self) -> datetime:
        return self._certificate.not_valid_after_utc

    def issued(self, certificate: x509.Certificate) -> bool:
        """Whether this authority signed `certificate`."""
        try:
            certificate.verify_directly_issued_by(self._certificate)
        except Exception:  # cryptography raises InvalidSignature, ValueError or TypeError: all mean no
            return False
        return True

    def issue(
        self,
        common_name: str,
        *,
        organizations: Iterable[str] = (),
        dns: Iterable[str] = (),
        ips: Iterable[str] = (),
        usages: Iterable[str] = (CLIENT_AUTH,),
        lifetime: timedelta = LIFETIME,
    ) -> tuple[bytes, bytes]:
        """A new key with its certificate, both PEM: (certificate, key)."""
        key = _new_key()
        builder = _builder(_name(common_name, organizations), key.public_key(), self._capped(lifetime))
        certificate = self._finish(builder, _alternatives(dns, ips), usages, _key_usage(authority=False))
        return _pem(certificate), _key_pem(key)

    def sign_request(self, request: bytes, usages: Iterable[str], lifetime: timedelta) -> bytes:
        """The certificate (PEM) for a PKCS#10 request (PEM), with the subject and alternative names that it asks for.

        `usages` are those of a CertificateSigningRequest. Whether the asker may have it all is for the caller to know.
        ValueError for a request that is malformed or not signed with its own key.
        """
        from cryptography import x509

        wanted = x509.load_pem_x509_csr(request)
        if not wanted.is_signature_valid:
            raise ValueError("the certificate request is not signed with its own key")
        builder = _builder(wanted.subject, wanted.public_key(), self._capped(lifetime))
        try:
            alternatives = wanted.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            alternatives = None
        chosen = set(usages)
        return _pem(self._finish(builder, alternatives, chosen, _asked_key_usage(chosen)))

    def _capped(self, lifetime: timedelta) -> timedelta:
        """No certificate outlives its issuer."""
        return min(lifetime, self.not_after - clock.now())

    def _finish(
        self,
        builder: x509.CertificateBuilder,
        alternatives: x509.SubjectAlternativeName | None,
        usages: Iterable[str],
        key_usage: x509.KeyUsage | None,
    ) -> x509.Certificate:
        from cryptography import x509

        builder = builder.issuer_name(self._certificate.subject)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        if key_usage is not None:
            builder = builder.add_extension(key_usage, critical=True)
        extended = sorted({_EXTENDED[u] for u in usages if u in _EXTENDED})
        if extended:
            purposes = [x509.ObjectIdentifier(oid) for oid in extended]
            builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = builder.add_extension(identifier, critical=False)
        if alternatives is not None:
            builder = builder.add_extension(alternatives, critical=False)
        return _sign(builder, self._key)


class Pki:
    """The files of `directory` (made if missing), with `common_name` for a new cluster CA."""

    def __init__(self, directory: Path, common_name: str = "podling") -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.ca = self._authority("ca", f"{common_name}-ca")
        self.front_proxy_ca = self._authority("front-proxy-ca", f"{common_name}-front-proxy-ca")

    def path(self, file: str) -> Path:
        """A file of the PKI, `ca.crt` for one."""
        return self.directory / file

    def serving(self, name: str, common_name: str, *, dns: Iterable[str] = (), ips: Iterable[str] = ()) -> KeyPair:
        """A certificate for a server that is reached by these names and addresses."""
        return self._pair(name, self.ca, common_name, (), sorted(set(dns)), sorted(set(ips)), (SERVER_AUTH,))

    def client(
        self, name: str, user: str, groups: Sequence[str] = (), authority: CertificateAuthority | None = None
    ) -> KeyPair:
        """A certificate by which `user`, member of `groups`, is known; signed by the cluster CA unless said so."""
        return self._pair(name, authority or self.ca, user, tuple(groups), [], [], (CLIENT_AUTH,))

    def service_account_key(self) -> SigningKey:
        """The key pair for ServiceAccount tokens, ES256. It is never renewed by itself: that would void all tokens."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        private_path, public_path = self.path("sa.key"), self.path("sa.pub")
        if private_path.exists() and public_path.exists():
            return SigningKey(private_path.read_bytes(), public_path.read_bytes(), private_path, public_path)
        key = _load_key(private_path.read_bytes()) if private_path.exists() else _new_key()
        private = _key_pem(key)
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        write_private(private_path, private)
        write_private(public_path, public)
        return SigningKey(private, public, private_path, public_path)

    def _authority(self, name: str, common_name: str) -> CertificateAuthority:
        certificate_path, key_path = self.path(f"{name}.crt"), self.path(f"{name}.key")
        if certificate_path.exists() and key_path.exists():
            try:
                return CertificateAuthority.load(certificate_path.read_bytes(), key_path.read_bytes())
            except ValueError as error:
                raise PkiError(
                    f"{certificate_path} or {key_path} is damaged ({error}): restore them, or remove both and all "
                    "certificates beside them to make new ones"
                ) from error
        authority, key = CertificateAuthority.make(common_name)
        write_private(key_path, key)
        write_private(certificate_path, authority.certificate)
        return authority

    def _pair(
        self,
        name: str,
        authority: CertificateAuthority,
        common_name: str,
        organizations: Sequence[str],
        dns: Sequence[str],
        ips: Sequence[str],
        usages: Sequence[str],
    ) -> KeyPair:
        certificate_path, key_path = self.path(f"{name}.crt"), self.path(f"{name}.key")
        if certificate_path.exists() and key_path.exists():
            certificate, key = certificate_path.read_bytes(), key_path.read_bytes()
            if _belong(certificate, key) and _still_good(certificate, authority, common_name, organizations, dns, ips):
                return KeyPair(certificate, key, certificate_path, key_path)
        certificate, key = authority.issue(common_name, organizations=organizations, dns=dns, ips=ips, usages=usages)
        write_private(key_path, key)
        write_private(certificate_path, certificate)
        return KeyPair(certificate, key, certificate_path, key_path)


def _belong(certificate: bytes, key: bytes) -> bool:
    """Whether the key is the certificate's: a crash between writing the two leaves a pair that is none."""
    from cryptography import x509

    try:
        public = x509.load_pem_x509_certificate(certificate).public_key()
        return public == _load_key(key).public_key()
    except ValueError:
        return False


def _still_good(
    pem: bytes,
    authority: CertificateAuthority,
    common_name: str,
    organizations: Sequence[str],
    dns: Sequence[str],
    ips: Sequence[str],
) -> bool:
    from cryptography import x509

    try:
        certificate = x509.load_pem_x509_certificate(pem)
    except ValueError:
        return False
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    now = clock.now()
    if now < begins or ends - now < RENEW_AT * (ends - begins):
        return False
    if certificate.subject != _name(common_name, organizations) or not authority.issued(certificate):
        return False
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return not dns and not ips
    same_dns = sorted(found.get_values_for_type(x509.DNSName)) == sorted(dns)
    same_ips = {str(a) for a in found.get_values_for_type(x509.IPAddress)} == {
        str(ipaddress.ip_address(i)) for i in ips
    }
    return same_dns and same_ips


def write_private(path: Path, data: bytes) -> None:
    """Replace the file in one step; only its owner may read it."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def kubeconfig(
    *,
    server: str,
    ca: bytes,
    cluster: str = "podling",
    user: str = "admin",
    certificate: bytes | None = None,
    key: bytes | None = None,
    token: str | None = None,
    namespace: str | None = None,
    context: str | None = None,
) -> str:
    """A kubeconfig with everything embedded; the user is known by certificate and key, or by token."""
    name = context or cluster
    credentials: dict[str, Any] = {}
    if certificate is not None and key is not None:
        credentials = {"client-certificate-data": _base64(certificate), "client-key-data": _base64(key)}
    elif token is not None:
        credentials = {"token": token}
    inner: dict[str, Any] = {"cluster": cluster, "user": user}
    if namespace:
        inner["namespace"] = namespace
    lines = ["apiVersion: v1", "kind: Config", "clusters:"]
    lines += _entry(cluster, "cluster", {"certificate-authority-data": _base64(ca), "server": server})
    lines += ["contexts:", *_entry(name, "context", inner), f"current-context: {json.dumps(name)}", "preferences: {}"]
    lines += ["users:", *_entry(user, "user", credentials)]
    return "\n".join(lines) + "\n"


def write_kubeconfig(path: Path, text: str) -> None:
    """Write it for its owner alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_private(path, text.encode())


def _entry(name: str, key: str, values: dict[str, Any]) -> list[str]:
    # JSON strings are YAML strings: nothing in them needs more care.
    inner = [f"    {k}: {json.dumps(v)}" for k, v in values.items()]
    return [f"- name: {json.dumps(name)}", f"  {key}:" if inner else f"  {key}: {{}}", *inner]


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _new_key() -> EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _load_key(pem: bytes) -> EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key = load_pem_private_key(pem, None)
    if not isinstance(key, EllipticCurvePrivateKey):
        raise ValueError("not an elliptic curve key")
    return key


def _name(common_name: str, organizations: Iterable[str] = ()) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, o) for o in organizations]
    return x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(subject: x509.Name, public_key: Any, lifetime: timedelta) -> x509.CertificateBuilder:
    from cryptography import x509

    now = clock.now()
    builder = x509.CertificateBuilder().subject_name(subject).public_key(public_key)
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - BACKDATE).not_valid_after(now + lifetime)
    identifier = x509.SubjectKeyIdentifier.from_public_key(public_key)
    return builder.add_extension(identifier, critical=False)


def _alternatives(dns: Iterable[str], ips: Iterable[str]) -> x509.SubjectAlternativeName | None:
    from cryptography import x509

    names: list[x509.GeneralName] = [x509.DNSName(name) for name in dns]
    names += [x509.IPAddress(ipaddress.ip_address(ip)) for ip in ips]
    return x509.SubjectAlternativeName(names) if names else None


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=not authority,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _asked_key_usage(usages: Collection[str]) -> x509.KeyUsage | None:
    """What the key may be used for, by the usages of a CertificateSigningRequest; None if they don't say."""
    from cryptography import x509

    agreement = "key agreement" in usages
    chosen = {
        "digital_signature": "digital signature" in usages or "signing" in usages,
        "content_commitment": "content commitment" in usages,
        "key_encipherment": "key encipherment" in usages,
        "data_encipherment": "data encipherment" in usages,
        "key_agreement": agreement,
        "key_cert_sign": "cert sign" in usages,
        "crl_sign": "crl sign" in usages,
        # They mean nothing but together with key agreement.
        "encipher_only": agreement and "encipher only" in usages,
        "decipher_only": agreement and "decipher only" in usages,
    }
    return x509.KeyUsage(**chosen) if any(chosen.values()) else None


def _sign(builder: x509.CertificateBuilder, key: EllipticCurvePrivateKey) -> x509.Certificate:
    from cryptography.hazmat.primitives import hashes

    return builder.sign(key, hashes.SHA256())


def _pem(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM)


def _key_pem(key: EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
