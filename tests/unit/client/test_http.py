"""HttpTransport against a real server on loopback: decoding, watches, failures, retries, TLS."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from podling.api import core_v1, errors
from podling.api.meta_v1 import ObjectMeta
from podling.client import http
from podling.client.client import ApiClient, PartialObject
from podling.client.http import HttpTransport
from podling.client.kubeconfig import Config

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def served(handler: Handler, tls: ssl.SSLContext | None = None, **config: Any) -> AsyncIterator[ApiClient]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    port = runner.addresses[0][1]
    scheme = "https" if tls else "http"
    client = ApiClient(HttpTransport(Config(server=f"{scheme}://127.0.0.1:{port}", **config)), agent="test/1")
    try:
        yield client
    finally:
        await client.close()
        await runner.cleanup()


async def test_objects_travel_both_ways() -> None:
    seen: list[tuple[str, str, dict[str, str], bytes]] = []

    async def handler(request: web.Request) -> web.Response:
        body = await request.read()
        seen.append((request.method, request.path, dict(request.query), body))
        assert request.headers["user-agent"] == "test/1"
        if request.method in ("POST", "PUT"):
            return web.Response(body=body, content_type="application/json")
        return web.json_response({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "a", "resourceVersion": "7"}})

    async with served(handler) as client:
        pod = await client.get(core_v1.Pod, "a", "default")
        assert isinstance(pod, core_v1.Pod) and pod.metadata.resource_version == "7"
        made = await client.create(core_v1.Pod(metadata=ObjectMeta(name="b", namespace="x")), dry_run=True)
        assert made.metadata.name == "b"
        await client.update_status(made)
        await client.patch(core_v1.Pod, "b", "x", {"metadata": {"labels": {"a": "b"}}})
    assert [(m, p, q) for m, p, q, _ in seen] == [
        ("GET", "/api/v1/namespaces/default/pods/a", {}),
        ("POST", "/api/v1/namespaces/x/pods", {"dryRun": "All"}),
        ("PUT", "/api/v1/namespaces/x/pods/b/status", {}),
        ("PATCH", "/api/v1/namespaces/x/pods/b", {}),
    ]
    assert seen[3][3] == b'{"metadata":{"labels":{"a":"b"}}}'


async def test_lists_and_metadata_lists_are_decoded_into_their_class() -> None:
    async def handler(request: web.Request) -> web.Response:
        if "PartialObjectMetadataList" in request.headers["accept"]:
            items: list[Any] = [{"kind": "PartialObjectMetadata", "metadata": {"name": "m"}}]
        else:
            assert dict(request.query) == {"labelSelector": "a=b,c in (d, e)", "limit": "2"}
            items = [{"metadata": {"name": "a"}}, {"metadata": {"name": "b"}}]
        meta = {"resourceVersion": "9", "continue": "next", "remainingItemCount": 3}
        return web.json_response({"kind": "PodList", "metadata": meta, "items": items})

    async with served(handler) as client:
        result = await client.list(core_v1.Pod, label_selector="a=b,c in (d, e)", limit=2)
        assert [p.metadata.name for p in result.items] == ["a", "b"]
        assert (result.resource_version, result.continue_, result.remaining) == ("9", "next", 3)
        from podling.api import registry

        partial: Any = await client.list(registry.of(core_v1.Pod))  # type: ignore[arg-type]
        assert isinstance(partial.items[0], PartialObject) and partial.items[0].metadata.name == "m"


async def test_a_watch_is_framed_by_lines_however_the_bytes_come() -> None:
    lines = [
        b'{"type":"ADDED","object":{"kind":"Pod","metadata":{"name":"a"}}}\n',
        b'{"type":"MODIFIED","object":{"kind":"Pod","metadata":{"name":"' + b"b" * 300_000 + b'"}}}\n',
        b'{"type":"DELETED","object":{"metadata":{"name":"c"}}}\n',
        b'{"object":{"kind":"Status","status":"Failure","code":410,"reason":"Expired"},"type":"ERROR"}\n',
    ]

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        data = b"".join(lines)
        for cut in (data[:10], data[10:70], data[70:250_000], data[250_000:]):
            await response.write(cut)
            await asyncio.sleep(0)
        return response

    async with served(handler) as client:
        got = []
        with pytest.raises(errors.StatusError) as caught:
            async for event in client.watch(core_v1.Pod, resource_version="1"):
                got.append((event.type, (event.object.metadata.name or "")[:1]))
        assert errors.is_expired(caught.value)
        assert got == [("ADDED", "a"), ("MODIFIED", "b"), ("DELETED", "c")]


async def test_failures_are_the_servers_status_or_made_of_what_came() -> None:
    async def handler(request: web.Request) -> web.Response:
        if request.path.endswith("/html"):
            return web.Response(status=502, text="<html>bad gateway</html>")
        status = errors.not_found("pods", "", "nope").status
        from podling.api.struct import encode

        return web.Response(status=404, body=encode(status), content_type="application/json")

    async with served(handler) as client:
        with pytest.raises(errors.StatusError) as caught:
            await client.get(core_v1.Pod, "nope", "default")
        assert errors.is_not_found(caught.value) and str(caught.value) == 'pods "nope" not found'
        with pytest.raises(errors.StatusError) as caught:
            await client.get(core_v1.Pod, "html", "default")
        assert caught.value.code == 502 and "bad gateway" in str(caught.value)


@pytest.mark.parametrize(("header", "asked"), [("0", 3), (None, 1)])
async def test_only_what_the_server_asks_for_is_repeated(header: str | None, asked: int) -> None:
    count = 0

    async def handler(request: web.Request) -> web.Response:
        nonlocal count
        count += 1
        if count < 3:
            return web.Response(status=429, headers={"retry-after": header} if header else {}, text="slow down")
        return web.json_response({"metadata": {"name": "a"}})

    async with served(handler) as client:
        if header:
            assert (await client.get(core_v1.Node, "a")).metadata.name == "a"
        else:
            with pytest.raises(errors.StatusError):
                await client.get(core_v1.Node, "a")
    assert count == asked


async def test_no_server_is_said_as_unavailable() -> None:
    client = ApiClient(HttpTransport(Config(server="http://127.0.0.1:9")))
    with pytest.raises(errors.StatusError) as caught:
        await client.get(core_v1.Node, "a")
    assert caught.value.code == 503
    await client.close()


async def test_a_token_file_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        tokens.append(request.headers["authorization"])
        return web.json_response({"metadata": {"name": "a"}})

    path = tmp_path / "token"
    path.write_text("one\n")
    async with served(handler, token_file=str(path)) as client:
        await client.get(core_v1.Node, "a")
        path.write_text("two\n")
        await client.get(core_v1.Node, "a")
        monkeypatch.setattr(http, "TOKEN_TTL", 0.0)
        await client.get(core_v1.Node, "a")
    assert tokens == ["Bearer one", "Bearer one", "Bearer two"]


async def test_tls_with_a_client_certificate_and_an_own_ca() -> None:
    ca_cert, ca_key = _certificate("ca")
    cert, key = _certificate("127.0.0.1", ca_cert, ca_key)
    user_cert, user_key = _certificate("jane", ca_cert, ca_key)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    http.load_pair(server, cert, key)
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_verify_locations(cadata=ca_cert.decode())

    async def handler(request: web.Request) -> web.Response:
        assert request.transport is not None
        subject = request.transport.get_extra_info("peercert")["subject"]
        return web.json_response({"metadata": {"name": subject[0][0][1]}})

    async with served(handler, server, ca=ca_cert, cert=user_cert, key=user_key) as client:
        assert (await client.get(core_v1.Node, "x")).metadata.name == "jane"
    other_ca, _ = _certificate("ca")
    async with served(handler, server, ca=other_ca, cert=user_cert, key=user_key) as client:
        with pytest.raises(errors.StatusError, match="certificate verify failed"):
            await client.get(core_v1.Node, "x")


def _certificate(name: str, ca_pem: bytes = b"", ca_key_pem: bytes = b"") -> tuple[bytes, bytes]:
    """A key and its certificate, self-signed or by a CA."""
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    issuer = x509.load_pem_x509_certificate(ca_pem).subject if ca_pem else subject
    signer: Any = serialization.load_pem_private_key(ca_key_pem, None) if ca_key_pem else key
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=not ca_pem, path_length=None), critical=True)
    )
    if name == "127.0.0.1":
        address = x509.IPAddress(ipaddress.ip_address(name))
        builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
    certificate = builder.sign(signer, hashes.SHA256())
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.public_bytes(pem), private
