"""Follows the APIServices: what they say decides at once where requests go, and sets everything else going.

Who has seen an APIService's condition Available finds its resources there: the decision is made at the moment when the
change enters the watch cache. The parts that speak to other servers are loaded when the first of them comes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from podling.api import apiregistration_v1 as v1
from podling.api.request import Request, User
from podling.apiserver.answer import Answer
from podling.apiserver.app import ApiServer
from podling.apiserver.request_info import RequestInfo

if TYPE_CHECKING:
    from aiohttp import web

    from podling.apiserver.aggregation.availability import Availability, Probe
    from podling.apiserver.aggregation.documents import Documents
    from podling.apiserver.aggregation.proxy import Proxy
    from podling.apiserver.aggregation.remote import ClientCertificate, Connections, Remote


class _Parts:
    """What there is only if there are remote APIServices."""

    def __init__(self, app: ApiServer, certificate: ClientCertificate, redirects: bool, probe: Probe | None) -> None:
        from podling.apiserver.aggregation.availability import Availability
        from podling.apiserver.aggregation.documents import Documents
        from podling.apiserver.aggregation.proxy import Proxy
        from podling.apiserver.aggregation.remote import Connections

        self.connections: Connections = Connections(certificate)
        self.availability: Availability = Availability(app, probe)
        self.documents: Documents = Documents(app.discovery, app.openapi)
        self.proxy: Proxy = Proxy(redirects=redirects)
        app.openapi.others = self.documents

    async def close(self) -> None:
        await self.proxy.close()
        await self.availability.close()
        await self.documents.close()
        await self.connections.close()


class Aggregator:
    """Make it before the server starts; `end` before the HTTP server closes, `close` before the server does."""

    def __init__(
        self,
        app: ApiServer,
        certificate: ClientCertificate = lambda: None,
        *,
        redirects: bool = False,
        probe: Probe | None = None,
    ) -> None:
        """`certificate` gives the files of the certificate and the key that are shown to other servers."""
        self._app = app
        self._certificate = certificate
        self._redirects = redirects
        self._probe = probe
        self._parts: _Parts | None = None
        #: Names of APIServices by the service that they name.
        self._by_service: dict[str, set[str]] = {}
        self._services = app.served["apiregistration.k8s.io", "v1", "apiservices"].cache
        self._services.observers.append(self._changed)
        app.aggregation = self
        app.metrics.gauge(
            "aggregator_unavailable_apiservice",
            "[ALPHA] Gauge of APIServices which are marked as unavailable broken down by APIService name.",
            ("name",),
            self._unavailable,
        )

    # Requests

    async def serve(self, http: web.BaseRequest, remote: Remote, info: RequestInfo, user: User) -> web.StreamResponse:
        """Answer a request over HTTP that is allowed, by the server that it is for."""
        return await self._loaded().proxy.serve(http, remote, info, user)

    async def send(self, remote: Remote, request: Request, info: RequestInfo, user: User) -> Answer:
        """The same for a request of this process."""
        from podling.apiserver.aggregation import relay

        return await relay.send(remote, request, info, user)

    async def end(self) -> None:
        """End the requests that have no end of their own."""
        if self._parts is not None:
            await self._parts.proxy.close()

    async def close(self) -> None:
        if self._parts is not None:
            await self._parts.close()

    # Events

    def _changed(self, event: str, service: v1.APIService) -> None:
        key = service.spec.group or "", service.spec.version or ""
        if event == "DELETED" or service.spec.service is None:
            self._withdraw(key)
            if event != "DELETED" and not _is_local(service):
                # It had a service before.
                self._loaded().availability.enqueue(service.metadata.name or "")
            return
        parts, remotes = self._loaded(), self._app.remotes
        remote = remotes.get(key)
        if remote is None or not remote.follow(service):
            from podling.apiserver.aggregation.remote import Remote

            if remote is not None:
                self._unlink(remote)
            remote = remotes[key] = Remote(self._app, parts.connections, service)
            self._by_service.setdefault(_service_key(remote), set()).add(remote.name)
        parts.availability.enqueue(remote.name)
        parts.documents.changed(remote)

    def _withdraw(self, key: tuple[str, str]) -> None:
        remote = self._app.remotes.pop(key, None)
        if remote is not None:
            self._unlink(remote)
            self._loaded().documents.gone(remote)

    def _unlink(self, remote: Remote) -> None:
        service = _service_key(remote)
        names = self._by_service.get(service, set())
        names.discard(remote.name)
        if not names:
            self._by_service.pop(service, None)

    def _loaded(self) -> _Parts:
        parts = self._parts
        if parts is None:
            parts = self._parts = _Parts(self._app, self._certificate, self._redirects, self._probe)
            self._app.metrics.add(parts.availability.unavailable)
            for group, resource, seen in (
                ("", "services", self._service_changed),
                ("discovery.k8s.io", "endpointslices", self._slice_changed),
            ):
                served = self._app.lookup(group, resource)
                if served is not None:
                    served.cache.observers.append(seen)
        return parts

    def _service_changed(self, event: str, service: Any) -> None:
        self._look_again(f"{service.metadata.namespace}/{service.metadata.name}")

    def _slice_changed(self, event: str, piece: Any) -> None:
        name = (piece.metadata.labels or {}).get("kubernetes.io/service-name")
        if name:
            self._look_again(f"{piece.metadata.namespace}/{name}")

    def _look_again(self, service: str) -> None:
        for name in self._by_service.get(service, ()):
            self._loaded().availability.enqueue(name)

    def _unavailable(self) -> dict[tuple[str, ...], float]:
        from podling.apiserver.aggregation.registration import available

        return {
            (entry.object.metadata.name or "",): 0.0 if available(entry.object) else 1.0
            for entry in self._services.all()
        }


def _service_key(remote: Remote) -> str:
    return f"{remote.service.namespace}/{remote.service.name}"


def _is_local(service: v1.APIService) -> bool:
    return any((c.type, c.status, c.reason) == ("Available", "True", "Local") for c in service.status.conditions or ())
