from __future__ import annotations

import asyncio

from podling import clock
from podling.apiserver.audit import latency
from podling.apiserver.audit.latency import Latency


def test_spans_are_written_as_go_writes_them() -> None:
    spans = {0.0005: "500µs", 0.7123: "712.3ms", 1.5: "1.5s", 62.5: "1m2.5s", 3723: "1h2m3s"}
    assert {seconds: latency.shown(seconds) for seconds in spans} == spans


def test_layers_are_told_of_slow_requests_only() -> None:
    async def main() -> None:
        found = Latency()
        found.spent("mutating-webhook", 0.1)
        found.spent("mutating-webhook", 0.2)
        found.spent("validating-webhook", 0.1)
        found.spent("validating-webhook", 0.05)
        await asyncio.sleep(0.5)
        assert found.annotations() == {}
        await asyncio.sleep(0.25)
        assert found.annotations() == {
            "apiserver.latency.k8s.io/mutating-webhook": "300ms",
            "apiserver.latency.k8s.io/validating-webhook": "100ms",
            "apiserver.latency.k8s.io/total": "750ms",
        }

    clock.run_virtual(main())
