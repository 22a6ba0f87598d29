"""The HTTP shell, over loopback."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from apiserver.harness import Server, config_map, pod, running
from podling.api import core_v1, meta_v1
from podling.api.request import User
from podling.apiserver.authz.attributes import Attributes, Decision
from podling.apiserver.exchange import warn
from podling.apiserver.request_info import RequestInfo
from podling.apiserver.server import HttpServer, tls_context

PATH = "/api/v1/namespaces/default/configmaps"


class Web:
    """A server on loopback and a session that speaks to it."""

    def __init__(self, server: Server, http: HttpServer, session: aiohttp.ClientSession) -> None:
        self.server = server
        self.http = http
        self.session = session

    async def ask(self, method: str, path: str, **more: Any) -> tuple[aiohttp.ClientResponse, Any]:
        async with self.session.request(method, f"http://127.0.0.1:{self.http.port}{path}", **more) as response:
            body = await response.read()
            kind = response.headers.get("content-type", "")
            return response, json.loads(body) if kind.startswith("application/json") and body else body


@asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[Web]:
    streaming = options.pop("streaming", None)
    async with running(**options) as server:
        http = HttpServer(server.app, streaming=streaming)
        await http.start()
        async with aiohttp.ClientSession() as session:
            try:
                yield Web(server, http, session)
            finally:
                await http.close()


async def test_get_sends_what_the_cache_holds() -> None:
    async with serving() as web_:
        await web_.server.client.create(config_map("a"))
        response, found = await web_.ask("GET", f"{PATH}/a")
        assert response.status == 200 and found["data"] == {"k": "v"}
        assert found["metadata"]["resourceVersion"] == str(web_.server.store.revision)
        assert response.headers["content-type"] == "application/json"
        assert len(response.headers["audit-id"]) == 36
        assert response.headers["cache-control"] == "no-cache, private"
        head, body = await web_.ask("HEAD", f"{PATH}/a")
        assert head.status == 200 and body == b"" and int(head.headers["content-length"]) > 100


async def test_failures_are_statuses() -> None:
    async with serving() as web_:
        response, found = await web_.ask("GET", f"{PATH}/a")
        assert response.status == 404
        assert found == {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": 'configmaps "a" not found',
            "reason": "NotFound",
            "details": {"name": "a", "kind": "configmaps"},
            "code": 404,
        }
        response, found = await web_.ask("GET", f"{PATH}/a?resourceVersion=99999999")
        assert response.status == 504 and response.headers["retry-after"] == "1"


async def test_a_write_and_its_warnings() -> None:
    async with serving() as web_:
        sent = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "a"}, 'f"x': 1, "g": 2}
        response, _ = await web_.ask("POST", PATH, json=sent)
        assert response.status == 201
        assert response.headers.getall("warning") == [
            '299 - "unknown field \\"f\\"x\\""',
            '299 - "unknown field \\"g\\""',
        ]


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_that_is_too_big(chunked: bool) -> None:
    async with serving() as web_:
        data = b"x" * (3 * 1024 * 1024 + 1)

        async def pieces() -> AsyncIterator[bytes]:
            for i in range(0, len(data), 65536):
                yield data[i : i + 65536]

        body: Any = pieces() if chunked else data
        try:
            response, found = await web_.ask("POST", PATH, data=body, headers={"content-type": "application/json"})
        except aiohttp.ClientOSError:
            # The server need not read what it refuses: the client may find the connection closed before the answer.
            pass
        else:
            assert response.status == 413 and found["message"] == "limit is 3145728"
        # The server goes on.
        assert (await web_.ask("GET", PATH))[0].status == 200


@pytest.mark.parametrize(
    ("accept", "status", "kind"),
    [
        ("application/yaml", 200, "application/yaml"),
        ("application/vnd.kubernetes.protobuf", 200, "application/vnd.kubernetes.protobuf"),
        ("text/html", 406, "application/json"),
        ("text/html, */*;q=0.1", 200, "application/json"),
        ("application/json;q=0,application/yaml;q=0.5", 200, "application/yaml"),
        ("application/json;as=Table;g=meta.k8s.io;v=v1", 200, "application/json"),
        ("application/json;as=Nothing;g=meta.k8s.io;v=v1", 406, "application/json"),
    ],
)
async def test_negotiation(accept: str, status: int, kind: str) -> None:
    async with serving() as web_:
        await web_.server.client.create(config_map("a"))
        response, found = await web_.ask("GET", f"{PATH}/a", headers={"accept": accept})
        assert (response.status, response.headers["content-type"]) == (status, kind)
        if status == 406:
            assert found["message"].startswith("only the following media types are accepted: application/json")
        elif kind == "application/yaml":
            assert b"\nkind: ConfigMap\n" in found


async def test_tables_and_metadata() -> None:
    async with serving() as web_:
        await web_.server.client.create(pod("p"))
        table = {"accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}
        _, found = await web_.ask("GET", "/api/v1/pods", headers=table)
        assert (found["kind"], found["apiVersion"]) == ("Table", "meta.k8s.io/v1")
        assert [c["name"] for c in found["columnDefinitions"]][:5] == ["Name", "Ready", "Status", "Restarts", "Age"]
        assert found["rows"][0]["cells"][:3] == ["p", "0/1", "Pending"]
        assert found["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
        _, whole = await web_.ask("GET", "/api/v1/pods?includeObject=Object", headers=table)
        assert whole["rows"][0]["object"]["spec"]["containers"][0]["name"] == "c"
        _, none = await web_.ask("GET", "/api/v1/pods?includeObject=None", headers=table)
        assert "object" not in none["rows"][0]
        partial = {"accept": "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"}
        _, found = await web_.ask("GET", "/api/v1/pods", headers=partial)
        assert found["kind"] == "PartialObjectMetadataList"
        assert found["items"][0]["metadata"]["name"] == "p" and "spec" not in found["items"][0]


async def test_the_table_of_a_scale() -> None:
    async with serving() as web_:
        controller = core_v1.ReplicationController(metadata=meta_v1.ObjectMeta(name="rc", namespace="default"))
        template = core_v1.PodTemplateSpec(metadata=meta_v1.ObjectMeta(labels={"a": "b"}), spec=pod("p").spec)
        controller.spec = core_v1.ReplicationControllerSpec(replicas=3, selector={"a": "b"}, template=template)
        await web_.server.client.create(controller)
        table = {"accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
        _, found = await web_.ask("GET", "/api/v1/namespaces/default/replicationcontrollers/rc/scale", headers=table)
        assert [c["name"] for c in found["columnDefinitions"]] == ["Name", "Desired", "Available", "Age"]
        assert found["rows"][0]["cells"][:3] == ["rc", 3, 0]


async def test_a_watch_in_chunks_of_lines() -> None:
    async with serving() as web_:
        await web_.server.client.create(config_map("a"))
        url = f"http://127.0.0.1:{web_.http.port}{PATH}?watch=true"
        async with web_.session.get(url) as response:
            first = json.loads(await response.content.readline())
            assert (first["type"], first["object"]["metadata"]["name"]) == ("ADDED", "a")
            await web_.server.client.create(config_map("b"))
            second = json.loads(await response.content.readline())
            assert (second["type"], second["object"]["metadata"]["name"]) == ("ADDED", "b")
        # The client went away: the watch does too.
        cache = web_.server.app.served["", "v1", "configmaps"].cache
        async with asyncio.timeout(5):
            while cache.watches():
                await asyncio.sleep(0.01)


async def test_a_watch_ends_by_its_timeout_and_the_connection_stays() -> None:
    async with serving() as web_:
        connector = aiohttp.TCPConnector(limit=1)
        async with aiohttp.ClientSession(connector=connector) as session:
            base = f"http://127.0.0.1:{web_.http.port}{PATH}"
            async with session.get(f"{base}?watch=true&timeoutSeconds=1&allowWatchBookmarks=true") as response:
                lines = [json.loads(line) async for line in response.content]
            assert [line["type"] for line in lines] == ["BOOKMARK"]
            async with session.get(base) as response:
                assert response.status == 200


async def test_a_watched_table_has_its_columns_once() -> None:
    async with serving() as web_:
        url = f"http://127.0.0.1:{web_.http.port}{PATH}?watch=true"
        headers = {"accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
        for name in ("a", "b"):
            await web_.server.client.create(config_map(name))
        async with web_.session.get(url, headers=headers) as response:
            first, second = [json.loads(await response.content.readline())["object"] for _ in range(2)]
        assert first["columnDefinitions"] and not second["columnDefinitions"]
        assert [first["rows"][0]["cells"][0], second["rows"][0]["cells"][0]] == ["a", "b"]


@pytest.mark.parametrize("accept", ["application/json", "application/json;as=Table;v=v1;g=meta.k8s.io"])
async def test_a_watch_from_too_long_ago_is_told_so_by_an_event(accept: str) -> None:
    async with serving(ring=4) as web_:
        for number in range(12):
            await web_.server.client.create(config_map(f"c{number}"))
        url = f"http://127.0.0.1:{web_.http.port}{PATH}?watch=true&resourceVersion=1"
        async with web_.session.get(url, headers={"accept": accept}) as response:
            (event,) = [json.loads(line) async for line in response.content]
        assert (response.status, event["type"], event["object"]["kind"]) == (200, "ERROR", "Status")
        assert (event["object"]["code"], event["object"]["reason"]) == (410, "Expired")


async def test_closing_ends_watches_and_refuses_more() -> None:
    async with serving() as web_:
        url = f"http://127.0.0.1:{web_.http.port}{PATH}?watch=true"
        async with web_.session.get(url) as response:
            closing = asyncio.ensure_future(web_.http.close())
            assert await response.content.read() == b""
            async with asyncio.timeout(10):
                await closing
        with pytest.raises(aiohttp.ClientError):
            await web_.ask("GET", PATH)


async def test_who_may_do_what() -> None:
    async def authenticate(headers: Any, certificate: bytes | None, path: str) -> User | None:
        return User(headers["x-user"]) if "x-user" in headers else None

    def authorize(attributes: Attributes) -> Decision:
        return Decision(attributes.user.name in ("ann", "system:apiserver"), "only Ann may")

    async with serving(authenticator=authenticate, authorizer=authorize) as web_:
        response, found = await web_.ask("GET", PATH)
        assert (response.status, found["message"]) == (401, "Unauthorized")
        response, found = await web_.ask("GET", PATH, headers={"x-user": "bob"})
        assert (response.status, found["message"]) == (
            403,
            'configmaps is forbidden: User "bob" cannot list resource "configmaps" in API group "" in the namespace '
            '"default": only Ann may',
        )
        assert (await web_.ask("GET", PATH, headers={"x-user": "ann"}))[0].status == 200


async def test_a_warning_about_credentials_comes_with_every_kind_of_answer() -> None:
    async def authenticate(headers: Any, certificate: bytes | None, path: str) -> User | None:
        for _ in range(2):
            warn("Use another token.")
        return User("ann") if "x-user" in headers else None

    async with serving(authenticator=authenticate) as web_:
        ann = {"x-user": "ann"}
        for path, status, headers in ((PATH, 200, ann), (f"{PATH}/a", 404, ann), (PATH, 401, {})):
            response, _ = await web_.ask("GET", path, headers=headers)
            assert response.status == status
            assert response.headers.getall("warning") == ['299 - "Use another token."']
        url = f"http://127.0.0.1:{web_.http.port}{PATH}?watch=true"
        async with web_.session.get(url, headers=ann) as watch:
            assert watch.headers.getall("warning") == ['299 - "Use another token."']


async def test_streaming_subresources_get_the_connection() -> None:
    seen: list[tuple[RequestInfo, User]] = []

    async def hook(request: web.BaseRequest, info: RequestInfo, user: User) -> web.StreamResponse:
        seen.append((info, user))
        return web.Response(text=f"{request.method} {info.tail}")

    async with serving(streaming=hook) as web_:
        response, body = await web_.ask("PUT", "/api/v1/namespaces/default/pods/p/proxy/a//b?x=1")
        assert response.status == 200 and body == b"PUT /a//b"
        assert (seen[0][0].subresource, seen[0][1].name) == ("proxy", "system:anonymous")
        assert (await web_.ask("GET", "/api/v1/namespaces/default/configmaps/a/exec"))[0].status == 404


async def test_nothing_of_a_bug_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(*_: Any) -> Any:
        raise ZeroDivisionError("oops")

    async with serving() as web_:
        web_.server.app.paths["/broken"] = broken
        response, found = await web_.ask("GET", "/broken")
        assert response.status == 500 and found["message"] == "Internal error occurred: oops"
        assert "ZeroDivisionError" in caplog.text


async def test_health_and_metrics() -> None:
    async with serving() as web_:
        for path in ("/healthz", "/livez", "/readyz", "/readyz/ping", "/livez?verbose"):
            response, body = await web_.ask("GET", path)
            assert response.status == 200 and (body == b"ok" or b"[+]ping ok" in body)
        assert (await web_.ask("GET", "/readyz/nope"))[0].status == 404
        _, version = await web_.ask("GET", "/version")
        assert (version["major"], version["minor"]) == ("1", "37")
        web_.server.app.ready = False
        response, body = await web_.ask("GET", "/readyz")
        assert response.status == 500 and b"[-]shutdown failed: reason withheld" in body
        assert (await web_.ask("GET", "/readyz?exclude=shutdown"))[0].status == 200
        assert (await web_.ask("GET", "/livez"))[0].status == 200
        await web_.ask("GET", PATH)
        _, text = await web_.ask("GET", "/metrics")
        assert (
            b'apiserver_request_total{code="200",component="apiserver",dry_run="",group="",resource="configmaps",'
            b'scope="namespace",subresource="",verb="LIST",version="v1"}'
        ) in text
        assert b"apiserver_request_duration_seconds_bucket{" in text
        assert b'apiserver_resource_objects{group="",resource="namespaces"} 1' in text


def make_certificate(folder: Path, name: str) -> tuple[str, str]:
    """A self-signed certificate for 127.0.0.1 and its key, as PEM files."""
    import ipaddress
    from datetime import timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    from podling import clock

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(clock.now() - timedelta(hours=1))
        .not_valid_after(clock.now() + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = folder / f"{name}.crt", folder / f"{name}.key"
    cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return str(cert_file), str(key_file)


async def test_tls_with_client_certificates(tmp_path: Path) -> None:
    server_cert, server_key = make_certificate(tmp_path, "server")
    client_cert, client_key = make_certificate(tmp_path, "client")
    certificates: list[bytes | None] = []

    async def authenticate(headers: Any, certificate: bytes | None, path: str) -> User | None:
        certificates.append(certificate)
        return User("x")

    async with running(authenticator=authenticate) as server:
        http = HttpServer(server.app)
        port = await http.start(tls=tls_context(server_cert, server_key, client_ca=client_cert))
        try:
            for pair in (None, (client_cert, client_key)):
                context = ssl.create_default_context(cafile=server_cert)
                if pair:
                    context.load_cert_chain(*pair)
                async with (
                    aiohttp.ClientSession() as session,
                    session.get(f"https://127.0.0.1:{port}{PATH}", ssl=context) as response,
                ):
                    assert response.status == 200
        finally:
            await http.close()
    assert certificates[0] is None and certificates[1] is not None


async def test_lists_are_read_by_the_client_library() -> None:
    from podling.client.client import ApiClient
    from podling.client.http import HttpTransport
    from podling.client.kubeconfig import Config

    async with serving() as web_:
        client = ApiClient(HttpTransport(Config(server=f"http://127.0.0.1:{web_.http.port}")))
        try:
            await client.create(config_map("a"))
            listed = await client.list(core_v1.ConfigMap, "default")
            assert [o.metadata.name for o in listed.items] == ["a"]
        finally:
            await client.close()
