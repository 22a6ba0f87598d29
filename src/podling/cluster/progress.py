"""How a cluster that starts in the background tells the command line how far it is: lines in an inherited pipe.

Each line is `<stage> <text>`; the stages are `step` (something is done), `ready` (all of it is), `failed`, and `taken`
(somebody else is the cluster's supervisor). The pipe
ends when the last process lets go of it, so a supervisor that dies is noticed at once.
"""

from __future__ import annotations

import os

#: Names the pipe's file descriptor in the environment of the supervisor.
VARIABLE = "PODLING_PROGRESS_FD"


def report(stage: str, text: str) -> None:
    """Tell whoever waits; nobody may be waiting."""
    descriptor = os.environ.get(VARIABLE)
    if descriptor is None:
        return
    try:
        os.write(int(descriptor), f"{stage} {text}\n".encode())
    except OSError:
        os.environ.pop(VARIABLE, None)


def end() -> None:
    """Close this process's end of the pipe."""
    descriptor = os.environ.pop(VARIABLE, None)
    if descriptor is not None:
        try:
            os.close(int(descriptor))
        except OSError:
            pass
