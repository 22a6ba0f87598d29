"""The front proxy names users in headers; nobody else does."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from multidict import CIMultiDict

from apiserver.authn.test_authenticator import Room, bearer
from podling import clock
from podling.api.errors import StatusError
from podling.api.request import User
from podling.apiserver.authn.authenticator import Authenticator
from podling.apiserver.authn.request_header import FrontProxy


class Authority:
    def __init__(self, name: str, parent: Authority | None = None) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = (parent or self).issue(name, ca=True, key=self.key)

    def issue(
        self, name: str, *, ca: bool = False, key: ec.EllipticCurvePrivateKey | None = None, days: int = 1
    ) -> x509.Certificate:
        key = key or ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self.name).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(clock.EPOCH - timedelta(days=1))
        builder = builder.not_valid_after(clock.EPOCH + timedelta(days=days))
        return builder.add_extension(x509.BasicConstraints(ca, None), True).sign(self.key, hashes.SHA256())

    def der(self, name: str, *, days: int = 1) -> bytes:
        return self.issue(name, days=days).public_bytes(Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)


FRONT, CLIENTS = Authority("front-proxy-ca"), Authority("ca")
BETWEEN = Authority("between", FRONT)

HEADERS = [
    ("X-Remote-User", "bob"), ("X-Remote-Group", "a"), ("X-Remote-Group", "b"), ("X-Remote-Uid", "7"),
    ("X-Remote-Extra-Acme.com%2fTeam", "x"),
]  # fmt: skip


def proxy(**more: object) -> FrontProxy:
    return FrontProxy(FRONT.pem, CLIENTS.pem, uid_headers=["X-Remote-Uid"], **more)  # type: ignore[arg-type]


def who(der: bytes | None, *headers: tuple[str, str], front: FrontProxy | None = None) -> User | None:
    authenticator = Authenticator(Room().authenticator.tokens, front_proxy=front or proxy())
    return clock.run_virtual(authenticator.authenticate(CIMultiDict(headers), der, "/api"))


def test_the_front_proxy_names_the_user() -> None:
    front = proxy(allowed_names=["front-proxy-client"])
    expected = User("bob", ("a", "b", "system:authenticated"), "7", {"acme.com/team": ("x",)})
    assert who(FRONT.der("front-proxy-client"), *HEADERS, front=front) == expected


def test_nobody_else_does() -> None:
    user = who(CLIENTS.der("alice"), *HEADERS)
    assert user is not None and user.name == "alice" and user.groups == ("system:authenticated",)
    assert who(None, *HEADERS) is None
    token = bearer("admin-token")["authorization"]
    user = who(None, *HEADERS, ("Authorization", token))
    assert user is not None and user.name == "admin"


@pytest.mark.parametrize(
    ("der", "front"),
    [
        (FRONT.der("somebody"), proxy(allowed_names=["front-proxy-client"])),
        (FRONT.der("front-proxy-client", days=0), proxy()),
        (BETWEEN.der("kubernetes-admin"), proxy()),
        (Authority("front-proxy-ca").der("front-proxy-client"), proxy()),
    ],
    ids=["another name", "expired", "through an authority in between", "a namesake of the authority"],
)
def test_a_certificate_that_is_not_the_proxys_is_nobodys(der: bytes, front: FrontProxy) -> None:
    for headers in (HEADERS, []):
        with pytest.raises(StatusError) as caught:
            import asyncio

            async def main(headers: list[tuple[str, str]] = headers) -> None:
                await asyncio.sleep(1)
                authenticator = Authenticator(Room().authenticator.tokens, front_proxy=front)
                await authenticator.authenticate(CIMultiDict(headers), der, "/api")

            clock.run_virtual(main())
        assert caught.value.code == 401


def test_the_proxy_itself_is_no_user() -> None:
    """Its certificate is of another authority than those of users: without a name in the headers, it is nobody."""
    with pytest.raises(StatusError):
        who(FRONT.der("system:masters"))


def test_the_proxy_may_name_nobody() -> None:
    user = who(FRONT.der("p"), ("X-Remote-User", "system:anonymous"), ("X-Remote-Group", "system:unauthenticated"))
    assert user == User("system:anonymous", ("system:unauthenticated",), "", {})
