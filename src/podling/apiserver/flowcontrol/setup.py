"""Priority and fairness put together: what a server needs of it, by its options."""

from __future__ import annotations

from collections.abc import Callable

from podling import clock
from podling.apiserver.cache import ResourceCache
from podling.apiserver.core import Core
from podling.apiserver.flowcontrol import dump, gauges
from podling.apiserver.flowcontrol.consumer import Consumer
from podling.apiserver.flowcontrol.gate import Gate
from podling.apiserver.flowcontrol.levels import Levels
from podling.apiserver.flowcontrol.limiter import Limiter
from podling.apiserver.flowcontrol.maxinflight import MaxInFlight
from podling.apiserver.flowcontrol.producer import Producer
from podling.apiserver.options import OptionError, Options
from podling.apiserver.request_info import RequestInfo
from podling.metrics import Registry

_HOOKS = "poststarthook/priority-and-fairness"


def check(options: Options) -> None:
    """Raises OptionError."""
    if options.enable_priority_and_fairness and not options.max_requests_inflight + (
        options.max_mutating_requests_inflight
    ):
        raise OptionError(
            "max-requests-inflight and max-mutating-requests-inflight are both 0, which leaves priority and fairness "
            "nothing to share out: raise one of them, or set enable-priority-and-fairness=false"
        )
    if options.request_timeout <= 0:
        raise OptionError("request-timeout must be longer than 0s: write request-timeout=1m")


class FlowControl:
    """`limiter` is for the HTTP server; its numbers are shown in `registry`. `start` when the cache is loaded.

    `hook` makes a health check, and gives what says that it is passed (`Health.hook`).
    """

    def __init__(
        self,
        app: Core,
        options: Options,
        registry: Registry,
        *,
        hook: Callable[[str], Callable[[], None]],
        now: Callable[[], float] = clock.real_seconds,
    ) -> None:
        self._hooks = []
        self.consumer: Consumer | None = None
        self.limiter: Limiter

        def cache_of(info: RequestInfo) -> ResourceCache | None:
            item = app.served.get((info.group, info.version, info.resource))
            return item.cache if item is not None and not item.resource.virtual else None

        reading, writing = options.max_requests_inflight, options.max_mutating_requests_inflight
        if options.enable_priority_and_fairness:
            levels = Levels(reading + writing, now())
            self.limiter = Gate(levels, cache_of, now=now)
            self.consumer = Consumer(app, levels, now=now)
            gauges.register(registry, levels)
            app.paths.update(dump.handlers(levels, now))
            self._hooks += [hook(f"{_HOOKS}-config-consumer"), hook(f"{_HOOKS}-filter")]
        else:
            self.limiter = MaxInFlight(reading, writing, now=now)
            self._hooks.append(hook("poststarthook/max-in-flight-filter"))
        self.producer = Producer(app, hook(f"{_HOOKS}-config-producer"))
        registry.gauge(
            "apiserver_current_inflight_requests",
            "[STABLE] Maximal number of currently used inflight request limit of this apiserver per request kind in "
            "last second.",
            ("request_kind",),
            self.limiter.executing.read,
        )
        registry.gauge(
            "apiserver_current_inqueue_requests",
            "[ALPHA] Maximal number of queued requests in this apiserver per request kind in last second.",
            ("request_kind",),
            self.limiter.waiting.read,
        )

    def start(self) -> None:
        if self.consumer is not None:
            self.consumer.start()
        self.producer.start()
        for started in self._hooks:
            started()

    async def close(self) -> None:
        await self.producer.close()
        if self.consumer is not None:
            await self.consumer.close()
