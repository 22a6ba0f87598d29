"""Nobody sees, by whatever spelling of a request, more than their roles name: asked over HTTP, decided by RBAC.

Bob may get, list and watch the Secret `his`, look at pods and read the subresources of pods; the Secret `other` and
running things in pods are not for him.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from podling.api import core_v1, meta_v1, rbac_v1
from podling.api.request import User
from podling.apiserver.assembly import Assembly, Settings
from podling.apiserver.handlers.streaming import Streaming
from podling.apiserver.request_info import RequestInfo
from podling.apiserver.server import HttpServer
from podling.client.client import ApiClient
from podling.store.memory import MemoryStore

SUBRESOURCES = [f"pods/{name}" for name in ("exec", "attach", "portforward", "log", "proxy")]
READ = ["get", "list", "watch"]
SECRETS = "/api/v1/namespaces/default/secrets"
PODS = "/api/v1/namespaces/default/pods"
GROUP = "rbac.authorization.k8s.io"


class Asking:
    """Requests of one user."""

    def __init__(self, session: aiohttp.ClientSession, port: int) -> None:
        self._session = session
        self._root = f"http://127.0.0.1:{port}"

    async def __call__(self, path: str, method: str = "GET", user: str = "bob", **headers: str) -> tuple[int, str]:
        """Status and body; of a watch what comes within its second."""
        url = aiohttp.client.URL(self._root + path, encoded=True)
        async with self._session.request(method, url, headers={"user": user, **headers}) as response:
            return response.status, await response.text()


async def _authenticate(headers: Mapping[str, str], certificate: bytes | None, path: str) -> User:
    user = headers["user"]
    return User(user, ("system:nodes",) if user.startswith("system:node:") else ())


class Opened(Streaming):
    """Says what would be opened instead of opening it."""

    async def _serve(self, request: web.BaseRequest, info: RequestInfo) -> web.StreamResponse:
        return web.Response(text=f"opened {info.subresource}")


@asynccontextmanager
async def serving() -> AsyncIterator[Asking]:
    store = MemoryStore()
    await store.open()
    assembly = Assembly(store, Settings())
    assembly.app.authenticator = _authenticate
    await assembly.start()
    await _objects(ApiClient(assembly.app))
    http = HttpServer(assembly.app, streaming=Opened(assembly.app, None))  # type: ignore[arg-type]
    port = await http.start()
    async with aiohttp.ClientSession() as session:
        try:
            yield Asking(session, port)
        finally:
            await http.close()
            await assembly.close()
            await store.close()


async def _objects(client: ApiClient) -> None:
    def meta(name: str) -> meta_v1.ObjectMeta:
        return meta_v1.ObjectMeta(name=name, namespace="default")

    await client.create(core_v1.Namespace(metadata=meta_v1.ObjectMeta(name="default")))
    await client.create(core_v1.ServiceAccount(metadata=meta("default")))
    for name in ("his", "other"):
        await client.create(core_v1.Secret(metadata=meta(name), string_data={"k": name}))
    pod = core_v1.Pod(
        metadata=meta("p"), spec=core_v1.PodSpec(node_name="n2", containers=[core_v1.Container(name="c", image="i")])
    )
    await client.create(pod)
    rules = [
        rbac_v1.PolicyRule(verbs=READ, api_groups=[""], resources=["secrets"], resource_names=["his"]),
        rbac_v1.PolicyRule(verbs=READ, api_groups=[""], resources=["pods"]),
        rbac_v1.PolicyRule(verbs=[*READ, "update", "patch", "delete"], api_groups=[""], resources=SUBRESOURCES),
    ]
    await client.create(rbac_v1.Role(metadata=meta("r"), rules=rules))
    binding = rbac_v1.RoleBinding(
        metadata=meta("b"),
        role_ref=rbac_v1.RoleRef(api_group=GROUP, kind="Role", name="r"),
        subjects=[rbac_v1.Subject(api_group=GROUP, kind="User", name="bob")],
    )
    await client.create(binding)


@pytest.mark.parametrize(
    "path",
    [
        f"{SECRETS}/his",
        f"{SECRETS}/%68is",
        f"{SECRETS}?fieldSelector=metadata.name=his",
        f"{SECRETS}?fieldSelector=metadata.name==his",
        f"{SECRETS}?fieldSelector=metadata.name%3Dhis,type!%3Dx",
        f"{SECRETS}?watch=1&timeoutSeconds=1&fieldSelector=metadata.name=his",
        "/api/v1/watch/namespaces/default/secrets/his?timeoutSeconds=1",
        "/api/v1/watch/namespaces/default/secrets/his?timeoutSeconds=1&fieldSelector=metadata.name=his",
    ],
)
async def test_one_name_may_be_read(path: str) -> None:
    async with serving() as ask:
        status, body = await ask(path)
        assert status == 200 and '"name":"his"' in body and "other" not in body


@pytest.mark.parametrize(
    "path",
    [
        SECRETS,
        f"{SECRETS}/other",
        f"{SECRETS}/%6fther",
        f"{SECRETS}/his/../other",
        f"{SECRETS}/his%2f..%2fother",
        f"/{SECRETS}/other",
        f"{SECRETS}/other/",
        f"{SECRETS}/his/status",
        "/api/v1/secrets?fieldSelector=metadata.name=his",
        "/api/v1/namespaces//secrets?fieldSelector=metadata.name=his",
        "/api/v1/watch/namespaces/default/secrets?timeoutSeconds=1",
        "/api/v1/watch/namespaces/default/secrets/other?timeoutSeconds=1",
        "/api/v1/proxy/namespaces/default/secrets/his",
        # Selectors that name `his` in other places than the one that counts.
        f"{SECRETS}?fieldSelector=metadata.name!=his",
        f"{SECRETS}?fieldSelector=type!=x%5C,metadata.name=his",
        f"{SECRETS}?fieldSelector=type!=x%5C%2Cmetadata.name%3D%3Dhis",
        f"{SECRETS}?fieldSelector=metadata.name!=x%5C,metadata.name=his",
        f"{SECRETS}?fieldSelector=metadata.name=his%5C,metadata.name=other",
        f"{SECRETS}?fieldSelector=type!=&fieldSelector=metadata.name=his",
        f"{SECRETS}?labelSelector=a,metadata.name=his",
        f"{SECRETS}?fieldSelector=%20metadata.name=his",
        f"{SECRETS}?fieldSelector=metadata.name=%2e%2e",
    ],
)
async def test_nothing_else_is_shown(path: str) -> None:
    async with serving() as ask:
        status, body = await ask(path)
        assert status in (400, 403, 404, 405), body
        assert base64.b64encode(b"other").decode() not in body


@pytest.mark.parametrize(
    "selector",
    ["metadata.name=his,metadata.name=other", "metadata.name=his,metadata.name!=his", "metadata.name=his,type=x",
     "metadata.name=his,metadata.namespace=kube-system"],
)  # fmt: skip
@pytest.mark.parametrize("watch", ["", "&watch=true&timeoutSeconds=1"])
async def test_what_a_selector_demands_must_all_hold(selector: str, watch: str) -> None:
    async with serving() as ask:
        status, body = await ask(f"{SECRETS}?fieldSelector={selector}{watch}")
        assert status == 200 and '"name"' not in body


async def test_a_watch_of_one_name_and_a_selector_of_another() -> None:
    async with serving() as ask:
        path = "/api/v1/watch/namespaces/default/secrets/his?fieldSelector=metadata.name=other"
        status, body = await ask(path)
        assert status == 400 and "fieldSelector metadata.name doesn't match requested name" in body


async def test_a_watch_by_path_keeps_its_selectors() -> None:
    async with serving() as ask:
        path = "/api/v1/watch/namespaces/default/pods?timeoutSeconds=1&"
        assert '"name":"p"' in (await ask(f"{path}fieldSelector=spec.nodeName=n2"))[1]
        assert '"name":"p"' not in (await ask(f"{path}fieldSelector=spec.nodeName=n1"))[1]
        assert '"name":"p"' not in (await ask(f"{path}labelSelector=a"))[1]


@pytest.mark.parametrize(
    ("selector", "status"),
    [
        ("spec.nodeName=n1", 200),
        ("spec.nodeName=n1,status.phase!=Failed", 200),
        ("status.phase!=x%5C,spec.nodeName=n1", 403),
        ("spec.nodeName!=n1", 403),
        ("spec.nodeName=n1%5C,x", 403),
    ],
)
async def test_a_node_sees_its_own_pods_only(selector: str, status: int) -> None:
    async with serving() as ask:
        found, body = await ask(f"/api/v1/pods?fieldSelector={selector}", user="system:node:n1")
        assert found == status and '"name":"p"' not in body


@pytest.mark.parametrize("subresource", ["exec", "attach", "portforward"])
async def test_who_may_only_read_runs_nothing(subresource: str) -> None:
    async with serving() as ask:
        status, body = await ask(f"{PODS}/p/{subresource}?command=id&stdout=1")
        assert status == 403 and f'cannot create resource \\"pods/{subresource}\\"' in body
        for method in ("PUT", "PATCH", "DELETE"):
            assert (await ask(f"{PODS}/p/{subresource}?command=id&stdout=1", method))[0] == 405
        assert (await ask(f"{PODS}/p/{subresource}", "POST"))[0] == 403


async def test_methods_of_logs_and_proxies() -> None:
    async with serving() as ask:
        assert await ask(f"{PODS}/p/log") == (200, "opened log")
        for method in ("PUT", "PATCH", "DELETE", "HEAD"):
            assert (await ask(f"{PODS}/p/log", method))[0] == 405
        assert await ask(f"{PODS}/p/proxy", "PATCH") == (200, "opened proxy")
        assert (await ask(f"{PODS}/p/proxy", "POST"))[0] == 403
