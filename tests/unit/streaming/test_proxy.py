"""pods/proxy, services/proxy and nodes/proxy: all methods, all forms of names, links that lead through the proxy."""

from __future__ import annotations

import asyncio
import gzip
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from podling.api import core_v1, discovery_v1, meta_v1
from podling.api.errors import StatusError
from podling.apiserver.handlers import proxy
from podling.apiserver.request_info import RequestInfo
from podling.kubelet.server_auth import tls_context
from streaming.harness import Cluster, make_pod, running

GRANTS = {f"Access-Control-Allow-{what}": "*" for what in ("Origin", "Methods", "Headers", "Credentials")}
PAGE = '<html><a href="/rel">a</a><a href="near">b</a><img src=\'/x.png?q=1#f\'><a href="https://else/x">c</a></html>'


class Origin:
    """The server behind the proxy: tells what it got."""

    def __init__(self) -> None:
        self.server = web.Server(self._handle, access_log=None)
        self.requests: list[web.BaseRequest] = []

    async def start(self, tls: ssl.SSLContext | None = None) -> int:
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(self.server, "127.0.0.1", 0, ssl=tls)  # type: ignore[arg-type]
        return cast(int, self._listener.sockets[0].getsockname()[1])

    async def close(self) -> None:
        self._listener.close()
        await self.server.shutdown(0.1)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests.append(request)
        if request.headers.get("Upgrade") == "websocket":
            socket = web.WebSocketResponse(protocols=("chat",))
            await socket.prepare(request)
            async for message in socket:
                await socket.send_str(message.data.upper())
            return socket
        path = request.path
        if path == "/page":
            return web.Response(text=PAGE, content_type="text/html")
        if path == "/packed":
            headers = {"Content-Encoding": "gzip", "Content-Type": "text/html"}
            return web.Response(body=gzip.compress(PAGE.encode()), headers=headers)
        if path == "/redirect":
            return web.Response(status=302, headers={"Location": "/target?x=1"})
        if path == "/teapot":
            return web.Response(
                status=418, text="short and stout", headers={"X-Mine": "yes", "Keep-Alive": "no", **GRANTS}
            )
        if path == "/stream":
            response = web.StreamResponse()
            response.enable_chunked_encoding()
            await response.prepare(request)
            for n in range(5):
                await response.write(b"%d\n" % n)
            await response.write_eof()
            return response
        body = await request.read()
        return web.Response(text=f"{request.method} {request.raw_path} {body.decode()}")


@pytest_asyncio.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with running(tmp_path) as made:
        yield made


@pytest_asyncio.fixture
async def origin() -> AsyncIterator[Origin]:
    made = Origin()
    yield made
    await made.close()


@pytest_asyncio.fixture
async def http(cluster: Cluster) -> AsyncIterator[aiohttp.ClientSession]:
    tls = ssl.create_default_context(cadata=cluster.pki.ca.certificate.decode())
    tls.load_cert_chain(cluster.pki.path("admin.crt"), cluster.pki.path("admin.key"))
    connector = aiohttp.TCPConnector(ssl=tls)
    base = f"https://127.0.0.1:{cluster.port}"
    async with aiohttp.ClientSession(base, connector=connector, auto_decompress=False) as session:
        yield session


PODS = "/api/v1/namespaces/default/pods"
SERVICES = "/api/v1/namespaces/default/services"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_every_method_arrives_with_path_query_and_body(
    cluster: Cluster, origin: Origin, http: aiohttp.ClientSession, method: str
) -> None:
    port = await origin.start()
    path = f"{PODS}/web:{port}/proxy/some/path%20with/{method}?a=1&b=%26"
    body = "" if method in ("GET", "OPTIONS") else "hello"
    async with http.request(method, path, data=body or None) as answer:
        assert (answer.status, await answer.text()) == (200, f"{method} /some/path%20with/{method}?a=1&b=%26 {body}")


async def test_head(cluster: Cluster, origin: Origin, http: aiohttp.ClientSession) -> None:
    port = await origin.start()
    async with http.head(f"{PODS}/web:{port}/proxy/x") as answer:
        assert (answer.status, await answer.read()) == (200, b"")
    assert origin.requests[0].method == "HEAD"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_missing_slash_is_added_by_redirect(cluster: Cluster, http: aiohttp.ClientSession, method: str) -> None:
    async with http.request(method, f"{PODS}/web:80/proxy?method=X", allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (301, f"{PODS}/web:80/proxy/?method=X")


async def test_other_methods_go_to_the_root(cluster: Cluster, origin: Origin, http: aiohttp.ClientSession) -> None:
    port = await origin.start()
    async with http.post(f"{PODS}/web:{port}/proxy?method=POST") as answer:
        assert await answer.text() == "POST /?method=POST "


async def test_headers_of_the_connection_and_credentials_stay_behind(
    cluster: Cluster, origin: Origin, http: aiohttp.ClientSession
) -> None:
    port = await origin.start()
    sent = {"X-Kept": "yes", "X-Dropped": "no", "Connection": "keep-alive, X-Dropped", "Authorization": "Bearer secret"}
    async with http.get(f"{PODS}/web:{port}/proxy/teapot", headers=sent) as answer:
        assert (answer.status, await answer.text()) == (418, "short and stout")
        assert answer.headers["X-Mine"] == "yes" and "Keep-Alive" not in answer.headers
        assert not any(name in answer.headers for name in GRANTS)
    got = origin.requests[0].headers
    assert got["X-Kept"] == "yes"
    assert "X-Dropped" not in got and "Authorization" not in got
    assert got["Host"] == f"127.0.0.1:{port}"
    assert got["X-Forwarded-Proto"] == "https" and got["X-Forwarded-Uri"] == f"{PODS}/web:{port}/proxy/teapot"


async def test_streams_pass(cluster: Cluster, origin: Origin, http: aiohttp.ClientSession) -> None:
    port = await origin.start()
    async with http.get(f"{PODS}/web:{port}/proxy/stream") as answer:
        assert await answer.text() == "0\n1\n2\n3\n4\n"


@pytest.mark.parametrize("path", ["page", "packed"])
async def test_links_lead_through_the_proxy(
    cluster: Cluster, origin: Origin, http: aiohttp.ClientSession, path: str
) -> None:
    port = await origin.start()
    prefix = f"{PODS}/web:{port}/proxy"
    async with http.get(f"{prefix}/{path}") as answer:
        assert await answer.text() == (
            f'<html><a href="{prefix}/rel">a</a><a href="near">b</a>'
            f"<img src='{prefix}/x.png?q=1#f'><a href=\"https://else/x\">c</a></html>"
        )
        assert "Content-Encoding" not in answer.headers
    async with http.get(f"{prefix}/redirect", allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (302, f"{prefix}/target?x=1")


async def test_websockets_pass(cluster: Cluster, origin: Origin, http: aiohttp.ClientSession) -> None:
    port = await origin.start()
    offered = ("base64url.bearer.authorization.k8s.io.c2VjcmV0", "chat")
    headers = {"Impersonate-User": "root"}
    async with http.ws_connect(f"{PODS}/web:{port}/proxy/ws", protocols=offered, headers=headers) as socket:
        assert socket.protocol == "chat"
        await socket.send_str("hello")
        assert await socket.receive_str() == "HELLO"
    got = origin.requests[0].headers
    assert got["Sec-WebSocket-Protocol"] == "chat" and "Impersonate-User" not in got


async def make_service(cluster: Cluster, port: int, tls_port: int) -> None:
    ports = [
        core_v1.ServicePort(name="web", port=80, protocol="TCP"),
        core_v1.ServicePort(name="tls", port=443, protocol="TCP"),
        core_v1.ServicePort(name="empty", port=81, protocol="TCP"),
    ]
    meta = meta_v1.ObjectMeta(name="svc", namespace="default")
    spec = core_v1.ServiceSpec(ports=ports, selector={"a": "b"}, cluster_ip="None")
    await cluster.client.create(core_v1.Service(metadata=meta, spec=spec))
    labels = {"kubernetes.io/service-name": "svc"}
    ready = discovery_v1.EndpointConditions(ready=True)
    unready = discovery_v1.EndpointConditions(ready=False)
    await cluster.client.create(
        discovery_v1.EndpointSlice(
            metadata=meta_v1.ObjectMeta(name="svc-1", namespace="default", labels=labels),
            address_type="IPv4",
            endpoints=[
                discovery_v1.Endpoint(addresses=["127.0.0.1"], conditions=ready),
                discovery_v1.Endpoint(addresses=["127.0.0.99"], conditions=unready),
            ],
            ports=[
                discovery_v1.EndpointPort(name="web", port=port, protocol="TCP"),
                discovery_v1.EndpointPort(name="tls", port=tls_port, protocol="TCP"),
            ],
        )
    )


@pytest.mark.parametrize("name", ["svc:web", "svc:80", "http:svc:web", "http:svc:80", "https:svc:tls", "https:svc:443"])
async def test_the_forms_of_a_services_name(
    cluster: Cluster, origin: Origin, http: aiohttp.ClientSession, name: str
) -> None:
    secure = Origin()
    pair = cluster.pki.serving("origin", "anything")
    tls_port = await secure.start(tls_context(pair.certificate_path, pair.key_path, cluster.pki.path("ca.crt")))
    try:
        await make_service(cluster, await origin.start(), tls_port)
        for _ in range(5):
            async with http.get(f"{SERVICES}/{name}/proxy/hi") as answer:
                assert (answer.status, await answer.text()) == (200, "GET /hi ")
        assert len((secure if name.startswith("https") else origin).requests) == 5
    finally:
        await secure.close()


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        (f"{SERVICES}/svc:82/proxy/", 503, 'no service port 82 found for service "svc"'),
        (f"{SERVICES}/svc:empty/proxy/", 503, 'no endpoints available for service "svc:empty"'),
        (f"{SERVICES}/svc/proxy/", 503, 'no endpoints available for service "svc"'),
        (f"{SERVICES}/none/proxy/", 404, 'services "none" not found'),
        (f"{PODS}/none/proxy/", 404, 'pods "none" not found'),
        (
            f"{PODS}/web:1/proxy/",
            503,
            "error trying to reach service: dial tcp 127.0.0.1:1: connect: connection refused",
        ),
        (f"{PODS}/gopher:web:70/proxy/", 400, 'invalid pod request "gopher:web:70"'),
        ("/api/v1/nodes/none/proxy/", 404, 'nodes "none" not found'),
    ],
)
async def test_what_can_not_be_reached_is_said_so(
    cluster: Cluster, http: aiohttp.ClientSession, path: str, status: int, message: str
) -> None:
    await make_service(cluster, 9, 9)
    async with http.get(path) as answer:
        assert (answer.status, (await answer.json())["message"]) == (status, message)


async def test_nodes(cluster: Cluster, http: aiohttp.ClientSession) -> None:
    for name in ("n1", "https:n1:", f"n1:{cluster.kubelet.port}"):
        async with http.get(f"/api/v1/nodes/{name}/proxy/healthz") as answer:
            assert (answer.status, await answer.text()) == (200, "ok")
    async with http.get("/api/v1/nodes/n1/proxy/pods") as answer:
        assert '"name":"web"' in await answer.text()


async def test_the_port_of_a_pod_is_its_first(cluster: Cluster, origin: Origin, http: aiohttp.ClientSession) -> None:
    pod = make_pod("ported")
    assert pod.spec is not None
    pod.spec.containers[0].ports = [core_v1.ContainerPort(container_port=await origin.start(), protocol="TCP")]
    await cluster.add(pod)
    async with http.get(f"{PODS}/ported/proxy/x") as answer:
        assert await answer.text() == "GET /x "


@pytest.mark.parametrize("ip", ["127.0.0.1", "169.254.169.254", "::1", "224.0.0.1", "0.0.0.0", "", "nonsense"])
def test_addresses_of_the_server_itself_are_out_of_reach(ip: str) -> None:
    with pytest.raises(StatusError, match="address not allowed"):
        proxy.proxyable(ip)
    proxy.proxyable("10.244.1.5")
    proxy.proxyable("fd00::5")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", ("", "a", "")),
        ("a:80", ("", "a", "80")),
        ("https:a:", ("https", "a", "")),
        ("http:a:web", ("http", "a", "web")),
        ("ftp:a:1", None),
        ("a:b:c:d", None),
        (":80", None),
    ],
)
def test_names(text: str, expected: tuple[str, str, str] | None) -> None:
    assert proxy.split_name(text) == expected


@pytest.mark.parametrize(
    ("path", "resource", "expected"),
    [
        ("/api/v1/nodes/n1/proxy", "nodes", ("/api/v1/nodes/n1/proxy", "")),
        ("/api/v1/nodes/n1/proxy/", "nodes", ("/api/v1/nodes/n1/proxy", "/")),
        ("/api/v1/nodes/n1/proxy/a/proxy/b", "nodes", ("/api/v1/nodes/n1/proxy", "/a/proxy/b")),
        (
            "/api/v1/namespaces/x/pods/p:80/proxy/a%2Fb//c",
            "pods",
            ("/api/v1/namespaces/x/pods/p:80/proxy", "/a%2Fb//c"),
        ),
        (
            "/api/v1/namespaces/pods/pods/proxy/proxy/x",
            "pods",
            ("/api/v1/namespaces/pods/pods/proxy/proxy", "/x"),
        ),
    ],
)
def test_paths(path: str, resource: str, expected: tuple[str, str]) -> None:
    assert proxy.split_path(path, RequestInfo("get", path, "", "v1", resource, "proxy")) == expected
