"""An OpenID provider and a webhook of reviews on loopback, over TLS."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from apiserver.admission.hooks import certificate
from podling import clock

Answer = Callable[[web.BaseRequest, bytes], Any]


@asynccontextmanager
async def listening(answer: Answer) -> AsyncIterator[str]:
    """`https://127.0.0.1:PORT`, where requests are answered with what `answer` gives: a response, or JSON."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        made = answer(request, await request.read())
        return made if isinstance(made, web.StreamResponse) else web.json_response(made)

    server = web.Server(handle)
    with TemporaryDirectory() as folder:
        pem = Path(folder, "pem")
        pem.write_bytes(b"".join(certificate()))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
    listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0, ssl=context)
    try:
        yield f"https://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    finally:
        listener.close()
        await server.shutdown(0.1)


def ca() -> str:
    return certificate()[0].decode()


RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())


def jwk(key: Any, key_id: str, **more: Any) -> dict[str, Any]:
    kind: Any = RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else ECAlgorithm
    return {**json.loads(kind.to_jwk(key.public_key())), "kid": key_id, "use": "sig", **more}


class Provider:
    """`keys` are what it publishes; `paths` what was asked for."""

    def __init__(self) -> None:
        self.url = ""
        self.keys: list[dict[str, Any]] = [jwk(RSA_KEY, "rsa"), jwk(EC_KEY, "ec")]
        self.paths: list[str] = []
        self.issuer: str | None = None
        self.up = True
        #: What is answered at other paths, to whom.
        self.texts: dict[str, str] = {}
        self.tokens: list[str] = []

    def answer(self, request: web.BaseRequest, body: bytes) -> Any:
        self.paths.append(request.path)
        if not self.up:
            return web.Response(status=503)
        if request.path in self.texts:
            self.tokens.append(request.headers.get("Authorization", ""))
            return web.Response(text=self.texts[request.path])
        if request.path.endswith("/.well-known/openid-configuration"):
            return {"issuer": self.issuer or self.url, "jwks_uri": f"{self.url}/keys"}
        return {"keys": self.keys}

    def token(self, key: Any = RSA_KEY, algorithm: str = "RS256", headers: Any = None, **claims: Any) -> str:
        """A token that is good for the audience `podling` and an hour, unless something else is said."""
        now = int(clock.now().timestamp())
        said = {"iss": self.url, "aud": "podling", "exp": now + 3600, "iat": now, "sub": "bob", **claims}
        said = {k: v for k, v in said.items() if v is not None}
        return jwt.encode(said, key, algorithm, headers={"kid": "rsa", **(headers or {})})


@asynccontextmanager
async def provider() -> AsyncIterator[Provider]:
    made = Provider()
    async with listening(made.answer) as url:
        made.url = url
        yield made
