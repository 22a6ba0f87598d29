"""What the tests of aggregation share: a whole control plane behind TLS on loopback, and an extension server beside it.

Endpoints may not be on loopback, so here the addresses of endpoints are dialled there.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from podling.api import apiregistration_v1 as v1
from podling.api import core_v1, discovery_v1, meta_v1
from podling.apiserver.aggregation import remote
from podling.apiserver.options import Options
from podling.apiserver.server import HttpServer, tls_context
from podling.client.http import load_pair
from podling.cluster import certificates, pki
from podling.cluster.config import ClusterConfig
from podling.cluster.control_plane import ControlPlane
from podling.store.memory import MemoryStore
from tests.conformance.extension import GROUP, NAMESPACE, SERVICE, VERSION, Extension

NAME = f"{VERSION}.{GROUP}"
ADDRESS = "10.9.8.7"
#: Of what is aggregated each request is recorded.
POLICY = f"""
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
- level: RequestResponse
  resources: [{{group: {GROUP}}}]
- level: None
"""


class World:
    """`admin` speaks HTTP with full power; `plane.client` is a client in the server's process."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        policy = directory / "audit-policy.yaml"
        policy.write_text(POLICY)
        options = Options(audit_policy_file=str(policy), audit_log_path=str(directory / "audit.log"))
        self.config = ClusterConfig(name="node", simulate=True, nodes=1, kube_apiserver=options)
        self.pki = pki.Pki(directory / "pki")
        self.plane = ControlPlane(self.config, MemoryStore(), self.pki)
        self.client = self.plane.client
        self.app = self.plane.app
        self.http = HttpServer(self.app)
        self.extension = Extension(directory, self.pki.front_proxy_ca.certificate)
        self.port = 0

    async def start(self) -> None:
        serving = certificates.api_server(self.pki, self.config)
        await self.plane.start()
        tls = tls_context(str(serving.certificate_path), str(serving.key_path), str(self.pki.path("ca.crt")))
        self.port = await self.http.start(tls=tls)
        await self.extension.start()
        self.admin = self.session("admin", "system:masters")

    async def close(self) -> None:
        await self.admin.close()
        await self.http.close()
        await self.plane.close()
        await self.extension.close()

    def session(self, user: str, *groups: str) -> aiohttp.ClientSession:
        pair = self.pki.client(user, user, groups)
        context = ssl.create_default_context(cadata=self.pki.ca.certificate.decode())
        load_pair(context, pair.certificate, pair.key)
        return aiohttp.ClientSession(
            f"https://127.0.0.1:{self.port}",
            connector=aiohttp.TCPConnector(ssl=context),
            timeout=aiohttp.ClientTimeout(30),
        )

    def kubeconfig(self, user: str, *groups: str) -> str:
        path = self.directory / f"{user}.kubeconfig"
        pair = self.pki.client(user, user, groups)
        text = pki.kubeconfig(
            server=f"https://127.0.0.1:{self.port}",
            ca=self.pki.ca.certificate,
            certificate=pair.certificate,
            key=pair.key,
        )
        pki.write_kubeconfig(path, text)
        return str(path)

    async def ask(self, method: str, path: str, body: Any = None, **more: Any) -> tuple[int, Any]:
        """Status and answer, decoded if it is JSON."""
        session = more.pop("session", self.admin)
        async with session.request(method, path, json=body, **more) as answer:
            text = await answer.text()
            return answer.status, json.loads(text) if "json" in answer.content_type else text

    async def get(self, path: str, **more: Any) -> Any:
        status, answer = await self.ask("GET", path, **more)
        assert status == 200, (status, answer)
        return answer

    # The objects of an extension server

    async def deploy(self, **spec: Any) -> None:
        """Namespace, Service, endpoints and APIService; waits until it is available."""
        await self.client.create(core_v1.Namespace(metadata=meta_v1.ObjectMeta(name=NAMESPACE)))
        await self.client.create(service())
        await self.client.create(endpoints(self.extension.port))
        await self.client.create(api_service(ca_bundle=self.extension.bundle, **spec))
        await self.until("Passed")

    async def until(self, reason: str, seconds: float = 15.0) -> v1.APIServiceCondition:
        """Wait until the condition Available has a reason."""

        async def look() -> v1.APIServiceCondition:
            async for event in self.client.watch(
                v1.APIService, field_selector=f"metadata.name={NAME}", send_initial_events=True
            ):
                for c in (event.object.status.conditions or ()) if event.type in ("ADDED", "MODIFIED") else ():
                    if c.type == "Available" and c.reason == reason:
                        return c
            raise AssertionError("the watch ended")

        try:
            return await asyncio.wait_for(look(), seconds)
        except TimeoutError:
            raise AssertionError(f"not {reason}: {await self.client.get(v1.APIService, NAME)}") from None

    async def eventually(self, check: Callable[[], Awaitable[bool]], seconds: float = 10.0) -> None:
        async with asyncio.timeout(seconds):
            while not await check():
                await asyncio.sleep(0.02)


def service(**spec: Any) -> core_v1.Service:
    made = core_v1.Service(metadata=meta_v1.ObjectMeta(name=SERVICE, namespace=NAMESPACE))
    made.spec.ports = [core_v1.ServicePort(name="https", port=443, protocol="TCP", target_port=7443)]
    for name, value in spec.items():
        setattr(made.spec, name, value)
    return made


def endpoints(port: int, *, ready: bool = True, port_name: str = "https") -> discovery_v1.EndpointSlice:
    meta = meta_v1.ObjectMeta(name=f"{SERVICE}-1", namespace=NAMESPACE, labels={"kubernetes.io/service-name": SERVICE})
    conditions = discovery_v1.EndpointConditions(ready=ready)
    return discovery_v1.EndpointSlice(
        metadata=meta,
        address_type="IPv4",
        endpoints=[discovery_v1.Endpoint(addresses=[ADDRESS], conditions=conditions)],
        ports=[discovery_v1.EndpointPort(name=port_name, port=port, protocol="TCP")],
    )


def api_service(**spec: Any) -> v1.APIService:
    made = v1.APIService(metadata=meta_v1.ObjectMeta(name=NAME))
    made.spec = v1.APIServiceSpec(
        group=GROUP,
        version=VERSION,
        group_priority_minimum=2000,
        version_priority=200,
        service=v1.ServiceReference(name=SERVICE, namespace=NAMESPACE),
    )
    for name, value in spec.items():
        setattr(made.spec, name, value)
    return made


@asynccontextmanager
async def world(directory: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    ready = remote.ready_places
    monkeypatch.setattr(remote, "ready_places", lambda piece, name: [("127.0.0.1", p) for _, p in ready(piece, name)])
    made = World(directory)
    await made.start()
    try:
        yield made
    finally:
        await made.close()
