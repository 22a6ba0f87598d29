"""The node agent's server: who gets in, and what they get. Streams are tested with kubectl, in tests/unit/streaming."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from podling.api import authentication_v1, authorization_v1, core_v1, meta_v1
from podling.api.errors import bad_request
from podling.cluster import pki
from podling.kubelet import server_auth
from podling.kubelet.server import KubeletServer, subresources
from podling.runtime.base import Sink, Source, Streams
from podling.streaming.log_query import LogQuery


class Backend:
    def __init__(self) -> None:
        container = core_v1.Container(name="app", image="i")
        self.pod = core_v1.Pod(
            metadata=meta_v1.ObjectMeta(name="web", namespace="default", uid="u1"),
            spec=core_v1.PodSpec(containers=[container], init_containers=[core_v1.Container(name="init", image="i")]),
            status=core_v1.PodStatus(phase="Running"),
        )
        self.problem = ""
        self.queries: list[LogQuery] = []

    def pods(self) -> Sequence[core_v1.Pod]:
        return [self.pod]

    async def container_log(self, namespace: str, pod: str, container: str, query: LogQuery) -> AsyncIterator[bytes]:
        self.queries.append(query)
        if query.previous:
            raise bad_request('previous terminated container "app" in pod "web" not found')
        yield b"one\n"
        yield b"two\n"

    async def exec(
        self, namespace: str, pod: str, container: str, argv: Sequence[str], *, tty: bool, streams: Streams
    ) -> int:
        assert streams.stdout is not None
        await streams.stdout(" ".join(argv).encode())
        return 1 if argv[0] == "false" else 0

    async def attach(self, namespace: str, pod: str, container: str, *, tty: bool, streams: Streams) -> None:
        raise AssertionError

    async def port_forward(self, namespace: str, pod: str, port: int, stdin: Source, stdout: Sink) -> None:
        raise AssertionError

    def healthy(self) -> str:
        return self.problem

    async def stats_summary(self, *, only_cpu_and_memory: bool) -> Mapping[str, Any]:
        return {"only": only_cpu_and_memory}

    async def metrics(self, path: str) -> str | None:
        return {"/metrics": "all 1\n", "/metrics/resource": "res 1\n"}.get(path)

    def configuration(self) -> Mapping[str, Any]:
        return {"kind": "KubeletConfiguration"}


class Served:
    """A server without TLS and without questions."""

    def __init__(self, directory: Path) -> None:
        self.backend = Backend()
        self.server = KubeletServer(self.backend, server_auth.Open(), log_directory=directory)

    async def get(self, path: str, method: str = "GET") -> tuple[int, str]:
        async with (
            aiohttp.ClientSession(f"http://127.0.0.1:{self.server.port}") as session,
            session.request(method, path, allow_redirects=False) as answer,
        ):
            return answer.status, await answer.text()


@pytest_asyncio.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    made = Served(tmp_path)
    await made.server.start("127.0.0.1", 0, None)
    yield made
    await made.server.close()


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/healthz", 200, "ok"),
        ("/metrics", 200, "all 1\n"),
        ("/metrics/resource", 200, "res 1\n"),
        ("/metrics/none", 404, "404 page not found\n"),
        ("/stats/summary", 200, '{"only":false}'),
        ("/stats/summary?only_cpu_and_memory=true", 200, '{"only":true}'),
        ("/stats/other", 404, "404 page not found\n"),
        ("/configz", 200, '{"kubeletconfig":{"kind":"KubeletConfiguration"}}'),
        ("/nothing", 404, "404 page not found\n"),
        ("/containerLogs/default/web/app", 200, "one\ntwo\n"),
        ("/containerLogs/default/web/app?follow=true", 200, "one\ntwo\n"),
        ("/containerLogs/default/web/init", 200, "one\ntwo\n"),
        ("/containerLogs/default/none/app", 404, 'pod "none" does not exist\n'),
        ("/containerLogs/default/web/none", 404, 'container "none" not found in pod "web"\n'),
        (
            "/containerLogs/default/web/app?previous=true",
            400,
            'previous terminated container "app" in pod "web" not found\n',
        ),
        (
            "/containerLogs/default/web/app?follow=true&previous=true",
            400,
            'previous terminated container "app" in pod "web" not found\n',
        ),
    ],
)
async def test_what_is_read(served: Served, path: str, status: int, body: str) -> None:
    assert await served.get(path) == (status, body)


async def test_log_parameters_reach_the_agent(served: Served) -> None:
    await served.get("/containerLogs/default/web/app?tailLines=5&timestamps=true&limitBytes=9&sinceSeconds=3")
    assert served.backend.queries == [LogQuery(tail_lines=5, timestamps=True, limit_bytes=9, since_seconds=3)]
    status, text = await served.get("/containerLogs/default/web/app?tailLines=-5")
    assert status == 422 and "must be greater than or equal to 0" in text


async def test_a_sick_agent_says_why(served: Served) -> None:
    served.backend.problem = "the runtime is gone"
    assert await served.get("/healthz") == (500, "the runtime is gone\n")


async def test_pods_are_listed(served: Served) -> None:
    for path in ("/pods", "/runningpods/"):
        status, text = await served.get(path)
        assert status == 200 and '"kind":"PodList"' in text and '"name":"web"' in text


async def test_run_gives_output_or_the_failure(served: Served) -> None:
    assert await served.get("/run/default/web/app?cmd=echo%20hi", "POST") == (200, "echo hi")
    status, text = await served.get("/run/default/web/u1/app?cmd=false", "POST")
    assert (status, text) == (500, "command 'false' exited with 1: false\n")
    assert (await served.get("/run/default/web/other/app?cmd=x", "POST"))[0] == 404
    assert await served.get("/run/default/web/none?cmd=x", "POST") == (500, 'container not found ("none")\n')


async def test_the_nodes_own_logs_and_nothing_beside_them(served: Served, tmp_path: Path) -> None:
    (tmp_path / "syslog").write_text("line\n")
    (tmp_path / "pods").mkdir()
    (tmp_path / "pods" / "a.log").write_text("a\n")
    (tmp_path / "out").symlink_to("/etc")
    assert await served.get("/logs/syslog") == (200, "line\n")
    assert await served.get("/logs/pods/a.log") == (200, "a\n")
    status, text = await served.get("/logs/")
    assert status == 200 and '<a href="syslog">syslog</a>' in text and '<a href="pods/">pods/</a>' in text
    for path in ("/logs/none", "/logs/out/passwd", "/logs/%2e%2e/%2e%2e/etc/passwd", "/logs/..%2f..%2fetc/passwd"):
        assert (await served.get(path))[0] == 404


async def test_streams_want_an_upgrade(served: Served) -> None:
    for path in (
        "/exec/default/web/app?command=x&output=1",
        "/attach/default/web/app?output=1",
        "/portForward/default/web",
    ):
        assert await served.get(path, "POST") == (400, "Upgrade request required\n")
    status, text = await served.get("/exec/default/web/app?command=x", "POST")
    assert (status, text) == (400, "you must specify at least 1 of stdin, stdout, stderr\n")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/metrics/cadvisor", ("metrics",)),
        ("/stats/summary", ("stats",)),
        ("/logs/x", ("log",)),
        ("/pods", ("pods", "proxy")),
        ("/healthz", ("healthz", "proxy")),
        ("/exec/a/b/c", ("proxy",)),
        ("/", ("proxy",)),
    ],
)
def test_which_right_a_path_takes(path: str, expected: tuple[str, ...]) -> None:
    assert subresources(path) == expected


class Reviewer:
    """The API server, as the agent asks it."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def create(self, obj: Any) -> Any:
        if isinstance(obj, authentication_v1.TokenReview):
            self.asked.append(f"token {obj.spec.token}")
            good = obj.spec.token == "good"
            user = authentication_v1.UserInfo(username="scraper", groups=["monitoring"])
            obj.status = authentication_v1.TokenReviewStatus(authenticated=good, user=user if good else None)
        else:
            wanted = obj.spec.resource_attributes
            self.asked.append(f"{obj.spec.user} {wanted.verb} {wanted.resource}/{wanted.subresource} {wanted.name}")
            allowed = (obj.spec.user, wanted.subresource) in {("scraper", "metrics"), ("alice", "proxy")}
            obj.status = authorization_v1.SubjectAccessReviewStatus(allowed=allowed)
        return obj


class Guarded:
    """A server with TLS that asks the API server."""

    def __init__(self, directory: Path) -> None:
        self.pki = pki.Pki(directory / "pki")
        self.reviewer = Reviewer()
        access = server_auth.DelegatedAccess("n1", self.reviewer, trusted=["apiserver"])  # type: ignore[arg-type]
        self.server = KubeletServer(Backend(), access, log_directory=directory)

    async def start(self) -> None:
        pair = self.pki.serving("kubelet", "n1", ips=["127.0.0.1"])
        tls = server_auth.tls_context(pair.certificate_path, pair.key_path, self.pki.path("ca.crt"))
        await self.server.start("127.0.0.1", 0, tls)

    async def get(self, path: str, user: str = "", token: str = "") -> tuple[int, str]:
        tls = ssl.create_default_context(cadata=self.pki.ca.certificate.decode())
        if user:
            pair = self.pki.client(user, user)
            tls.load_cert_chain(pair.certificate_path, pair.key_path)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with (
            aiohttp.ClientSession(f"https://127.0.0.1:{self.server.port}", headers=headers) as session,
            session.get(path, ssl=tls) as answer,
        ):
            return answer.status, await answer.text()


@pytest_asyncio.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Guarded]:
    made = Guarded(tmp_path)
    await made.start()
    yield made
    await made.server.close()


async def test_the_api_server_gets_in_unasked(guarded: Guarded) -> None:
    assert (await guarded.get("/pods", user="apiserver"))[0] == 200
    assert guarded.reviewer.asked == []


async def test_nobody_does_not(guarded: Guarded) -> None:
    assert await guarded.get("/healthz") == (401, "Unauthorized\n")
    assert await guarded.get("/healthz", token="bad") == (401, "Unauthorized\n")


async def test_others_are_asked_for_once(guarded: Guarded) -> None:
    for _ in range(3):
        assert (await guarded.get("/metrics", token="good"))[0] == 200
    assert guarded.reviewer.asked == ["token good", "scraper get nodes/metrics n1"]


async def test_one_of_the_rights_is_enough_and_none_is_not(guarded: Guarded) -> None:
    assert (await guarded.get("/pods", user="alice"))[0] == 200
    assert guarded.reviewer.asked == ["alice get nodes/pods n1", "alice get nodes/proxy n1"]
    assert await guarded.get("/pods", user="bob") == (
        403,
        "Forbidden (user=bob, verb=get, resource=nodes, subresource(s)=[pods proxy])\n",
    )


async def test_a_stranger_to_the_authority_does_not_get_in(guarded: Guarded, tmp_path: Path) -> None:
    stranger = pki.Pki(tmp_path / "other").client("apiserver", "apiserver")
    tls = ssl.create_default_context(cadata=guarded.pki.ca.certificate.decode())
    tls.load_cert_chain(stranger.certificate_path, stranger.key_path)
    async with aiohttp.ClientSession(f"https://127.0.0.1:{guarded.server.port}") as session:
        with pytest.raises(aiohttp.ClientError):
            await session.get("/pods", ssl=tls)
