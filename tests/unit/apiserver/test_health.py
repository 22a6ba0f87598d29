"""/healthz, /livez and /readyz: words to the letter."""

from __future__ import annotations

import asyncio

from apiserver.harness import Server, virtual
from podling.apiserver.health import Unhealthy


async def ask(server: Server, path: str, **query: str | list[str]) -> tuple[int, str]:
    lists = {k: v for k, v in query.items() if isinstance(v, list)}
    single = {k: v if isinstance(v, str) else v[0] for k, v in query.items()}
    answer = await server.ask("GET", path, query=single, queries=lists)
    assert answer.headers["content-type"] == "text/plain; charset=utf-8" and answer.body is not None
    return answer.status, answer.body.decode()


@virtual
async def test_all_is_well(server: Server) -> None:
    for path in ("/healthz", "/livez", "/readyz", "/livez/", "/readyz/etcd", "/livez/ping", "/readyz/shutdown"):
        assert await ask(server, path) == (200, "ok")
    assert await ask(server, "/livez", verbose="") == (200, "[+]ping ok\n[+]log ok\n[+]etcd ok\nlivez check passed\n")
    assert await ask(server, "/readyz", verbose="true") == (
        200,
        "[+]ping ok\n[+]log ok\n[+]etcd ok\n[+]etcd-readiness ok\n[+]informer-sync ok\n[+]shutdown ok\n"
        "readyz check passed\n",
    )


@virtual
async def test_a_check_that_fails_says_why_only_to_who_asks_for_it(server: Server) -> None:
    async def broken() -> None:
        raise Unhealthy("the disk is full")

    server.app.health.add("disk", broken, endpoints=("livez",))
    assert await ask(server, "/livez") == (
        500,
        "[+]ping ok\n[+]log ok\n[+]etcd ok\n[-]disk failed: reason withheld\nlivez check failed\n",
    )
    assert await ask(server, "/livez/disk") == (500, "internal server error: the disk is full\n")
    assert (await ask(server, "/readyz"))[0] == 200
    assert (await server.fails("GET", "/readyz/disk")).code == 404


@virtual
async def test_checks_may_be_left_out(server: Server) -> None:
    server.app.ready = False
    assert (await ask(server, "/readyz"))[0] == 500
    assert await ask(server, "/readyz", exclude="shutdown") == (200, "ok")
    assert await ask(server, "/livez", verbose="", exclude=["etcd", "nothing", "at all"]) == (
        200,
        "[+]ping ok\n[+]log ok\n[+]etcd excluded: ok\nwarn: some health checks cannot be excluded: no matches for "
        '"at all","nothing"\nlivez check passed\n',
    )
    assert await ask(server, "/readyz/shutdown") == (500, "internal server error: process is shutting down\n")


@virtual
async def test_parts_of_the_start(server: Server) -> None:
    health = server.app.health
    health.grace = 10.0
    finish = health.hook("poststarthook/later")
    assert await ask(server, "/readyz/poststarthook/later") == (500, "internal server error: not finished\n")
    assert "[-]poststarthook/later failed: reason withheld\n" in (await ask(server, "/healthz"))[1]
    # Whoever restarts a server that does not live gives it time to start.
    assert (await ask(server, "/livez"))[0] == 200
    await asyncio.sleep(11)
    assert (await ask(server, "/livez"))[0] == 500
    finish()
    assert await ask(server, "/livez/poststarthook/later") == (200, "ok")
    assert (await ask(server, "/readyz"))[0] == 200


@virtual
async def test_a_store_that_does_not_answer(server: Server) -> None:
    async def never(*_: object) -> None:
        await asyncio.sleep(3600)

    server.store.get = never  # type: ignore[method-assign, assignment]
    assert await ask(server, "/livez/etcd") == (500, "internal server error: TimeoutError\n")


@virtual
async def test_results_are_counted(server: Server) -> None:
    await ask(server, "/readyz")
    server.app.ready = False
    await ask(server, "/readyz")
    answer = await server.ask("GET", "/metrics/slis")
    assert answer.body is not None
    lines = answer.body.decode().splitlines()
    # Twice asked, and once by the scrape itself.
    assert 'kubernetes_healthchecks_total{name="ping",status="success",type="readyz"} 3' in lines
    assert 'kubernetes_healthchecks_total{name="shutdown",status="error",type="readyz"} 2' in lines
    assert 'kubernetes_healthcheck{name="shutdown",type="readyz"} 0' in lines
    assert 'kubernetes_healthcheck{name="etcd",type="livez"} 1' in lines
