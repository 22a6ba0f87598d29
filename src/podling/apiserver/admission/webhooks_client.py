"""Calling a webhook: HTTPS to a URL or to a service's endpoints, with the CA that its configuration names.

Failures come as `CallFailure` in the words of upstream's client, which are part of the messages that users see.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import errno
import hashlib
import os
import socket
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from podling import log
from podling.api import core_v1

if TYPE_CHECKING:
    import aiohttp

    from podling.api.admissionregistration_v1 import WebhookClientConfig
    from podling.apiserver.admission.webhook_credentials import Credentials
    from podling.apiserver.core import Core
    from podling.client.kubeconfig import Config

LOG = log.get(__name__)

#: How often a call is made at most, as long as connections break that had been there.
ATTEMPTS = 4

#: What an answer may be at most, in bytes.
MAX_ANSWER = 16 * 1024 * 1024


class CallFailure(Exception):
    """There is no answer; the text is what comes after `failed to call webhook: `. `code` is that of the failure."""

    def __init__(self, text: str, code: int = 503) -> None:
        super().__init__(text)
        self.code = code


class NoPlace(Exception):
    """The service has no place to call."""


class Caller:
    """Calls webhooks, over kept connections. `close` when done."""

    def __init__(self, app: Core, credentials: Credentials | None = None) -> None:
        self._app = app
        self._credentials = credentials
        self._session: aiohttp.ClientSession | None = None
        self._contexts: dict[str, ssl.SSLContext] = {}

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def call(self, config: WebhookClientConfig, body: bytes, timeout: float) -> bytes:
        """The answer to a POST. Raises CallFailure."""
        url, name = address(config)
        shown = f'Post "{url}?timeout={_seconds(timeout)}"'
        known = self._credentials.of(url) if self._credentials is not None else None
        try:
            context = self._context(config.ca_bundle, known)
        except ValueError as error:
            raise CallFailure(f"unable to load root certificates: {error}") from None
        try:
            async with asyncio.timeout(timeout):
                return await self._post(f"{url}?timeout={_seconds(timeout)}", name, body, context, _token(known))
        except TimeoutError:
            raise CallFailure(f"{shown}: context deadline exceeded") from None
        except CallFailure:
            raise
        except (OSError, NoPlace) as error:
            raise CallFailure(f"{shown}: {explain(error)}") from error
        except Exception as error:
            import aiohttp

            if not isinstance(error, aiohttp.ClientError):
                raise
            raise CallFailure(f"{shown}: {explain(error)}") from error

    async def _post(self, url: str, name: str, body: bytes, context: ssl.SSLContext, token: str) -> bytes:
        import aiohttp

        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "User-Agent": "kube-apiserver-admission",
        }
        if token:
            headers["Authorization"] = f"Bearer {token}"
        for left in reversed(range(ATTEMPTS)):
            try:
                async with self._client().post(
                    url, data=body, headers=headers, ssl=context, server_hostname=name or None, allow_redirects=False
                ) as answer:
                    data = await answer.content.read(MAX_ANSWER + 1)
                    while not answer.content.at_eof() and len(data) <= MAX_ANSWER:
                        data += await answer.content.read(MAX_ANSWER + 1 - len(data))
                    if len(data) > MAX_ANSWER:
                        raise CallFailure("the response body is too large")
                    if not 200 <= answer.status < 300:
                        raise CallFailure(refused(answer.status, data), answer.status)
                    return data
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, ConnectionError) as error:
                # A kept connection may have broken since it was last used, and so may others that were kept with it.
                if not left or not broken(error):
                    raise
        raise AssertionError("unreachable")

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            import aiohttp

            connector = aiohttp.TCPConnector(resolver=_resolver(self._places), use_dns_cache=False, limit=0)
            self._session = aiohttp.ClientSession(
                connector=connector, timeout=aiohttp.ClientTimeout(total=None), auto_decompress=True, trust_env=False
            )
        return self._session

    def _context(self, bundle: str | None, known: Config | None) -> ssl.SSLContext:
        """TLS that trusts the bundle, or what the system trusts, with the certificate that the server is to see."""
        certificate = known.cert if known is not None else b""
        key = hashlib.sha256((bundle or "").encode() + certificate).hexdigest()
        context = self._contexts.get(key)
        if context is None:
            context = ssl.create_default_context()
            if bundle:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                try:
                    context.load_verify_locations(cadata=base64.b64decode(bundle).decode())
                except (ssl.SSLError, binascii.Error, UnicodeDecodeError) as error:
                    raise ValueError(str(error)) from None
            if known is not None and known.cert and known.key:
                from podling.client.http import load_pair

                load_pair(context, known.cert, known.key)
            if len(self._contexts) > 256:
                self._contexts.clear()
            self._contexts[key] = context
        return context

    def _places(self, host: str, port: int) -> list[tuple[str, int]] | None:
        """Addresses of the ready endpoints behind `<service>.<namespace>.svc`; None if it is no such name.

        NoPlace if there are none.
        """
        parts = host.split(".")
        if len(parts) != 3 or parts[2] != "svc":
            return None
        name, namespace = parts[0], parts[1]
        service: core_v1.Service | None = self._app.cached("", "services", f"{namespace}/{name}")
        if service is None or service.spec is None:
            raise NoPlace(f'service "{name}" not found')
        if service.spec.type == "ExternalName":
            return [(service.spec.external_name or "", port)]
        wanted = next((p for p in service.spec.ports or [] if p.port == port), None)
        if wanted is None:
            raise NoPlace(f'no service port {port} found for service "{name}"')
        places = self._endpoints(namespace, name, wanted.name or "")
        if not places:
            raise NoPlace(f'no endpoints available for service "{name}"')
        return places

    def _endpoints(self, namespace: str, name: str, port_name: str) -> list[tuple[str, int]]:
        from podling.apiserver.handlers.proxy import ready_places

        served = self._app.lookup("discovery.k8s.io", "endpointslices")
        slices = [e.object for e in served.cache.in_namespace(namespace)] if served is not None else []
        mine = (s for s in slices if (s.metadata.labels or {}).get("kubernetes.io/service-name") == name)
        return [place for piece in mine for place in ready_places(piece, port_name)]


def _resolver(places: Callable[[str, int], list[tuple[str, int]] | None]) -> Any:
    """Finds the addresses of services in the cache, and of other names as the system does."""
    from aiohttp.abc import AbstractResolver
    from aiohttp.resolver import ThreadedResolver

    class Resolver(AbstractResolver):
        _turn = 0

        def __init__(self) -> None:
            self._system: Any = None

        async def resolve(self, host: str, port: int = 0, family: Any = socket.AF_INET) -> Any:
            found = places(host, port)
            if found is None:
                if self._system is None:
                    self._system = ThreadedResolver()
                return await self._system.resolve(host, port, family)
            self._turn += 1
            turn = self._turn % len(found)
            return [_place(host, ip, number) for ip, number in found[turn:] + found[:turn]]

        async def close(self) -> None:
            if self._system is not None:
                await self._system.close()

    return Resolver()


def _place(host: str, ip: str, port: int) -> dict[str, Any]:
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    return {"hostname": host, "host": ip, "port": port, "family": family, "proto": 0, "flags": socket.AI_NUMERICHOST}


def address(config: WebhookClientConfig) -> tuple[str, str]:
    """The URL to call, and the name that the server's certificate must be for."""
    service = config.service
    if service is not None:
        name = f"{service.name}.{service.namespace}.svc"
        path = service.path or ""
        return f"https://{name}:{service.port or 443}/{path.lstrip('/')}".rstrip("/"), name
    url = config.url or ""
    return url, urlsplit(url).hostname or ""


def _token(known: Config | None) -> str:
    """The bearer token for a webhook. Raises CallFailure."""
    if known is None or not known.token_file:
        return known.token if known is not None else ""
    try:
        with open(known.token_file) as file:
            return file.read().strip()
    except OSError as error:
        raise CallFailure(f"{known.token_file} can't be read: {error.strerror}") from None


def _seconds(timeout: float) -> str:
    return f"{max(1, round(timeout))}s"


def broken(error: BaseException) -> bool:
    """Whether a connection ended that had been there. One that could not be made is something else."""
    if type(error).__name__ == "ServerDisconnectedError":
        return True
    return not hasattr(error, "os_error") and getattr(error, "errno", None) in (errno.ECONNRESET, errno.EPIPE)


def explain(error: BaseException) -> str:
    """An error of the connection as Go's client words it."""
    if isinstance(error, NoPlace):
        return str(error)
    cause: BaseException = getattr(error, "os_error", None) or error
    certificate = getattr(error, "certificate_error", None) or cause
    host, port = getattr(error, "host", None), getattr(error, "port", None)
    where = f"dial tcp {host}:{port}: connect: " if host else "read: "
    if isinstance(certificate, ssl.SSLCertVerificationError):
        return f"tls: failed to verify certificate: x509: {_certificate(certificate)}"
    if isinstance(cause, ssl.SSLError):
        return f"remote error: tls: {cause.reason or cause}"
    if isinstance(cause, socket.gaierror):
        return f"dial tcp: lookup {host}: no such host"
    if type(error).__name__ == "ServerDisconnectedError":
        return "EOF"
    if number := getattr(cause, "errno", None):
        return f"{where}{os.strerror(number).lower()}"
    return str(cause)


def _certificate(error: ssl.SSLCertVerificationError) -> str:
    text = error.verify_message or str(error)
    if "self-signed" in text or "self signed" in text or "unable to get" in text:
        return "certificate signed by unknown authority"
    if "expired" in text:
        return "certificate has expired or is not yet valid"
    if "mismatch" in text or "not valid for" in text:
        return f"certificate is not valid for the requested name: {text}"
    return text


def refused(status: int, body: bytes) -> str:
    """What the client says about an answer that is no success."""
    text = body.decode("utf-8", "replace").strip()
    if status == 404:
        return "the server could not find the requested resource"
    if status == 401:
        return "the server has asked for the client to provide credentials"
    if status == 403:
        return text or "unknown"
    if status >= 500:
        return f'an error on the server ("{text or "unknown"}") has prevented the request from succeeding'
    if status == 400:
        return "the server rejected our request for an unknown reason"
    return f"the server responded with the status code {status} but did not return more information"
