"""The supervisor: starts a cluster's processes, starts them again when they die, and takes them down.

It imports what the parts share and forks them: they start fast and share that memory. The control plane is forked first
and imports the rest of what it needs by itself, while the supervisor goes on to import what all node agents share: two
cores are busy, and neither carries the other's code. It holds no thread, no event loop and no connection, and sleeps
until a signal comes (they arrive as bytes in a pipe). On Linux the parts die with it (PR_SET_PDEATHSIG); containers
don't: they belong to their conmon, and the next start adopts them.
"""

from __future__ import annotations

import ctypes
import fcntl
import gc
import importlib
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from podling import log
from podling.cluster import progress
from podling.cluster.config import ClusterConfig, Layout, load
from podling.errors import PodlingError

_log = log.get(__name__)

#: What all parts use: imported before the first is forked, so that it is loaded once and shared.
SHARED_MODULES = (
    "asyncio",
    "aiohttp.web",
    "uvloop",
    "podling.api.core_v1",
    "podling.api.apps_v1",
    "podling.api.discovery_v1",
    "podling.api.coordination_v1",
    "podling.api.registry",
    "podling.client.client",
    "podling.client.http",
    "podling.client.informer",
)
#: What all node agents use: imported before the first of them is forked.
REAL_MODULES = ("podling.cluster.node", "podling.runtime.oci", "podling.proxy.proxier", "podling.dns.server")
SIMULATED_MODULES = ("podling.cluster.simulation",)
#: A part that lived this long before it died is started again at once; a shorter life waits, twice as long each time.
_HEALTHY_SECONDS = 10.0
_LONGEST_WAIT = 30.0
#: Whoever waits for the cluster is told that it fails when a part has died this often at its start.
_MOST_FAILURES = 4
#: Parts that have not ended after this long are killed.
_STOP_SECONDS = 20.0

#: Bytes without which a cluster can't even say what it lacks.
_LEAST_ROOM = 1 << 18

#: What the supervisor handles, and its parts handle otherwise.
_HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)

_PR_SET_PDEATHSIG = 1


class Part:
    """A process of the cluster: `run` is called in the child and is its whole life; `modules` its kind shares.

    It is given `patience` seconds to end before it is killed.
    """

    def __init__(
        self, name: str, run: Callable[[], None], modules: tuple[str, ...] = (), patience: float = _STOP_SECONDS
    ) -> None:
        self.name = name
        self.patience = patience
        self.run = run
        self.modules = modules
        self.pid = 0
        self.started = 0.0
        self.start_at = 0.0
        self.wait = 0.0
        self.failures = 0


class Supervisor:
    def __init__(self, parts: list[Part], paths: Layout) -> None:
        self._parts = parts
        self._paths = paths
        self._stopping = False
        self._signals, written = os.pipe()
        for end in (self._signals, written):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(written, warn_on_full_buffer=False)

    def run(self) -> None:
        """Until SIGTERM or SIGINT; then the parts are ended, the control plane last."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)
        while not self._stopping:
            self._wait(self._start_due())
            self._reap()
        progress.report("stopped", "")
        self._end_parts()

    def _stop(self, *_: object) -> None:
        self._stopping = True

    def _wait(self, seconds: float | None) -> None:
        """Until a signal comes, at most this long."""
        if select.select([self._signals], [], [], seconds)[0]:
            os.read(self._signals, 4096)

    def _start_due(self) -> float | None:
        """Start what is due; gives the seconds until the next is, None if nothing waits."""
        now = time.monotonic()
        waits = []
        for part in self._parts:
            if part.pid:
                continue
            if part.start_at <= now:
                self._fork(part)
            else:
                waits.append(part.start_at - now)
        return min(waits) if waits else None

    def _fork(self, part: Part) -> None:
        share(part.modules)
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        part.started = time.monotonic()
        # Until the child has let go of the supervisor's handlers, these would swallow what is meant for it.
        signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
        part.pid = os.fork()
        if part.pid:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)
            _log.info("%s started as process %d", part.name, part.pid)
            return
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            if sys.platform == "linux":
                ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:
                os._exit(0)
            for number in _HANDLED:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)
            redirect_output(self._paths.log(part.name))
            # While it loads what is its own there is nothing to collect; once it has started it enables it again.
            gc.disable()
            part.run()
            code = 0
        except PodlingError as error:
            # One sentence that says what to do, and the last line, which is what `podling up` shows.
            print(error, file=sys.stderr)
        except BaseException:
            _log.exception("%s failed", part.name)
        finally:
            sys.stderr.flush()
            os._exit(code)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            for part in self._parts:
                if part.pid == pid:
                    self._ended(part, os.waitstatus_to_exitcode(status))

    def _ended(self, part: Part, code: int) -> None:
        lived = time.monotonic() - part.started
        part.pid = 0
        part.wait = 0.0 if lived > _HEALTHY_SECONDS else min(_LONGEST_WAIT, part.wait * 2 or 0.1)
        part.start_at = time.monotonic() + part.wait
        part.failures = 0 if lived > _HEALTHY_SECONDS else part.failures + 1
        if part.failures == _MOST_FAILURES:
            log_path = self._paths.log(part.name)
            progress.report("failed", f"{part.name} does not start: {last_line(log_path)} (in {log_path})")
        if not self._stopping:
            _log.warning(
                "%s ended with %d after %.1f s; starting it again in %.1f s", part.name, code, lived, part.wait
            )

    def _end_parts(self) -> None:
        """Nodes first: they say their last words to the API server."""
        for group in (self._parts[1:], self._parts[:1]):
            for part in group:
                if part.pid:
                    os.kill(part.pid, signal.SIGTERM)
            deadline = time.monotonic() + max((part.patience for part in group), default=0.0)
            while any(part.pid for part in group) and time.monotonic() < deadline:
                self._wait(max(0.0, deadline - time.monotonic()))
                self._reap()
            for part in group:
                if part.pid:
                    _log.warning("%s did not end in %d s and is killed", part.name, part.patience)
                    os.kill(part.pid, signal.SIGKILL)
                    os.waitpid(part.pid, 0)


def redirect_output(path: Path) -> None:
    """Send stdout and stderr to the end of the file at `path`, and stdin from nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    target = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.close(target)
    os.close(nothing)


def last_line(path: Path) -> str:
    """The newest line of a log that says something; what no log can say is that there is no room for it."""
    try:
        lines = [line for line in path.read_text(errors="replace").splitlines() if line.strip()]
    except OSError:
        lines = []
    if lines:
        return lines[-1].strip()
    disk = os.statvfs(path.parent)
    full = disk.f_bavail * disk.f_frsize < _LEAST_ROOM
    return f"the disk of {path.parent} is full: free some space and try again" if full else "it said nothing"


def hold_pid(paths: Layout) -> int | None:
    """Become the one supervisor of this cluster: the pid file, locked for as long as this process lives.

    Gives the descriptor to keep, None if another one runs.
    """
    paths.run.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(paths.pid, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    os.set_inheritable(descriptor, False)
    return descriptor


def running_pid(paths: Layout) -> int | None:
    """The running supervisor's process id, None if none runs."""
    try:
        descriptor = os.open(paths.pid, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return int(os.read(descriptor, 32) or b"0") or None
    finally:
        os.close(descriptor)
    return None


def share(modules: tuple[str, ...]) -> None:
    """Import modules for all children to come. What is loaded is never collected: the collector would write to every
    page, and end the sharing. It would find next to nothing, too."""
    if all(module in sys.modules for module in modules):
        return
    gc.disable()
    for module in modules:
        importlib.import_module(module)
    gc.freeze()
    gc.enable()


def parts(config: ClusterConfig, paths: Layout) -> list[Part]:
    """The control plane first, then the node agents; simulated nodes share one process."""

    def control_plane() -> None:
        from podling.cluster import control_plane

        control_plane.run(config, paths)

    def simulated() -> None:
        from podling.cluster import simulation

        simulation.run(config, paths)

    def node(index: int) -> None:
        from podling.cluster import node

        node.run(config, paths, index)

    if config.simulate:
        agents = [Part("nodes", simulated, SIMULATED_MODULES)]
    else:
        agents = [Part(name, partial(node, index), REAL_MODULES) for index, name in enumerate(config.node_names)]
    options = config.kube_apiserver
    ending = options.shutdown_delay_duration + options.shutdown_watch_termination_grace_period
    return [Part("control-plane", control_plane, patience=_STOP_SECONDS + ending), *agents]


def main(paths: Layout) -> int:
    """The life of the supervisor process."""
    log.setup(os.environ.get("PODLING_LOG_LEVEL", "INFO"))
    # Who wants to stop it gets it stopped in order, also while it prepares: then as soon as that is done.
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))
    held = hold_pid(paths)
    config = load(paths)
    if held is None:
        progress.report("taken", "")
        _log.error("another supervisor runs the cluster in %s", paths.data)
    if held is None or config is None:
        return 1
    ground = _fork_child(lambda: _lay_ground(config, paths))
    share(SHARED_MODULES)
    if os.waitstatus_to_exitcode(os.waitpid(ground, 0)[1]):
        progress.report("failed", f"{last_line(paths.log('supervisor'))} (in {paths.log('supervisor')})")
        return 1
    Supervisor(parts(config, paths), paths).run()
    os.unlink(paths.pid)
    return 0


def _fork_child(work: Callable[[], None]) -> int:
    """Run `work` in a child, on another core than the imports; its sockets and threads end with it. Gives its pid."""
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            if sys.platform == "linux":
                ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            work()
            code = 0
        except PodlingError as error:
            # As for a part: one sentence, and the last line.
            print(error, file=sys.stderr)
        except BaseException:
            _log.exception("preparing the cluster failed")
        finally:
            sys.stderr.flush()
            os._exit(code)
    return pid


def _lay_ground(config: ClusterConfig, paths: Layout) -> None:
    """What must be there before any part: certificates and the node network."""
    from podling.cluster import certificates

    certificates.make(config, paths)
    if not config.simulate:
        from podling.cluster import networking

        networking.set_up(config, paths)
