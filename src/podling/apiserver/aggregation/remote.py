"""One group version that another API server serves: where that server is, and a connection to it.

The server is reached by the endpoints of a Service, over TLS with the CA that its APIService names. This server shows
the front proxy's certificate, and says in headers for whom it asks: that certificate is what makes them believed.
"""

from __future__ import annotations

import base64
import binascii
import random
import ssl
from collections.abc import AsyncIterable, Callable, Iterable
from typing import NamedTuple

import aiohttp
from yarl import URL

from podling.api import apiregistration_v1 as v1
from podling.api import core_v1, discovery_v1
from podling.api.request import User
from podling.apiserver.admission.webhooks_client import NoPlace, explain
from podling.apiserver.aggregation.registration import available
from podling.apiserver.core import Core
from podling.apiserver.handlers.proxy import ready_places

#: As whom this server asks for itself.
AGGREGATOR = User("system:kube-aggregator", ("system:masters",))

#: What a header's name may be made of (RFC 9110, section 5.6.2), but for `%`, which marks all else.
_TOKEN = frozenset("!#$&'*+-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ^_`abcdefghijklmnopqrstuvwxyz|~")

#: Where the certificate and key are that are shown to other servers; None if there are none.
ClientCertificate = Callable[[], tuple[str, str] | None]


class Unreachable(Exception):
    """There is no answer; the text is what upstream's server answers with, `code` the status."""

    def __init__(self, text: str, code: int = 503) -> None:
        super().__init__(text)
        self.code = code


class Place(NamedTuple):
    """An address of a server."""

    host: str
    port: int

    @property
    def authority(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Connections:
    """What all remotes share: kept connections, and TLS contexts. `close` when done."""

    def __init__(self, certificate: ClientCertificate) -> None:
        self._certificate = certificate
        self._session: aiohttp.ClientSession | None = None

    def session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, connect=30.0),
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30.0),
                read_bufsize=1 << 18,
                trust_env=False,
            )
        return self._session

    def context(self, spec: v1.APIServiceSpec) -> ssl.SSLContext:
        """TLS as an APIService wants it. ValueError if its CA is none."""
        context = ssl.create_default_context() if not spec.ca_bundle else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.hostname_checks_common_name = False
        if spec.insecure_skip_tls_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        elif spec.ca_bundle:
            try:
                context.load_verify_locations(cadata=base64.b64decode(spec.ca_bundle).decode())
            except (ssl.SSLError, binascii.Error, UnicodeDecodeError, ValueError):
                raise ValueError("unable to load root certificates: unable to parse bytes as PEM block") from None
        pair = self._certificate()
        if pair is not None:
            context.load_cert_chain(*pair)
        return context

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()


class Remote:
    """What an APIService with a service says. `app` is where Services and EndpointSlices are looked up."""

    def __init__(self, app: Core, connections: Connections, obj: v1.APIService) -> None:
        spec, service = obj.spec, obj.spec.service
        assert service is not None
        self.name = obj.metadata.name or ""
        self.uid = obj.metadata.uid
        self.spec = spec
        self.group, self.version = spec.group or "", spec.version or ""
        self.service = service
        #: Requests are passed on only while the condition Available is True.
        self.available = available(obj)
        self._app = app
        self._connections = connections
        self._context: ssl.SSLContext | None = None

    def follow(self, obj: v1.APIService) -> bool:
        """Take over what a change of the APIService leaves as it is; False if it is to be another `Remote`."""
        if obj.metadata.uid != self.uid or obj.spec != self.spec:
            return False
        self.available = available(obj)
        return True

    @property
    def path(self) -> str:
        """Where its resources are listed: `/apis/<group>/<version>`."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"

    @property
    def server_name(self) -> str:
        """For what name the server's certificate must be."""
        return f"{self.service.name}.{self.service.namespace}.svc"

    def context(self) -> ssl.SSLContext:
        """TLS to it. Raises Unreachable (500) if that can't be had."""
        if self._context is None:
            try:
                self._context = self._connections.context(self.spec)
            except ValueError as error:
                raise Unreachable(str(error), 500) from None
        return self._context

    def place(self) -> Place:
        """One of its places, at random. Raises NoPlace."""
        namespace, name = self.service.namespace or "", self.service.name or ""
        service = self._app.cached("", "services", f"{namespace}/{name}")
        return random.choice(places(service, slices_of(self._app, namespace, name), self.service))

    async def open(
        self,
        place: Place,
        method: str,
        target: str,
        headers: Iterable[tuple[str, str]],
        data: bytes | AsyncIterable[bytes] | None = None,
    ) -> aiohttp.ClientResponse:
        """Send a request; the answer is the caller's to close. `target` is the path with its query, encoded.

        Raises aiohttp.ClientError, and Unreachable if there is no TLS to be had.
        """
        url = URL(f"https://{place.authority}{target}", encoded=True)
        return await self._connections.session().request(
            method,
            url,
            headers=list(headers),
            data=data,
            ssl=self.context(),
            server_hostname=self.server_name,
            allow_redirects=False,
        )


def slices_of(app: Core, namespace: str, service: str) -> list[discovery_v1.EndpointSlice]:
    """The EndpointSlices of a service."""
    served = app.lookup("discovery.k8s.io", "endpointslices")
    found = [entry.object for entry in served.cache.in_namespace(namespace)] if served is not None else []
    return [s for s in found if (s.metadata.labels or {}).get("kubernetes.io/service-name") == service]


def places(
    service: core_v1.Service | None, slices: Iterable[discovery_v1.EndpointSlice], wanted: v1.ServiceReference
) -> list[Place]:
    """Where a service can be reached; never empty. Raises NoPlace."""
    if service is None or service.spec is None:
        raise NoPlace(f'service "{wanted.name}" not found')
    port = wanted.port or 443
    if service.spec.type == "ExternalName":
        return [Place(service.spec.external_name or "", port)]
    found = next((p for p in service.spec.ports or () if p.port == port), None)
    if found is None:
        raise NoPlace(f'no service port {port} found for service "{wanted.name}"')
    all_ = [Place(*place) for piece in slices for place in ready_places(piece, found.name or "")]
    if not all_:
        raise NoPlace(f'no endpoints available for service "{wanted.name}"')
    return all_


def identity(user: User) -> list[tuple[str, str]]:
    """The headers that say for whom a request is."""
    headers = [("X-Remote-User", user.name)]
    if user.uid:
        headers.append(("X-Remote-Uid", user.uid))
    headers += [("X-Remote-Group", group) for group in user.groups]
    headers += [(f"X-Remote-Extra-{escaped(key)}", value) for key, values in user.extra.items() for value in values]
    return headers


def escaped(key: str) -> str:
    """A key as a part of a header's name."""
    return "".join(c if c in _TOKEN else "".join(f"%{byte:02X}" for byte in c.encode()) for c in key)


def is_identity(name: str) -> bool:
    """Whether a header says who asks: nobody but this server may send one on."""
    lower = name.lower()
    return lower in ("x-remote-user", "x-remote-group", "x-remote-uid") or lower.startswith("x-remote-extra-")


def failure(error: BaseException) -> Unreachable:
    """What a client is told when no answer came."""
    if isinstance(error, Unreachable):
        return error
    if isinstance(error, NoPlace):
        return Unreachable("service unavailable")
    return Unreachable(f"error trying to reach service: {why(error)}")


def why(error: BaseException) -> str:
    """A failed connection as Go's client words it."""
    return "context deadline exceeded" if isinstance(error, TimeoutError) else explain(error)


def checked(remote: Remote) -> Place:
    """Where to send a request. Raises Unreachable unless the server is there and known to be well."""
    if not remote.available:
        raise Unreachable("service unavailable")
    try:
        return remote.place()
    except NoPlace:
        raise Unreachable("service unavailable") from None
