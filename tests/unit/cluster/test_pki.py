"""Certificates: what they say, when they are made anew, and that OpenSSL believes them."""

from __future__ import annotations

import asyncio
import os
import ssl
import stat
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from podling import clock
from podling.cluster import pki


def names_of(pem: bytes) -> tuple[str, set[str], set[str], set[str]]:
    certificate = x509.load_pem_x509_certificate(pem)
    common_name = str(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)
    groups = {str(a.value) for a in certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)}
    try:
        san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return common_name, groups, set(), set()
    dns = set(san.get_values_for_type(x509.DNSName))
    return common_name, groups, dns, {str(ip) for ip in san.get_values_for_type(x509.IPAddress)}


def test_a_serving_certificate_has_its_names_and_verifies_against_the_ca(tmp_path: Path) -> None:
    made = pki.Pki(tmp_path)
    pair = made.serving("apiserver", "kube-apiserver", dns=["kubernetes", "localhost"], ips=["127.0.0.1", "::1"])
    assert names_of(pair.certificate) == ("kube-apiserver", set(), {"kubernetes", "localhost"}, {"127.0.0.1", "::1"})
    verified = subprocess.run(
        [
            "openssl",
            "verify",
            "-purpose",
            "sslserver",
            "-x509_strict",
            "-CAfile",
            made.path("ca.crt"),
            pair.certificate_path,
        ],
        capture_output=True,
        text=True,
    )
    assert verified.returncode == 0, verified.stderr


def test_a_client_certificate_says_user_and_groups(tmp_path: Path) -> None:
    pair = pki.Pki(tmp_path).client("admin", "kubernetes-admin", ["system:masters", "ops"])
    assert names_of(pair.certificate) == ("kubernetes-admin", {"system:masters", "ops"}, set(), set())


def test_the_front_proxy_has_an_authority_of_its_own(tmp_path: Path) -> None:
    made = pki.Pki(tmp_path)
    pair = made.client("front-proxy-client", "front-proxy-client", authority=made.front_proxy_ca)
    certificate = x509.load_pem_x509_certificate(pair.certificate)
    assert made.front_proxy_ca.issued(certificate)
    assert not made.ca.issued(certificate)


def test_private_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    made = pki.Pki(tmp_path / "pki")
    made.client("admin", "admin")
    made.service_account_key()
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "pki").iterdir()}
    assert set(modes) == {
        "ca.crt", "ca.key", "front-proxy-ca.crt", "front-proxy-ca.key", "admin.crt", "admin.key", "sa.key", "sa.pub",
    }  # fmt: skip
    assert set(modes.values()) == {0o600}


def test_everything_is_made_once(tmp_path: Path) -> None:
    first, second = pki.Pki(tmp_path), pki.Pki(tmp_path)
    assert first.ca.certificate == second.ca.certificate
    assert first.client("a", "a", ["g"]) == second.client("a", "a", ["g"])
    assert first.serving("s", "s", dns=["b", "a"], ips=["::1"]) == second.serving("s", "s", dns=["a", "b"], ips=["::1"])
    assert first.service_account_key() == second.service_account_key()


@pytest.mark.parametrize(
    "change",
    [{"dns": ["a", "b"]}, {"dns": []}, {"ips": ["127.0.0.2"]}, {"common_name": "other"}],
    ids=lambda change: str(change),
)
def test_other_names_make_a_new_certificate(tmp_path: Path, change: dict[str, object]) -> None:
    made = pki.Pki(tmp_path)
    wanted: dict[str, object] = {"common_name": "s", "dns": ["a"], "ips": ["127.0.0.1"]}
    before = made.serving("s", **wanted)  # type: ignore[arg-type]
    after = made.serving("s", **{**wanted, **change})  # type: ignore[arg-type]
    assert before.certificate != after.certificate


def test_a_certificate_is_renewed_near_its_end_and_not_before(tmp_path: Path) -> None:
    async def certificate() -> bytes:
        return pki.Pki(tmp_path).client("a", "a").certificate

    starts = (clock.EPOCH + timedelta(days=days) for days in (0, 280, 300))
    made, later, near_the_end = [clock.run_virtual(certificate(), start=start) for start in starts]
    assert made == later
    assert near_the_end != made


def test_a_certificate_of_another_authority_is_replaced(tmp_path: Path) -> None:
    before = pki.Pki(tmp_path).client("a", "a")
    for file in ("ca.crt", "ca.key"):
        (tmp_path / file).unlink()
    made = pki.Pki(tmp_path)
    after = made.client("a", "a")
    assert after.certificate != before.certificate
    assert made.ca.issued(x509.load_pem_x509_certificate(after.certificate))


def test_a_pair_that_a_crash_left_unmatched_is_replaced(tmp_path: Path) -> None:
    made = pki.Pki(tmp_path)
    made.client("a", "a")
    other = made.client("b", "b")
    (tmp_path / "a.key").write_bytes(other.key)
    mended = made.client("a", "a")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_cert_chain(mended.certificate_path, mended.key_path)


def test_a_damaged_authority_is_named(tmp_path: Path) -> None:
    pki.Pki(tmp_path)
    (tmp_path / "ca.key").write_text("nonsense")
    with pytest.raises(pki.PkiError, match=r"ca\.key is damaged"):
        pki.Pki(tmp_path)


def test_a_certificate_request_is_signed_with_its_own_names(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes"),
            x509.NameAttribute(NameOID.COMMON_NAME, "system:node:n1"),
        ]
    )
    request = x509.CertificateSigningRequestBuilder().subject_name(subject)
    request = request.add_extension(x509.SubjectAlternativeName([x509.DNSName("n1")]), critical=False)
    authority = pki.Pki(tmp_path).ca
    pem = request.sign(key, hashes.SHA256())
    signed = authority.sign_request(pem.public_bytes(Encoding.PEM), [pki.CLIENT_AUTH], timedelta(hours=1))
    certificate = x509.load_pem_x509_certificate(signed)
    assert names_of(signed) == ("system:node:n1", {"system:nodes"}, {"n1"}, set())
    assert authority.issued(certificate)
    assert certificate.public_key() == key.public_key()
    length = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert length == timedelta(hours=1) + pki.BACKDATE


def test_no_certificate_outlives_its_authority(tmp_path: Path) -> None:
    authority = pki.Pki(tmp_path).ca
    certificate, _ = authority.issue("a", lifetime=pki.CA_LIFETIME * 2)
    assert x509.load_pem_x509_certificate(certificate).not_valid_after_utc <= authority.not_after


def test_tls_with_client_certificates_works_both_ways(tmp_path: Path) -> None:
    made = pki.Pki(tmp_path)
    server = made.serving("server", "server", ips=["127.0.0.1"])
    client = made.client("client", "alice", ["devs"])
    accepting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    accepting.load_cert_chain(server.certificate_path, server.key_path)
    accepting.load_verify_locations(cadata=made.ca.certificate.decode())
    accepting.verify_mode = ssl.CERT_REQUIRED
    connecting = ssl.create_default_context(cadata=made.ca.certificate.decode())
    connecting.load_cert_chain(client.certificate_path, client.key_path)

    async def main() -> bytes:
        seen: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            seen.set_result(writer.get_extra_info("ssl_object").getpeercert(binary_form=True))
            writer.close()

        listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=accepting)
        port = listening.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=connecting)
        der = await seen
        writer.close()
        listening.close()
        return der

    der = asyncio.run(main())
    assert x509.load_der_x509_certificate(der) == x509.load_pem_x509_certificate(client.certificate)


def test_a_kubeconfig_embeds_everything(tmp_path: Path) -> None:
    made = pki.Pki(tmp_path)
    admin = made.client("admin", "admin", ["system:masters"])
    text = pki.kubeconfig(
        server="https://127.0.0.1:6443",
        ca=made.ca.certificate,
        cluster="dev: 1",
        user="admin",
        certificate=admin.certificate,
        key=admin.key,
        namespace="apps",
    )
    pki.write_kubeconfig(tmp_path / "deep" / "config", text)
    assert stat.S_IMODE(os.stat(tmp_path / "deep" / "config").st_mode) == 0o600
    config = yaml.safe_load(text)
    assert config["current-context"] == "dev: 1"
    assert config["contexts"][0]["context"] == {"cluster": "dev: 1", "user": "admin", "namespace": "apps"}
    assert set(config["users"][0]["user"]) == {"client-certificate-data", "client-key-data"}
    shown = subprocess.run(
        [
            "kubectl",
            "--kubeconfig",
            tmp_path / "deep" / "config",
            "config",
            "view",
            "-o=jsonpath={.clusters[0].cluster.server}",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout == "https://127.0.0.1:6443"


def test_the_service_account_key_is_es256(tmp_path: Path) -> None:
    signing = pki.Pki(tmp_path).service_account_key()
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key = load_pem_private_key(signing.key, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert key.curve.name == "secp256r1"
    assert key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()) == signing.key
