"""Probes and life cycle hooks."""

from __future__ import annotations

from podling.api import core_v1, names
from podling.api.scalars import IntOrString
from podling.machinery.validation import Findings, Path, each, forbidden, invalid, nonnegative, not_supported, required

_SIGNALS = frozenset(
    (
        "SIGABRT", "SIGALRM", "SIGBUS", "SIGCHLD", "SIGCLD", "SIGCONT", "SIGFPE", "SIGHUP", "SIGILL", "SIGINT",
        "SIGIO", "SIGIOT", "SIGKILL", "SIGPIPE", "SIGPOLL", "SIGPROF", "SIGPWR", "SIGQUIT", "SIGSEGV", "SIGSTKFLT",
        "SIGSTOP", "SIGSYS", "SIGTERM", "SIGTRAP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGURG", "SIGUSR1", "SIGUSR2",
        "SIGVTALRM", "SIGWINCH", "SIGXCPU", "SIGXFSZ", "SIGRTMIN", "SIGRTMAX",
        *(f"SIGRTMIN+{n}" for n in range(1, 16)), *(f"SIGRTMAX-{n}" for n in range(1, 15)),
    )
)  # fmt: skip


def port_number_or_name(port: IntOrString, path: Path) -> Findings:
    problems = names.port_number(port) if isinstance(port, int) else names.port_name(port)
    return each(path, port, problems)


def probes(container: core_v1.Container | core_v1.EphemeralContainer, grace_period: int | None, path: Path) -> Findings:
    """Liveness, readiness and startup probe."""
    found: Findings = []
    for name, probe in (
        ("livenessProbe", container.liveness_probe),
        ("readinessProbe", container.readiness_probe),
        ("startupProbe", container.startup_probe),
    ):
        if probe is None:
            continue
        at = path.child(name)
        found += _probe(probe, grace_period, at)
        if name == "readinessProbe":
            if probe.termination_grace_period_seconds is not None:
                value = probe.termination_grace_period_seconds
                detail = "must not be set for readinessProbes"
                found.append(invalid(at.child("terminationGracePeriodSeconds"), value, detail))
        elif probe.success_threshold != 1:
            found.append(invalid(at.child("successThreshold"), probe.success_threshold or 0, "must be 1"))
    return found


def _probe(probe: core_v1.Probe, grace_period: int | None, path: Path) -> Findings:
    found = _handler((probe.exec, probe.http_get, probe.tcp_socket, probe.grpc, None), grace_period, path)
    for name, value in (
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ):
        if value is not None and value < 0:
            found += nonnegative(value, path.child(name))
    grace = probe.termination_grace_period_seconds
    if grace is not None and grace <= 0:
        found.append(invalid(path.child("terminationGracePeriodSeconds"), grace, "must be greater than 0"))
    return found


def lifecycle(lifecycle: core_v1.Lifecycle | None, grace_period: int | None, path: Path, *, os: str = "") -> Findings:
    """Hooks after start and before stop, and the stop signal."""
    if lifecycle is None:
        return []
    found: Findings = []
    for name, hook in (("postStart", lifecycle.post_start), ("preStop", lifecycle.pre_stop)):
        if hook is not None:
            handlers = (hook.exec, hook.http_get, hook.tcp_socket, None, hook.sleep)
            found += _handler(handlers, grace_period, path.child(name))
    if lifecycle.stop_signal is not None:
        at = path.child("stopSignal")
        if not os:
            found.append(forbidden(at, "may not be set for containers with empty `spec.os.name`"))
        elif lifecycle.stop_signal not in (_SIGNALS if os == "linux" else ("SIGKILL", "SIGTERM")):
            supported = sorted(_SIGNALS) if os == "linux" else ["SIGKILL", "SIGTERM"]
            found.append(not_supported(at, lifecycle.stop_signal, supported))
    return found


_Handlers = tuple[
    core_v1.ExecAction | None,
    core_v1.HTTPGetAction | None,
    core_v1.TCPSocketAction | None,
    core_v1.GRPCAction | None,
    core_v1.SleepAction | None,
]


def _handler(handlers: _Handlers, grace_period: int | None, path: Path) -> Findings:
    """Exactly one of the handlers, and what is wrong with it."""
    found: Findings = []
    first = True
    for name, handler in zip(("exec", "httpGet", "tcpSocket", "grpc", "sleep"), handlers, strict=True):
        if handler is None:
            continue
        at = path.child(name)
        if not first:
            found.append(forbidden(at, "may not specify more than 1 handler type"))
            continue
        first = False
        if isinstance(handler, core_v1.ExecAction):
            found += [] if handler.command else [required(at.child("command"))]
        elif isinstance(handler, core_v1.HTTPGetAction):
            found += _http_get(handler, at)
        elif isinstance(handler, core_v1.SleepAction):
            if grace_period is not None and not 0 <= handler.seconds <= grace_period:
                detail = f"must be non-negative and less than terminationGracePeriodSeconds ({grace_period})"
                found.append(invalid(at, handler.seconds, detail))
        else:
            found += port_number_or_name(handler.port, at.child("port"))
    if first:
        found.append(required(path, "must specify a handler type"))
    return found


def _http_get(action: core_v1.HTTPGetAction, path: Path) -> Findings:
    found: Findings = [] if action.path else [required(path.child("path"))]
    found += port_number_or_name(action.port, path.child("port"))
    if action.scheme not in ("HTTP", "HTTPS"):
        found.append(not_supported(path.child("scheme"), action.scheme or "", ("HTTP", "HTTPS")))
    for header in action.http_headers or ():
        found += each(path.child("httpHeaders"), header.name, names.http_header_name(header.name))
    return found
