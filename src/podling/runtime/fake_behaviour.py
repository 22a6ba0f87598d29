"""What a virtual container does: data for simple cases, a small shell for the commands that people try things with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import msgspec

from podling.images.base import ImageConfig
from podling.runtime import fake_shell
from podling.runtime.base import ContainerConfig, Sink, Source


class ExecOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a command that is run beside the container's own ends, after `takes` seconds (None: never)."""

    exit_code: int = 0
    stdout: bytes = b""
    stderr: bytes = b""
    takes: float | None = 0.0


#: (argv, seconds since the container started) -> outcome.
Exec = Callable[[tuple[str, ...], float], ExecOutcome]
#: (port, from the client, to the client): one forwarded connection.
Serve = Callable[[int, Source, Sink], Awaitable[None]]


class Behaviour(msgspec.Struct, frozen=True, kw_only=True):
    """The life of a virtual container; seconds count from its start.

    It runs for `runs_for` seconds (None: until stopped) and ends with `exit_code`, OOMKilled if `oom_killed`.
    `log` are lines (seconds, text); `log_every` repeats the last line at that interval. `create_error` and
    `start_error` make the verbs fail. The stop signal ends it after `stop_takes` seconds with `stop_exit_code`, or
    never if `ignores_stop_signal`. Network probes succeed from `ready_after` on, until `healthy_for` has passed; a
    command of an exec is answered by `exec`, or by the small shell, or, unknown to it, succeeds while probes do.
    `script` plays the container's own command instead of `runs_for`. `cpu` in cores and `memory` in bytes is what it
    uses; more memory than its limit gets it OOMKilled.
    """

    runs_for: float | None = None
    exit_code: int = 0
    oom_killed: bool = False
    log: tuple[tuple[float, str], ...] = ()
    log_every: float | None = None
    create_error: str = ""
    start_error: str = ""
    start_takes: float = 0.0
    ignores_stop_signal: bool = False
    stop_takes: float = 0.0
    stop_exit_code: int = 0
    ready_after: float = 0.0
    healthy_for: float | None = None
    exec: Exec | None = None
    serve: Serve | None = None
    script: bool = False
    cpu: float = 0.001
    memory: int = 8 << 20

    def healthy(self, age: float) -> bool:
        """Whether probes succeed `age` seconds after the start."""
        return age >= self.ready_after and (self.healthy_for is None or age < self.healthy_for)


#: Chooses what a container does.
Chooser = Callable[[ContainerConfig], Behaviour]

#: A server: runs until it is told to stop, then ends at once with 0.
SERVER = Behaviour()
#: Plays the container's command; like any process with PID 1 it does not know of SIGTERM unless it asked for it.
SCRIPT = Behaviour(script=True)


def effective_argv(config: ContainerConfig, image: ImageConfig) -> tuple[str, ...]:
    """Kubernetes' rule: a command replaces entrypoint and cmd of the image, args alone replace only the cmd."""
    if config.command:
        return config.command + config.args
    return image.entrypoint + (config.args or image.cmd)


def default_behaviour(config: ContainerConfig) -> Behaviour:
    """Commands that the small shell knows are played; all else is a server."""
    return SCRIPT if fake_shell.knows(config.command + config.args) else SERVER


def by_image(behaviours: Mapping[str, Behaviour], otherwise: Chooser = default_behaviour) -> Chooser:
    """A chooser by image name (as the pod has it, such as `busybox:1.36`)."""

    def choose(config: ContainerConfig) -> Behaviour:
        found = behaviours.get(config.image_name) or behaviours.get(config.image)
        return found if found is not None else otherwise(config)

    return choose
