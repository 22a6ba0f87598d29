"""The HTTP server under load and at its end: who is served, how long it may take, how it shuts down."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from apiserver.flowcontrol.test_levels import limited, schema
from apiserver.harness import Server, config_map, running
from podling.api import flowcontrol_v1 as v1
from podling.api import struct
from podling.api.request import Request, User
from podling.apiserver.answer import Answer
from podling.apiserver.flowcontrol.gate import Gate
from podling.apiserver.flowcontrol.levels import Levels
from podling.apiserver.flowcontrol.limiter import Limiter
from podling.apiserver.flowcontrol.maxinflight import MaxInFlight
from podling.apiserver.options import Options
from podling.apiserver.request_info import RequestInfo
from podling.apiserver.server import HttpServer
from podling.metrics import PROCESS, text

PATH = "/api/v1/namespaces/default/configmaps"


class Web:
    """A server on loopback, and clients of it; `gates` hold back the answers of `/slow/<name>`."""

    def __init__(self, server: Server, http: HttpServer, session: aiohttp.ClientSession) -> None:
        self.server = server
        self.http = http
        self.session = session
        self.entered = 0
        self.release = asyncio.Event()
        server.app.paths["/slow"] = self._slow

    async def _slow(self, request: Request, info: RequestInfo, user: User) -> Answer:
        self.entered += 1
        await self.release.wait()
        return Answer(body=b"done")

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.http.port}{path}"

    async def ask(self, path: str, *, user: str = "ann", method: str = "GET", **more: Any) -> tuple[int, Any, str]:
        headers = {"x-user": user}
        async with self.session.request(method, self.url(path), headers=headers, **more) as response:
            return response.status, response.headers, await response.text()

    async def slow(self, count: int, user: str = "ann", path: str = "/slow") -> list[asyncio.Task[Any]]:
        """Requests that are under way."""
        before = self.entered
        tasks = [asyncio.create_task(self.ask(path, user=user)) for _ in range(count)]
        await until(lambda: self.entered == before + count)
        return tasks


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


async def authenticate(headers: Any, certificate: bytes | None, path: str) -> User | None:
    name = headers.get("x-user", "")
    return User(name, ("system:masters",) if name == "admin" else ("system:authenticated",))


@asynccontextmanager
async def serving(limiter: Limiter | None = None, **options: Any) -> AsyncIterator[Web]:
    async with running(authenticator=authenticate) as server:
        http = HttpServer(server.app, limiter=limiter, options=Options(**options))
        await http.start()
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:
            web = Web(server, http, session)
            try:
                yield web
            finally:
                web.release.set()
                await http.close()


def gate() -> Gate:
    """Two seats for Ann, four places in queues, and the others' seats apart."""
    levels = Levels(12, 0.0)
    mine = limited("mine", 1, borrowingLimitPercent=0)
    assert mine.spec.limited is not None and mine.spec.limited.limit_response.queuing is not None
    queuing = mine.spec.limited.limit_response.queuing
    queuing.queues, queuing.hand_size, queuing.queue_length_limit = 1, 1, 4
    everything = schema("anns", "mine", "ann")
    paths = {"verbs": ["*"], "nonResourceURLs": ["/slow"]}
    rule = (everything.spec.rules or [])[0]
    rule.non_resource_rules = [struct.from_dict(paths, v1.NonResourcePolicyRule)]
    levels.digest([mine], [everything], 0.0)
    return Gate(levels, lambda _: None)


async def test_under_a_flood_who_is_more_important_is_served_and_the_rest_waits_or_comes_again() -> None:
    async with serving(gate()) as web:
        await web.slow(2)
        waiting = [asyncio.create_task(web.ask("/slow")) for _ in range(4)]
        await until(lambda: web.http._limiter.levels.levels["mine"].set.waiting == 4)  # type: ignore[union-attr]
        status, headers, body = await web.ask(PATH)
        assert (status, body) == (429, "Too many requests, please try again later.\n")
        assert headers["retry-after"] == "1" and headers["content-type"] == "text/plain; charset=utf-8"
        assert headers["x-kubernetes-pf-flowschema-uid"] == "uid-of-anns"
        assert headers["x-kubernetes-pf-prioritylevel-uid"] == "uid-of-mine"
        # Others, and above all the administrator, do not notice.
        assert (await web.ask(PATH, user="bob"))[0] == 200
        assert (await web.ask(PATH, user="admin"))[0] == 200
        # Neither do the parts of this process.
        await web.server.client.create(config_map("a"))
        web.release.set()
        answers = await asyncio.gather(*waiting)
        assert [a[0] for a in answers] == [200] * 4
        assert answers[0][1]["x-kubernetes-pf-flowschema-uid"] == "uid-of-anns"


async def test_a_watch_takes_a_seat_only_until_it_has_begun() -> None:
    async with serving(gate()) as web:
        watches = []
        for _ in range(5):
            response = await web.session.get(web.url(f"{PATH}?watch=true"), headers={"x-user": "ann"})
            assert response.status == 200 and response.headers["x-kubernetes-pf-prioritylevel-uid"] == "uid-of-mine"
            watches.append(response)
        assert (await web.ask(PATH))[0] == 200
        for response in watches:
            response.close()


async def test_plain_limits() -> None:
    async with serving(MaxInFlight(2, 1)) as web:
        await web.slow(1)
        await web.slow(1, user="admin")
        status, headers, body = await web.ask(PATH)
        assert (status, headers["retry-after"], body) == (429, "1", "Too many requests, please try again later.\n")
        assert "x-kubernetes-pf-flowschema-uid" not in headers
        assert (await web.ask(PATH, user="admin"))[0] == 200
        sent = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "a"}}
        assert (await web.ask(PATH, method="POST", json=sent))[0] == 201


async def test_a_slow_reader_keeps_its_seat_and_no_one_elses() -> None:
    async with serving(MaxInFlight(1, 1)) as web:
        for index in range(20):
            await web.server.client.create(config_map(f"big-{index}", data={"k": "x" * 500_000}))
        reader, writer = await asyncio.open_connection("127.0.0.1", web.http.port, limit=1024)
        writer.write(f"GET {PATH} HTTP/1.1\r\nHost: x\r\nX-User: ann\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        assert (await web.ask(PATH))[0] == 429
        assert (await web.ask(PATH, user="admin"))[0] == 200
        await reader.readexactly(int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0]))
        await asyncio.sleep(0.05)
        assert (await web.ask(PATH))[0] == 200
        # Nor does it keep it when it goes.
        writer.write(f"GET {PATH} HTTP/1.1\r\nHost: x\r\nX-User: ann\r\n\r\n".encode())
        await reader.readuntil(b"\r\n\r\n")
        assert (await web.ask(PATH))[0] == 429
        writer.close()
        await asyncio.sleep(0.05)
        assert (await web.ask(PATH))[0] == 200


async def test_a_request_may_take_so_long_and_not_longer() -> None:
    async with serving(request_timeout=0.2) as web:
        status, _, body = await web.ask("/slow")
        assert status == 504 and json.loads(body) == {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": "Timeout: request did not complete within the allotted timeout",
            "reason": "Timeout",
            "details": {},
            "code": 504,
        }
        # The connection goes on, and watches have all the time of the world.
        assert (await web.ask(PATH))[0] == 200
        async with web.session.get(web.url(f"{PATH}?watch=true")) as response:
            await asyncio.sleep(0.3)
            await web.server.client.create(config_map("a"))
            assert json.loads(await response.content.readline())["object"]["metadata"]["name"] == "a"


@pytest.mark.parametrize(("timeout", "status"), [("100ms", 504), ("0s", 200), ("2h", 200), ("1s", 200)])
async def test_clients_may_give_less_time(timeout: str, status: int) -> None:
    async with serving() as web:
        asyncio.get_running_loop().call_later(0.3, web.release.set)
        assert (await web.ask(f"/slow?timeout={timeout}"))[0] == status


async def test_a_time_that_is_none() -> None:
    async with serving() as web:
        status, _, body = await web.ask(f"{PATH}?timeout=soon")
        message = json.loads(body)["message"]
        assert status == 400
        assert message == 'invalid timeout specified in the request URL - time: invalid duration "soon"'


async def test_shutting_down_lets_requests_end_and_refuses_new_ones() -> None:
    async with serving() as web:
        [running_] = await web.slow(1)
        kept = await web.session.get(web.url(PATH))
        await kept.read()
        closing = asyncio.create_task(web.http.drain())
        await until(lambda: web.http._closing)
        # Nobody is listening any more; on a connection that is there, a request is told so.
        status, headers, body = await web.ask(PATH)
        assert (status, headers["retry-after"], headers["connection"]) == (503, "1", "close")
        assert json.loads(body)["message"] == "apiserver is shutting down"
        with pytest.raises(aiohttp.ClientConnectorError):
            async with aiohttp.ClientSession() as session, session.get(web.url(PATH)):
                pass
        assert not closing.done() and not running_.done()
        web.release.set()
        assert (await running_)[0] == 200
        await closing


async def test_readiness_goes_first_and_requests_are_served_for_a_while() -> None:
    async with serving(shutdown_delay_duration=0.3, shutdown_send_retry_after=True) as web:
        slow = await web.slow(1)
        closing = asyncio.create_task(web.http.drain())
        await asyncio.sleep(0.05)
        status, _, body = await web.ask("/readyz")
        assert status == 500 and "[-]shutdown failed: reason withheld\n" in body
        assert (await web.ask("/livez"))[0] == 200
        assert (await web.ask(PATH))[0] == 200
        await until(lambda: web.http._closing)
        status, headers, body = await web.ask(PATH)
        assert (status, body) == (429, "The apiserver is shutting down, please try again later.\n")
        assert (headers["retry-after"], headers["connection"]) == ("5", "close")
        # Who looks after the server is answered to the last.
        for path in ("/readyz", "/livez", "/healthz", "/metrics"):
            assert (await web.ask(path))[0] in (200, 500)
        web.release.set()
        await asyncio.gather(*slow, closing)


async def test_a_request_that_does_not_end_does_not_hold_up_the_end() -> None:
    async with serving(request_timeout=0.3) as web:
        [running_] = await web.slow(1)
        async with asyncio.timeout(2):
            await web.http.drain()
        assert (await running_)[0] == 504


async def watch(web: Web, query: str) -> AsyncIterator[Any]:
    async with web.session.get(web.url(f"{PATH}?watch=true&{query}")) as response:
        async for line in response.content:
            yield json.loads(line)


async def test_a_watch_that_ends_with_the_server_goes_on_without_a_gap() -> None:
    async with serving() as web:
        seen = []
        reading = watch(web, "allowWatchBookmarks=true")
        await web.server.client.create(config_map("a"))
        seen.append(await anext(reading))
        closing = asyncio.create_task(web.http.drain())
        rest = [event async for event in reading]
        await closing
        # It ended in order, with word of how far it had come; what comes now is for the next server.
        assert [e["type"] for e in rest] == ["BOOKMARK"]
        await web.server.client.create(config_map("b"))
        version = rest[-1]["object"]["metadata"]["resourceVersion"]
        web.http = HttpServer(web.server.app)
        await web.http.start()
        on = watch(web, f"resourceVersion={version}")
        assert (await anext(on))["object"]["metadata"]["name"] == "b"
        await on.aclose()  # type: ignore[attr-defined]


async def test_watches_end_one_after_the_other_if_there_is_time() -> None:
    async with serving(shutdown_watch_termination_grace_period=0.2) as web:
        responses = [await web.session.get(web.url(f"{PATH}?watch=true")) for _ in range(50)]
        ended: list[float] = []
        loop = asyncio.get_running_loop()

        async def read(response: aiohttp.ClientResponse) -> None:
            await response.read()
            ended.append(loop.time())

        readers = [asyncio.create_task(read(r)) for r in responses]
        await web.http.drain()
        await asyncio.gather(*readers)
        # 250 a second, in steps of twenty.
        assert max(ended) - min(ended) > 0.1


async def test_what_is_counted() -> None:
    def value(line: str) -> float:
        found = [x for x in text(PROCESS).splitlines() if x.startswith(line)]
        return float(found[0].rpartition(" ")[2]) if found else 0.0

    where = 'component="apiserver",dry_run="",group="",resource="configmaps",scope="namespace",subresource=""'
    listed = f'apiserver_request_total{{code="200",{where},verb="LIST",version="v1"}}'
    bare = where.replace('dry_run="",', "")
    refused = f'apiserver_request_terminations_total{{code="429",{bare},verb="LIST",version="v1"}}'
    watching = f'apiserver_longrunning_requests{{{bare},verb="WATCH",version="v1"}}'
    sizes = f'apiserver_response_sizes_sum{{{bare},verb="LIST",version="v1"}}'
    before = [value(x) for x in (listed, refused, watching, sizes)]
    limits: Any = MaxInFlight(1, 1)
    async with serving(limits) as web:
        _, _, body = await web.ask(PATH)
        await web.slow(1)
        await web.ask(PATH)
        response = await web.session.get(web.url(f"{PATH}?watch=true"))
        assert value(watching) == before[2] + 1
        response.close()
        web.release.set()
        await until(lambda: value(watching) == before[2])
        # What is not served is not counted: anybody could make labels up.
        await web.ask("/api/v1/namespaces/default/nonsenses", user="admin")
    assert value(listed) == before[0] + 1 and value(refused) == before[1] + 1
    assert value(sizes) >= before[3] + len(body) and "nonsenses" not in text(PROCESS)


async def test_every_request_has_its_turn() -> None:
    """Hundreds of connections that never stop asking do not keep a heartbeat from being heard."""

    async def flood(web: Web, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await web.ask(PATH)

    async with serving(gate()) as web:
        stop = asyncio.Event()
        tasks = [asyncio.create_task(flood(web, stop)) for _ in range(300)]
        await asyncio.sleep(0.5)
        for _ in range(3):
            async with asyncio.timeout(3):
                assert (await web.ask(PATH, user="admin"))[0] == 200
        stop.set()
        await asyncio.gather(*tasks)
