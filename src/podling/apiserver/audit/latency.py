"""Where the time of a request went: the annotations apiserver.latency.k8s.io/... of requests that took long."""

from __future__ import annotations

from podling import clock

#: It is recorded of requests that took longer than this, in seconds.
SLOW = 0.5

_PREFIX = "apiserver.latency.k8s.io/"


class Latency:
    """Begins when it is made."""

    def __init__(self) -> None:
        self._began = clock.elapsed()
        self._layers: dict[str, float] = {}

    @property
    def total(self) -> float:
        return clock.elapsed() - self._began

    def spent(self, layer: str, seconds: float) -> None:
        """Time that a layer took; validating webhooks are asked at the same time, all others one after the other."""
        before = self._layers.get(layer, 0.0)
        self._layers[layer] = max(before, seconds) if layer == "validating-webhook" else before + seconds

    def annotations(self) -> dict[str, str]:
        """Nothing, if it was fast."""
        total = self.total
        if total <= SLOW or not self._layers:
            return {}
        return {_PREFIX + layer: shown(took) for layer, took in {**self._layers, "total": total}.items() if took}


def shown(seconds: float) -> str:
    """A span in Go's notation: `1.5s`, `712.345ms`, `1m2.5s`."""
    if seconds < 1:
        unit, size = ("ms", 1e3) if seconds >= 1e-3 else ("µs", 1e6)
        return f"{_plain(seconds * size)}{unit}"
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    text = f"{_plain(rest)}s"
    return f"{hours}h{minutes}m{text}" if hours else f"{minutes}m{text}" if minutes else text


def _plain(number: float) -> str:
    return f"{number:.6f}".rstrip("0").rstrip(".")
