"""A whole control plane behind TLS on loopback, with an authority of its own, and clients of every kind of credential.

Time is the machine's here: controllers fill accounts, secrets and ConfigMaps while a test waits for them.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from functools import wraps
from inspect import signature
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp

from podling.apiserver.options import Options
from podling.apiserver.server import HttpServer, tls_context
from podling.cluster.config import ClusterConfig
from podling.cluster.control_plane import ControlPlane
from podling.cluster.pki import Pki
from podling.store.memory import MemoryStore

ISSUER = "https://kubernetes.default.svc.cluster.local"
MERGE = {"content-type": "application/merge-patch+json"}

Headers = dict[str, str] | list[tuple[str, str]]


class Authority:
    """`admin` asks as a member of system:masters."""

    def __init__(self, plane: ControlPlane, pki: Pki, url: str, session: aiohttp.ClientSession) -> None:
        self.plane = plane
        self.pki = pki
        self.url = url
        self._session = session

    def context(self, user: str, *groups: str) -> ssl.SSLContext:
        """TLS with a client certificate of the cluster's authority; without a user, without one."""
        context = ssl.create_default_context(cafile=str(self.pki.path("ca.crt")))
        if user:
            pair = self.pki.client(user.replace(":", "-").replace("/", "-"), user, groups)
            context.load_cert_chain(pair.certificate_path, pair.key_path)
        return context

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        user: str = "admin",
        groups: Iterable[str] = ("system:masters",),
        token: str = "",
        headers: Headers = (),  # type: ignore[assignment]
        tls: ssl.SSLContext | None = None,
    ) -> tuple[int, Any]:
        """Status and body (JSON, if it is). A token is sent without a certificate."""
        sent = [*(headers.items() if isinstance(headers, dict) else headers)]
        if token:
            sent.append(("Authorization", f"Bearer {token}"))
        if body is not None and not any(k.lower() == "content-type" for k, _ in sent):
            sent.append(("Content-Type", "application/json"))
        context = tls or (self.context("") if token or not user else self.context(user, *groups))
        data = None if body is None else json.dumps(body).encode()
        async with self._session.request(method, self.url + path, data=data, headers=sent, ssl=context) as answer:
            text = await answer.read()
            return answer.status, json.loads(text) if "json" in answer.content_type else text

    async def must(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        """The body of an answer that has to be a success."""
        status, found = await self.ask(method, path, body, **more)
        assert status < 300, (method, path, status, found)
        return found

    async def until(self, path: str, done: Callable[[Any], Any], **more: Any) -> Any:
        """An object, as soon as it is as `done` wants it."""
        status, found = 0, None
        for _ in range(100):
            status, found = await self.ask("GET", path, **more)
            if status == 200 and done(found):
                return found
            await asyncio.sleep(0.05)
        raise AssertionError(f"{path} is not so after 5 s; it is {status} {found}")

    async def token(self, account: str = "default", namespace: str = "default", **spec: Any) -> Any:
        """The status of a TokenRequest."""
        await self.until(f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}", lambda _: True)
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        return (await self.must("POST", path, body))["status"]

    async def review(self, token: str, *audiences: str) -> Any:
        """The status of a TokenReview."""
        spec = {"token": token, **({"audiences": list(audiences)} if audiences else {})}
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec}
        return (await self.must("POST", "/apis/authentication.k8s.io/v1/tokenreviews", body))["status"]


@asynccontextmanager
async def running(options: Options | None = None) -> AsyncIterator[Authority]:
    with TemporaryDirectory() as folder:
        pki = Pki(Path(folder) / "pki")
        pki.service_account_key()
        config = ClusterConfig(name="node", simulate=True, kube_apiserver=options or Options())
        plane = ControlPlane(config, MemoryStore(), pki)
        pair = pki.serving("apiserver", "kube-apiserver", ips=["127.0.0.1"])
        tls = tls_context(str(pair.certificate_path), str(pair.key_path), str(pki.path("ca.crt")))
        if options is not None and options.requestheader_client_ca_file:
            tls.load_verify_locations(options.requestheader_client_ca_file)
        server = HttpServer(plane.app)
        await plane.start()
        port = await server.start(tls=tls)
        # Every request has a connection of its own: what one has shown of itself must not serve another.
        connector = aiohttp.TCPConnector(force_close=True)
        async with aiohttp.ClientSession(connector=connector) as session:
            try:
                yield Authority(plane, pki, f"https://127.0.0.1:{port}", session)
            finally:
                await server.close()
                await plane.close()


def authority(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """A test of a running control plane; it may be parametrized."""

    @wraps(test)
    def run(**arguments: Any) -> None:
        async def main() -> None:
            async with running() as made:
                await test(made, **arguments)

        asyncio.run(main())

    found = signature(test)
    kept = [p for p in found.parameters.values() if p.name != "cluster"]
    run.__signature__ = found.replace(parameters=kept)  # type: ignore[attr-defined]
    del run.__wrapped__  # type: ignore[attr-defined]
    return run
