"""Starting a cluster in the background, stopping it, and asking whether it runs."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from podling.apiserver.options import Options
from podling.cluster import preflight, progress, supervisor, turns
from podling.cluster.config import ClusterConfig, ClusterError, Layout, check, load, save

#: How long `up` waits for the nodes, and `down` for the processes.
START_SECONDS = 120.0
STOP_SECONDS = 60.0

Say = Callable[[str], None]


def settle(paths: Layout, wanted: ClusterConfig, chosen: set[str]) -> ClusterConfig:
    """The configuration to start with: the stored one where there is one, else `wanted`.

    `chosen` names the options that were given: one that contradicts the stored configuration raises ClusterError,
    because pods and addresses exist by it. The flags of the API server may change from one start to the next.
    """
    stored = load(paths)
    if stored is None:
        check(wanted)
        return wanted
    try:
        check(stored)
    except ClusterError as error:
        raise ClusterError(f"{paths.config} is damaged ({error}): restore it, or give another --data-dir") from error
    for field in msgspec.structs.fields(ClusterConfig):
        given, kept = getattr(wanted, field.name), getattr(stored, field.name)
        if field.name == "kube_apiserver":
            continue
        if field.name in chosen and given != kept:
            option = "--" + field.name.replace("_", "-")
            raise ClusterError(
                f"the cluster in {paths.data} has {option} {kept}, not {given}: leave the option out, give another "
                "--data-dir, or remove the cluster with `podling down --purge`"
            )
    return stored


def up(paths: Layout, config: ClusterConfig, say: Say) -> bool:
    """Start the cluster and wait until its nodes are ready. False if it runs already. Raises ClusterError.

    What fails or is interrupted (KeyboardInterrupt) leaves nothing running.
    """
    if turns.whose(paths) == "up":
        raise ClusterError("another `podling up` is starting this cluster: `podling status` shows how far it is")
    with _turn(paths, "up"):
        if supervisor.running_pid(paths):
            return False
        _prepare(paths, config)
        _start(paths, say)
    return True


def _start(paths: Layout, say: Say) -> None:
    """Start the supervisor, and follow it until all is ready. Raises ClusterError, after taking everything down."""
    reader, writer = os.pipe()
    try:
        with _interrupts_later(), open(paths.log("supervisor"), "ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "podling.cluster", str(paths.data)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                pass_fds=(writer,),
                env={**os.environ, progress.VARIABLE: str(writer)},
                cwd="/",
            )
            os.close(writer)
        _follow(reader, paths, say)
    except _Unfinished:
        raise
    except (ClusterError, KeyboardInterrupt) as error:
        with _interrupts_later():
            if isinstance(error, KeyboardInterrupt):
                say("interrupted: stopping what has been started")
            # It may not have said yet that it is this cluster's supervisor.
            process.terminate()
            process.wait(STOP_SECONDS)
            _take_down(paths, lambda _: None)
        raise
    finally:
        os.close(reader)


class _Unfinished(ClusterError):
    """It goes on starting, slower than anybody waits for."""


@contextmanager
def _interrupts_later() -> Iterator[None]:
    """What is done meanwhile is done whole: a Ctrl-C counts when it is over."""
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        raise KeyboardInterrupt


@contextmanager
def _turn(paths: Layout, purpose: str) -> Iterator[None]:
    with ExitStack() as held:
        try:
            held.enter_context(turns.turn(paths, purpose))
        except OSError as error:
            raise ClusterError(f"can't write to {paths.data}: {error.strerror}; give another --data-dir") from error
        yield


def foreground(paths: Layout, config: ClusterConfig) -> int:
    """Be the supervisor, until interrupted; the exit code."""
    with _turn(paths, "up"):
        if supervisor.running_pid(paths):
            raise ClusterError(f"the cluster in {paths.data} runs already: `podling down` stops it")
        _prepare(paths, config)
    return supervisor.main(paths)


def _prepare(paths: Layout, config: ClusterConfig) -> None:
    """Everything that can go wrong before a process is started. Raises ClusterError."""
    _check_options(config)
    if not config.simulate:
        preflight.check_real(config)
    preflight.check_port("0.0.0.0", config.port)
    try:
        save(paths, config)
        paths.logs.mkdir(exist_ok=True)
    except OSError as error:
        raise ClusterError(f"can't write to {paths.data}: {error.strerror}; give another --data-dir") from error


def _check_options(config: ClusterConfig) -> None:
    """What the API server would say of its options only later, in a log."""
    if config.kube_apiserver != Options():
        from podling.apiserver import assembly

        assembly.check(config.kube_apiserver)


def _follow(reader: int, paths: Layout, say: Say) -> None:
    """Show progress until all is ready. Raises ClusterError if it fails or takes too long."""
    pending = b""
    while True:
        ready, _, _ = select.select([reader], [], [], START_SECONDS)
        chunk = os.read(reader, 65536) if ready else b""
        if not ready:
            raise _Unfinished(f"the cluster was not ready after {START_SECONDS:.0f} s: see `podling logs`")
        if not chunk:
            raise ClusterError(f"the cluster did not start: {last_words(paths)}")
        *lines, pending = (pending + chunk).split(b"\n")
        for line in lines:
            stage, _, text = line.decode().partition(" ")
            if stage == "ready":
                return
            if stage == "taken":
                raise ClusterError(
                    "another `podling up` is starting this cluster: `podling status` shows how far it is"
                )
            if stage == "failed":
                raise ClusterError(text)
            if stage == "stopped":
                raise ClusterError("the cluster was stopped while it started: `podling up` starts it again")
            say(text)


def last_words(paths: Layout) -> str:
    """The newest line of the log of the part that spoke last, for a person."""
    logs = sorted(paths.logs.glob("*.log"), key=lambda p: p.stat().st_mtime)
    return f"{supervisor.last_line(logs[-1])} (in {logs[-1]})" if logs else f"nothing was logged in {paths.logs}"


def down(paths: Layout, say: Say, *, purge: bool = False) -> bool:
    """Stop every process, and take away pods, mounts, namespaces, routes and tables. Data stays, unless `purge`.

    False if there was nothing to stop. Safe to repeat, also after a crash, and while it starts.
    """
    if load(paths) is None and not paths.run.exists() and not turns.whose(paths):
        return False
    pid = supervisor.running_pid(paths) if turns.whose(paths) == "up" else None
    if pid is not None:
        # Who starts it learns of it, and takes down what there is.
        _terminate(pid)
    with _turn(paths, "down"):
        return _take_down(paths, say, purge=purge) or pid is not None


def _take_down(paths: Layout, say: Say, *, purge: bool = False) -> bool:
    """As `down`, by who has the turn."""
    config = load(paths)
    pid = supervisor.running_pid(paths)
    if pid:
        _terminate(pid)
        say("stopped the control plane and the node agents")
    if config is None:
        return bool(pid)
    if not config.simulate and sys.platform == "linux" and os.geteuid() == 0:
        from podling.cluster import teardown

        teardown.tear_down(config, paths)
        say("removed pods, mounts, namespaces, routes and tables")
    shutil.rmtree(paths.run, ignore_errors=True)
    if purge:
        shutil.rmtree(paths.data, ignore_errors=True)
        say(f"removed {paths.data}")
    return bool(pid) or purge


def _terminate(pid: int) -> None:
    """SIGTERM, and wait until the process has ended. Raises ClusterError if it does not."""
    try:
        handle = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return
    if handle is not None:
        ended = bool(select.select([handle], [], [], STOP_SECONDS)[0])
        os.close(handle)
    else:
        ended = _poll_end(pid)
    if not ended:
        raise ClusterError(f"process {pid} did not end within {STOP_SECONDS:.0f} s; see `podling logs supervisor`")


def _poll_end(pid: int) -> bool:
    """As above, where the system tells no one when somebody else's child ends."""
    for _ in range(int(STOP_SECONDS * 20)):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def require(paths: Layout) -> ClusterConfig:
    """The configuration of the cluster, which must exist. Raises ClusterError."""
    config = load(paths)
    if config is None:
        raise ClusterError(f"there is no cluster in {paths.data}: start one with `podling up`")
    return config


def find(data_dir: Path | None) -> Layout:
    """The cluster that a command without further words means: the given one, the default, or the simulated default."""
    from podling.cluster.config import default_data_dir, layout

    if data_dir is not None:
        return layout(data_dir)
    real = layout(default_data_dir())
    simulated = layout(default_data_dir(simulate=True))
    if not real.config.exists() and simulated.config.exists():
        return simulated
    if not supervisor.running_pid(real) and supervisor.running_pid(simulated):
        return simulated
    return real
