"""Signals by the names that images and pods give them, sent to one very process."""

from __future__ import annotations

import os
import signal

from podling import log
from podling.api.numbers import is_decimal
from podling.runtime import processes

logger = log.get(__name__)


def number(name: str) -> int:
    """SIGTERM, TERM, 15, SIGRTMIN+3 as a number; what is none of them is SIGTERM."""
    if is_decimal(name):
        return int(name)
    name = name.upper().removeprefix("SIG")
    if name.startswith("RTMIN+") and is_decimal(name[6:]):
        return signal.SIGRTMIN + int(name[6:])
    if name.startswith("RTMAX-") and is_decimal(name[6:]):
        return signal.SIGRTMAX - int(name[6:])
    try:
        return signal.Signals["SIG" + name]
    except KeyError:
        logger.warning("unknown stop signal %s; SIGTERM is sent", name)
        return signal.SIGTERM


def send(pid: int, started: int, number: int) -> None:
    """To that very process: another that has got its id since is left alone."""
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return
    try:
        if processes.start_time(pid) == started:
            signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        pass
    finally:
        os.close(pidfd)
