"""The pull side of the OCI distribution protocol over aiohttp.

`Registries` lives as long as the process (connections, tokens); `Repository` is one image's repository with its
mirrors and credentials. Failures are PullFailed in containerd's words, because they end up in events that people know.
Nothing is believed that does not match its digest.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import ssl as _ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from podling.images import manifest
from podling.images.base import Credentials, PullFailed
from podling.images.manifest import Descriptor
from podling.images.reference import Reference
from podling.images.registry_auth import authorize, denied, parse_challenges
from podling.images.registry_config import Endpoint, RegistryConfig

if TYPE_CHECKING:
    import aiohttp

_ACCEPT = ", ".join((*manifest.INDEXES, *manifest.MANIFESTS, "*/*"))
_CHUNK = 1 << 20
_MANIFEST_LIMIT = 4 << 20
_ATTEMPTS = 5
_FIRST_DELAY = 0.2
_RETRIED = frozenset({408, 429, 500, 502, 503, 504})

#: Told how many bytes more have come in (less than zero: a part had to be begun again).
Received = Callable[[int], None]


class Registries:
    """Connections and tokens, shared by all pulls."""

    def __init__(self, config: RegistryConfig | None = None) -> None:
        self.config = config or RegistryConfig()
        self.authorizations: dict[tuple[str, str, Credentials], str] = {}
        self._session: aiohttp.ClientSession | None = None
        self._contexts: dict[Endpoint, Any] = {}

    def session(self) -> aiohttp.ClientSession:
        if self._session is None:
            import aiohttp

            timeout = aiohttp.ClientTimeout(total=None, connect=30, sock_read=60)
            self._session = aiohttp.ClientSession(
                timeout=timeout, headers={"User-Agent": "podling"}, auto_decompress=False
            )
        return self._session

    def ssl(self, endpoint: Endpoint) -> Any:
        """What aiohttp wants as `ssl`."""
        if endpoint.skip_verify:
            return False
        if not endpoint.ca:
            return True
        context = self._contexts.get(endpoint)
        if context is None:
            context = self._contexts[endpoint] = _ssl.create_default_context()
            for file in endpoint.ca:
                context.load_verify_locations(cafile=file)
        return context

    def repository(self, reference: Reference, credentials: tuple[Credentials, ...] = ()) -> Repository:
        return Repository(self, reference, credentials)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None


class _Refused(PullFailed):
    """An endpoint answered with a status that is none of ours; `status` decides whether it is worth another try."""

    def __init__(self, message: str, status: int, retry_after: float = 0.0) -> None:
        super().__init__(message, "NotFound" if status == 404 else "Unknown")
        self.status = status
        self.retry_after = retry_after


class _Unreachable(PullFailed):
    """No connection, or one that broke."""


class Repository:
    """What one pull asks of a registry. Remembers the endpoint and the credentials that worked."""

    def __init__(self, registries: Registries, reference: Reference, credentials: tuple[Credentials, ...]) -> None:
        self._registries = registries
        self._reference = reference
        self._credentials = credentials or (Credentials(),)
        self._endpoints = registries.config.endpoints(reference.domain)

    async def resolve(self) -> Descriptor:
        """The digest behind the reference, by HEAD: registries that meter pulls do not count it."""
        what = f'failed to resolve reference "{self._reference}"'
        try:
            async with self._open("HEAD", f"manifests/{self._reference.identifier}", resolving=True) as response:
                digest = response.headers.get("Docker-Content-Digest", "")
                size = int(response.headers.get("Content-Length") or 0)
                kind = response.headers.get("Content-Type", "").partition(";")[0]
            if digest and not self._reference.digest:
                return Descriptor(media_type=kind, digest=digest, size=size)
            if self._reference.digest:
                return Descriptor(media_type=kind, digest=self._reference.digest, size=size)
            data, kind = await self._read(f"manifests/{self._reference.identifier}", resolving=True)
            return Descriptor(media_type=kind, digest=manifest.digest_of(data), size=len(data))
        except _Refused as error:
            if error.status == 404:
                raise PullFailed(f"{what}: {self._reference}: not found", "NotFound") from None
            raise PullFailed(f"{what}: {error}", error.code) from None
        except PullFailed as error:
            raise PullFailed(f"{what}: {error}", error.code) from None

    async def manifest(self, descriptor: Descriptor) -> tuple[bytes, str]:
        """The manifest or index with that digest, and its media type."""
        return await self._small(f"manifests/{descriptor.digest}", descriptor)

    async def config(self, descriptor: Descriptor) -> bytes:
        """A blob that is small enough for memory."""
        return (await self._small(f"blobs/{descriptor.digest}", descriptor))[0]

    async def blob(self, descriptor: Descriptor, path: str, received: Received | None = None) -> None:
        """Fetch a blob into the file `path`, going on where an earlier attempt ended. Verified when this returns."""
        progress = _Progress(received)
        delay = _FIRST_DELAY
        for attempt in range(1, _ATTEMPTS + 1):
            before = progress.done
            try:
                await self._blob_once(descriptor, path, progress)
                return
            except _Refused as error:
                if attempt == _ATTEMPTS or error.status not in _RETRIED:
                    raise PullFailed(f"failed to copy: httpReadSeeker: failed open: {error}", error.code) from None
                delay = max(delay, error.retry_after)
            except _Unreachable as error:
                if attempt == _ATTEMPTS and progress.done <= before:
                    raise PullFailed(f"failed to copy: {error}", error.code) from None
            await asyncio.sleep(delay)
            delay = min(delay * 2, 10.0)
        raise PullFailed(f"failed to copy: the connection broke {_ATTEMPTS} times")

    async def _blob_once(self, descriptor: Descriptor, path: str, progress: _Progress) -> None:
        hasher, have = await asyncio.to_thread(_hash_file, path, descriptor.size)
        if have == descriptor.size and have and f"sha256:{hasher.hexdigest()}" == descriptor.digest:
            progress.reached(have)
            return
        if have >= descriptor.size > 0:
            have = 0
        headers = {"Range": f"bytes={have}-"} if have else {}
        async with self._open("GET", f"blobs/{descriptor.digest}", headers=headers) as response:
            if response.status != 206:
                hasher, have = hashlib.sha256(), 0
            with open(path, "r+b" if have else "wb") as file:
                file.seek(have)
                file.truncate()
                progress.reached(have)
                async for chunk in _chunks(response):
                    await asyncio.to_thread(_absorb, file, hasher, chunk)
                    have += len(chunk)
                    progress.reached(have)
        if have < descriptor.size:
            raise _Unreachable(f"unexpected EOF after {have} of {descriptor.size} bytes of {descriptor.digest}")
        actual = f"sha256:{hasher.hexdigest()}"
        if actual != descriptor.digest:
            os.unlink(path)
            raise PullFailed(
                f'failed to copy: failed commit on ref "layer-{descriptor.digest}": '
                f"unexpected commit digest {actual}, expected {descriptor.digest}: failed precondition"
            )

    async def _small(self, path: str, descriptor: Descriptor) -> tuple[bytes, str]:
        delay = _FIRST_DELAY
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                data, kind = await self._read(path)
                break
            except (_Unreachable, _Refused) as error:
                if attempt == _ATTEMPTS or (isinstance(error, _Refused) and error.status not in _RETRIED):
                    if isinstance(error, _Refused) and error.status == 404:
                        error = PullFailed(f"{descriptor.digest}: not found", "NotFound")  # type: ignore[assignment]
                    raise PullFailed(f"failed to copy: httpReadSeeker: failed open: {error}", error.code) from None
            await asyncio.sleep(delay)
            delay *= 2
        actual = manifest.digest_of(data)
        if actual != descriptor.digest:
            raise PullFailed(
                f"failed to copy: unexpected commit digest {actual}, expected {descriptor.digest}: failed precondition"
            )
        return data, kind

    async def _read(self, path: str, *, resolving: bool = False) -> tuple[bytes, str]:
        async with self._open("GET", path, resolving=resolving) as response:
            parts, size = [], 0
            async for chunk in _chunks(response):
                parts.append(chunk)
                size += len(chunk)
                if size > _MANIFEST_LIMIT:
                    raise PullFailed(f"{response.url}: more than {_MANIFEST_LIMIT} bytes where a manifest should be")
            return b"".join(parts), response.headers.get("Content-Type", "").partition(";")[0]

    @asynccontextmanager
    async def _open(
        self, method: str, path: str, *, headers: dict[str, str] | None = None, resolving: bool = False
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The response of the first endpoint that gives one with a status below 400; the last failure otherwise."""
        failure: PullFailed = PullFailed(f"no endpoint is configured for {self._reference.domain}")
        for endpoint in self._endpoints:
            if resolving and not endpoint.resolve:
                continue
            try:
                response = await self._ask(endpoint, method, path, headers or {})
            except PullFailed as error:
                failure = error
                if endpoint.mirror or (endpoint.plain_guess and _speaks_tls(error)):
                    continue
                break
            try:
                yield response
            finally:
                response.close()
            return
        raise failure

    async def _ask(self, endpoint: Endpoint, method: str, path: str, headers: dict[str, str]) -> aiohttp.ClientResponse:
        url = f"{endpoint.url}{endpoint.base}/{self._reference.path}/{path}"
        params = (
            {"ns": self._reference.domain}
            if endpoint.mirror and not endpoint.url.endswith(f"//{self._reference.domain}")
            else {}
        )
        failure: PullFailed | None = None
        for credentials in self._credentials:
            try:
                response = await self._authorized(endpoint, method, url, params, headers, credentials)
            except _Refused as error:
                if error.status not in (401, 403):
                    raise
                failure = error
            except _Unreachable:
                raise
            except PullFailed as error:
                failure = error
            else:
                # What worked is tried first from now on.
                self._credentials = (credentials, *(c for c in self._credentials if c != credentials))
                return response
        assert failure is not None
        raise failure

    async def _authorized(
        self,
        endpoint: Endpoint,
        method: str,
        url: str,
        params: dict[str, str],
        headers: dict[str, str],
        credentials: Credentials,
    ) -> aiohttp.ClientResponse:
        key = (endpoint.url, self._reference.path, credentials)
        known = self._registries.authorizations
        for _ in range(2):
            sent = {"Accept": _ACCEPT, **dict(endpoint.headers), **headers}
            if key in known:
                sent["Authorization"] = known[key]
            response = await self._send(endpoint, method, url, params, sent)
            if response.status != 401:
                return await _checked(response, method)
            challenges = parse_challenges(response.headers.getall("WWW-Authenticate", []))
            stale = known.pop(key, None)
            if stale is not None and stale.startswith("Basic "):
                return await _checked(response, method)
            if stale is not None and any(c.parameters.get("error") == "insufficient_scope" for c in challenges):
                response.close()
                raise denied("server message: insufficient_scope: authorization failed")
            response.close()
            known[key] = await authorize(
                self._registries.session(),
                challenges,
                credentials,
                f"repository:{self._reference.path}:pull",
                self._registries.ssl(endpoint),
            )
        sent["Authorization"] = known[key]
        return await _checked(await self._send(endpoint, method, url, params, sent), method)

    async def _send(
        self, endpoint: Endpoint, method: str, url: str, params: dict[str, str], headers: dict[str, str]
    ) -> aiohttp.ClientResponse:
        import aiohttp

        try:
            return await self._registries.session().request(
                method,
                url,
                params=params,
                headers=headers,
                ssl=self._registries.ssl(endpoint),
                allow_redirects=True,
            )
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            verb = method.capitalize()
            raise _Unreachable(
                f'failed to do request: {verb} "{url}": {_network_words(error)}', "Unavailable"
            ) from None


def _speaks_tls(error: PullFailed) -> bool:
    """Whether what answered plain http so was a TLS server."""
    if isinstance(error, _Refused):
        return error.status == 400 and "HTTPS" in str(error)
    return isinstance(error, _Unreachable) and not str(error).endswith("refused")


class _Progress:
    """Turns "so many bytes of this blob" into steps."""

    def __init__(self, received: Received | None) -> None:
        self._received = received
        self.done = 0

    def reached(self, done: int) -> None:
        if self._received is not None and done != self.done:
            self._received(done - self.done)
        self.done = done


async def _checked(response: aiohttp.ClientResponse, method: str) -> aiohttp.ClientResponse:
    """The response if its status is below 400, else _Refused with the registry's own message."""
    if response.status < 400:
        return response
    message = ""
    try:
        body = (await response.content.read(64 << 10)).decode("utf-8", "replace").strip()
        message = _server_message(body)
    except Exception:
        message = ""
    finally:
        response.close()
    text = f"unexpected status from {method} request to {response.url}: {response.status} {response.reason}"
    try:
        after = min(float(response.headers.get("Retry-After", "0")), 30.0)
    except ValueError:
        after = 0.0
    raise _Refused(f"{text} - Server message: {message}" if message else text, response.status, after)


def _server_message(body: str) -> str:
    import msgspec

    try:
        errors = msgspec.json.decode(body).get("errors") or []
        return "; ".join(f"{e.get('code', '').lower()}: {e.get('message', '')}" for e in errors)
    except (msgspec.DecodeError, AttributeError, TypeError):
        return body.splitlines()[0][:200] if body else ""


async def _chunks(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    import aiohttp

    buffer = bytearray()
    try:
        async for part in response.content.iter_any():
            buffer += part
            if len(buffer) >= _CHUNK:
                yield bytes(buffer)
                buffer.clear()
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        if buffer:
            yield bytes(buffer)
        raise _Unreachable(f"{response.url}: {_network_words(error)}", "Unavailable") from None
    if buffer:
        yield bytes(buffer)


def _absorb(file: Any, hasher: Any, chunk: bytes) -> None:
    hasher.update(chunk)
    file.write(chunk)


def _hash_file(path: str, limit: int) -> tuple[Any, int]:
    """The hash of what an earlier attempt left, and how much that is; a file that is too long counts as nothing."""
    hasher, size = hashlib.sha256(), 0
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size <= limit:
                while chunk := file.read(_CHUNK):
                    hasher.update(chunk)
                    size += len(chunk)
    except FileNotFoundError:
        pass
    return hasher, size


def _network_words(error: BaseException) -> str:
    """A connection failure as Go's net package says it: those words are in everybody's runbooks."""
    import aiohttp

    if isinstance(error, TimeoutError):
        return "dial tcp: i/o timeout"
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError):
        return _tls_words(error)
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"dial tcp: lookup {error.host}: no such host"
    if isinstance(error, aiohttp.ClientConnectorError):
        where = f"dial tcp {error.host}:{error.port}"
        if error.os_error.errno == errno.ECONNREFUSED:
            return f"{where}: connect: connection refused"
        return f"{where}: connect: {(error.os_error.strerror or str(error)).lower()}"
    if isinstance(error, aiohttp.ServerDisconnectedError | ConnectionResetError):
        return "EOF"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "unexpected EOF"
    return str(error) or type(error).__name__


def _tls_words(error: BaseException) -> str:
    text = str(error)
    if "WRONG_VERSION_NUMBER" in text or "HTTP_REQUEST" in text or "record layer failure" in text.lower():
        return "http: server gave HTTP response to HTTPS client"
    if "CERTIFICATE_VERIFY_FAILED" in text:
        reason = "certificate signed by unknown authority"
        if "expired" in text:
            reason = "certificate has expired or is not yet valid"
        elif "Hostname mismatch" in text or "IP address mismatch" in text:
            reason = "certificate is not valid for the requested name"
        return f"tls: failed to verify certificate: x509: {reason}"
    return f"tls: {text}"
