"""Lifecycle hooks: postStart beside a container's start, preStop before its stop (pkg/kubelet/lifecycle)."""

from __future__ import annotations

import asyncio

from podling.api import core_v1
from podling.api.numbers import is_decimal
from podling.kubelet import pods
from podling.kubelet.pods import AnyContainer
from podling.kubelet.probe_handlers import NetworkProber, http_request
from podling.kubelet.probe_results import Outcome, Target
from podling.runtime.base import Runtime, RuntimeFailure

USER_AGENT = ("User-Agent", "kube-lifecycle/1.37")
#: A hook over the network that gets no answer has failed after this many seconds.
NETWORK_TIMEOUT = 60.0


class HookFailed(Exception):
    """The text is the waiting message of a container whose postStart hook failed."""


class PortError(Exception):
    """The port that a probe or hook names is not there."""


def resolve_port(port: int | str, container: AnyContainer) -> int:
    """A port's number; names are looked up among the container's ports. Raises PortError."""
    number = -1
    if isinstance(port, int):
        number = port
    else:
        named = next((p.container_port for p in container.ports or () if p.name == port), None)
        if named is not None:
            number = named
        elif is_decimal(port):
            number = int(port)
        else:
            raise PortError(f"couldn't find port: {port} for container: {container.name}")
    if 0 < number < 65536:
        return number
    raise PortError(f"invalid port number: {number}")


class HookRunner:
    """Runs one hook to its end; the caller limits the time."""

    def __init__(self, runtime: Runtime, network: NetworkProber) -> None:
        self._runtime, self._network = runtime, network

    async def run(
        self, pod: core_v1.Pod, container: AnyContainer, container_id: str, handler: core_v1.LifecycleHandler, ip: str
    ) -> None:
        """Raises HookFailed."""
        if handler.exec is not None:
            await self._exec(pod, container, container_id, handler.exec)
        elif handler.http_get is not None:
            await self._http(pod, container, container_id, handler.http_get, ip)
        elif handler.sleep is not None:
            await asyncio.sleep(handler.sleep.seconds)
        elif handler.tcp_socket is not None:
            await self._tcp(pod, container, container_id, handler.tcp_socket, ip)
        else:
            raise HookFailed("Cannot run handler: invalid handler")

    async def _exec(
        self, pod: core_v1.Pod, container: AnyContainer, container_id: str, action: core_v1.ExecAction
    ) -> None:
        command = tuple(action.command or ())
        where = f'Exec lifecycle hook ([{" ".join(command)}]) for Container "{container.name}" in Pod'
        try:
            result = await self._runtime.exec_sync(container_id, command, None)
        except RuntimeFailure as error:
            raise HookFailed(f'{where} "{pods.described(pod)}" failed - error: {error}, message: ""') from None
        if result.exit_code != 0:
            output = _quoted((result.stdout + result.stderr).decode("utf-8", "replace"))
            error_text = f"command '{' '.join(command)}' exited with {result.exit_code}: "
            error_text += result.stderr.decode("utf-8", "replace")
            text = f'{where} "{pods.described(pod)}" failed - error: {error_text}, message: {output}'
            raise HookFailed(text)

    async def _http(
        self, pod: core_v1.Pod, container: AnyContainer, container_id: str, action: core_v1.HTTPGetAction, ip: str
    ) -> None:
        request = http_request(action)
        if "user-agent" not in (name.lower() for name, _ in request.headers):
            request = type(request)(request.scheme, request.path, (USER_AGENT, *request.headers))
        try:
            target = Target(container_id, action.host or ip, resolve_port(action.port, container))
        except PortError as error:
            raise HookFailed(str(error)) from None
        result = await self._network.http(target, request, NETWORK_TIMEOUT)
        # Any answer will do: what counts is that the container has heard of it.
        if result.outcome is Outcome.FAILURE and "statuscode:" not in result.output:
            path = action.path or "/"
            raise HookFailed(
                f'HTTP lifecycle hook ({path}) for Container "{container.name}" in Pod "{pods.described(pod)}" failed '
                f'- error: {result.output}, message: ""'
            )

    async def _tcp(
        self, pod: core_v1.Pod, container: AnyContainer, container_id: str, action: core_v1.TCPSocketAction, ip: str
    ) -> None:
        try:
            target = Target(container_id, action.host or ip, resolve_port(action.port, container))
        except PortError as error:
            raise HookFailed(str(error)) from None
        result = await self._network.tcp(target, NETWORK_TIMEOUT)
        if result.outcome is Outcome.FAILURE:
            raise HookFailed(
                f'TCP lifecycle hook for Container "{container.name}" in Pod "{pods.described(pod)}" failed '
                f'- error: {result.output}, message: ""'
            )


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{escaped}"'
