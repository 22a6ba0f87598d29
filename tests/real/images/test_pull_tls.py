"""Registries behind TLS: known authorities, unknown ones, and servers that speak something else."""

import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from podling.images.base import PullFailed
from podling.images.registry_config import RegistryConfig
from podling.images.store import ImageStore
from tests.real.images.fake_registry import FakeRegistry, serving
from tests.real.images.making import simple

pytestmark = pytest.mark.real


def _certificate(folder: Path, address: str, days: int = 10) -> Path:
    """A self-signed certificate for an address, and its key beside it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "registry")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=20))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return folder / "cert.pem"


def _server(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    return context


def _store(tmp_path: Path, address: str, settings: str) -> ImageStore:
    folder = tmp_path / "certs.d" / address
    folder.mkdir(parents=True)
    (folder / "hosts.toml").write_text(f'server = "https://{address}"\n{settings}')
    return ImageStore(tmp_path / "store", registries=RegistryConfig(tmp_path / "certs.d"))


@pytest.mark.parametrize("settings", ['ca = "../../cert.pem"\n', "skip_verify = true\n"])
async def test_a_configured_authority(tmp_path: Path, settings: str) -> None:
    fake, image = FakeRegistry(), simple()
    fake.add("app:1", image)
    async with serving(fake, _server(_certificate(tmp_path, "127.0.0.1"))) as address:
        store = _store(tmp_path, address, settings)
        assert (await store.pull(f"{address}/app:1")).id == image.id
        await store.close()


@pytest.mark.parametrize(
    ("name", "days", "settings", "words"),
    [
        ("127.0.0.1", 10, "", "certificate signed by unknown authority"),
        ("127.0.0.1", -5, 'ca = "../../cert.pem"\n', "certificate has expired or is not yet valid"),
        ("127.0.0.2", 10, 'ca = "../../cert.pem"\n', "certificate is not valid for the requested name"),
    ],
)
async def test_certificates_that_do_not_do(tmp_path: Path, name: str, days: int, settings: str, words: str) -> None:
    async with serving(FakeRegistry(), _server(_certificate(tmp_path, name, days))) as address:
        store = _store(tmp_path, address, settings)
        with pytest.raises(PullFailed) as caught:
            await store.pull(f"{address}/app:1")
        await store.close()
    assert str(caught.value).endswith(f"tls: failed to verify certificate: x509: {words}")


async def test_plain_http_where_tls_is_expected(tmp_path: Path) -> None:
    async with serving(FakeRegistry()) as address:
        store = _store(tmp_path, address, "")
        with pytest.raises(PullFailed, match="http: server gave HTTP response to HTTPS client"):
            await store.pull(f"{address}/app:1")
        await store.close()


async def test_loopback_is_tried_with_tls_after_plain_http(tmp_path: Path) -> None:
    async with serving(FakeRegistry(), _server(_certificate(tmp_path, "127.0.0.1"))) as address:
        store = ImageStore(tmp_path / "store")
        with pytest.raises(PullFailed, match="certificate signed by unknown authority"):
            await store.pull(f"{address}/app:1")
        await store.close()
