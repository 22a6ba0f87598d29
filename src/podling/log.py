"""Logging: one line an event, to stderr, with the room's name; times come from `podling.clock`."""

from __future__ import annotations

import logging
import sys

from podling import clock


class _Formatter(logging.Formatter):
    """`2026-01-02T03:04:05.678Z INFO  kubelet.pod_worker: message`, on the cluster's clock (virtual in simulations)."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        return clock.now().strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def get(name: str) -> logging.Logger:
    """The logger of a module: `log = logging.get(__name__)`."""
    return logging.getLogger(name)


def setup(level: str = "INFO") -> None:
    """Send podling's log to stderr at `level`; call once per process."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter("%(asctime)s %(levelname)-5s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
