"""A webhook on loopback: an HTTPS server that answers AdmissionReviews as a test says."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Answer = Callable[[dict[str, Any]], Any]

#: The name of the service that tests put in front of a webhook.
SERVICE = "hook.default.svc"


@cache
def certificate() -> tuple[bytes, bytes]:
    """A self-signed certificate for the service and for loopback, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hook")])
    start = datetime(2020, 1, 1, tzinfo=UTC)
    names = x509.SubjectAlternativeName([x509.DNSName(SERVICE), x509.IPAddress(ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=36500))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return made.public_bytes(serialization.Encoding.PEM), private


def ca_bundle() -> str:
    return base64.b64encode(certificate()[0]).decode()


class Hook:
    """`requests` are those that came in; `paths` where to. `answers` may be given for single paths."""

    def __init__(self, port: int, answers: dict[str, Answer]) -> None:
        self.port = port
        self.requests: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.queries: list[str] = []
        self.answers = answers

    def config(self, path: str = "/", *, ca: str | None = None) -> dict[str, Any]:
        """As a clientConfig."""
        url = f"https://127.0.0.1:{self.port}{path}"
        return {"url": url, "caBundle": ca_bundle() if ca is None else ca} if ca != "" else {"url": url}


@asynccontextmanager
async def serving(**answers: Answer) -> AsyncIterator[Hook]:
    """A webhook whose answer to /name is `answers[name](review)`: a response, or a whole HTTP response."""
    hook: Hook

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        review = await request.json()
        hook.requests.append(review["request"])
        hook.paths.append(request.path)
        hook.queries.append(request.query_string)
        made = hook.answers[request.path.strip("/")](review)
        if isinstance(made, Awaitable):
            made = await made
        if isinstance(made, web.Response):
            return made
        body = {
            "kind": "AdmissionReview", "apiVersion": review["apiVersion"],
            "response": {"uid": review["request"]["uid"], **made},
        }  # fmt: skip
        return web.json_response(body)

    server = web.Server(handle)
    loop = asyncio.get_running_loop()
    with TemporaryDirectory() as folder:
        pem = Path(folder, "pem")
        pem.write_bytes(b"".join(certificate()))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
    listener = await loop.create_server(server, "127.0.0.1", 0, ssl=context)
    hook = Hook(listener.sockets[0].getsockname()[1], answers)
    try:
        yield hook
    finally:
        listener.close()
        await server.shutdown(0.1)


def allow(review: dict[str, Any]) -> dict[str, Any]:
    return {"allowed": True}


def patch(*operations: dict[str, Any], **more: Any) -> Answer:
    encoded = base64.b64encode(json.dumps(operations).encode()).decode()
    return lambda review: {"allowed": True, "patchType": "JSONPatch", "patch": encoded, **more}


def deny(message: str = "", **status: Any) -> Answer:
    found = {**({"message": message} if message else {}), **status}
    return lambda review: {"allowed": False, **({"status": found} if found else {})}
