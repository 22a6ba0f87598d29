"""pods/log, exec, attach and portforward: the API server finds the pod's node agent and passes everything through.

An upgraded connection is copied as raw bytes both ways: SPDY and WebSocket are spoken by the node agent. Source:
k8s.io/kubernetes pkg/registry/core/pod (LogLocation, ExecLocation, ...).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlencode

from aiohttp import web

from podling import log
from podling.api import core_v1, errors, meta_v1
from podling.api.errors import StatusError
from podling.api.request import User
from podling.apiserver.handlers import proxy
from podling.apiserver.handlers.kubelets import Kubelets, Location
from podling.apiserver.request_info import RequestInfo
from podling.streaming import connection, log_query, port_forward, upstream, websocket

if TYPE_CHECKING:
    from podling.apiserver.app import ApiServer

LOG = log.get(__name__)

#: The API's parameters of exec and attach, and the node agent's.
_STREAMS = (("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty"))


class Streaming:
    """`apiserver.server.Streaming`: answers what is more than a request and an answer. StatusError for refusals."""

    def __init__(self, app: ApiServer, kubelets: Kubelets, *, passing: proxy.Proxy | None = None) -> None:
        self._app = app
        self._kubelets = kubelets
        self._proxy = passing or proxy.Proxy(app, kubelets)
        self._running: set[asyncio.Task[Any]] = set()

    async def close(self) -> None:
        """End what is running, and let go of kept connections. To be called before the HTTP server waits for requests
        to end: a shell or a followed log has no end of its own."""
        running, current = list(self._running), asyncio.current_task()
        for task in running:
            if task is not current:
                task.cancel()
        await asyncio.gather(*(t for t in running if t is not current), return_exceptions=True)
        await self._proxy.close()

    async def __call__(self, request: web.BaseRequest, info: RequestInfo, user: User) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            return await self._serve(request, info)
        finally:
            self._running.discard(task)

    async def _serve(self, request: web.BaseRequest, info: RequestInfo) -> web.StreamResponse:
        if info.subresource == "proxy":
            return await self._proxy.serve(request, info)
        if info.resource != "pods":
            raise errors.path_not_found()
        pod = self._app.cached("", "pods", f"{info.namespace}/{info.name}")
        if pod is None:
            raise errors.not_found("pods", "", info.name)
        query = parse_qsl(request._message.path.partition("?")[2], keep_blank_values=True)
        if info.subresource == "log":
            return await self._log(request, pod, dict(reversed(query)))
        path = self._path(info, pod, query)
        location = self._kubelets.locate(pod.spec.node_name)
        return await tunnel(request, location, path, f"pods/{info.subresource}", info.name)

    def _path(self, info: RequestInfo, pod: core_v1.Pod, query: list[tuple[str, str]]) -> str:
        """The node agent's path and query for an upgrade."""
        namespace, name = info.namespace, info.name
        spec = pod.spec or core_v1.PodSpec()
        if info.subresource == "portforward":
            _scheduled(pod)
            ports = port_forward.ports_of([value for key, value in query if key == "ports"])
            return _target(f"/portForward/{namespace}/{name}", [("port", str(port)) for port in ports])
        first = dict(reversed(query))
        container = choose_container(pod, first.get("container", ""), spec)
        _scheduled(pod)
        inner = [(theirs, "1") for ours, theirs in _STREAMS if _flag(first, ours)]
        if info.subresource == "exec":
            command = [value for key, value in query if key == "command"]
            if not command:
                raise errors.bad_request("you must specify at least one command for the container")
            inner += [("command", word) for word in command]
        if not any(key in ("input", "output", "error") for key, _ in inner):
            raise errors.bad_request("you must specify at least 1 of stdin, stdout, stderr")
        return _target(f"/{info.subresource}/{namespace}/{name}/{container}", inner)

    async def _log(self, request: web.BaseRequest, pod: core_v1.Pod, query: Mapping[str, str]) -> web.StreamResponse:
        wanted = log_query.parse(query)
        spec = pod.spec or core_v1.PodSpec()
        container = choose_container(pod, wanted.container, spec)
        if not spec.node_name:
            # Nothing has been logged yet, and that is what is answered.
            return await _empty(request)
        location = self._kubelets.locate(spec.node_name)
        path = f"/containerLogs/{pod.metadata.namespace}/{pod.metadata.name}/{container}"
        target = _target(path, list(log_query.to_query(wanted).items()))
        return await self._proxy.stream_log(request, location, target, pod.metadata.name or "")


def choose_container(pod: core_v1.Pod, name: str, spec: core_v1.PodSpec) -> str:
    """The container that is meant: the named one, or the only one. StatusError 400 in upstream's words."""
    everything: Sequence[Any] = (
        *(spec.init_containers or ()),
        *(spec.containers or ()),
        *(spec.ephemeral_containers or ()),
    )
    if name:
        if not any(c.name == name for c in everything):
            raise errors.bad_request(f"container {name} is not valid for pod {pod.metadata.name}")
        return name
    containers = spec.containers or []
    if len(containers) == 1:
        return containers[0].name
    message = f"a container name must be specified for pod {pod.metadata.name}"
    if containers:
        message += f", choose one of: [{' '.join(c.name for c in everything)}]"
    raise errors.bad_request(message)


def _scheduled(pod: core_v1.Pod) -> None:
    if pod.spec is None or not pod.spec.node_name:
        raise errors.bad_request(f"pod {pod.metadata.name} does not have a host assigned")


def _flag(query: Mapping[str, str], name: str) -> bool:
    return name in query and query[name].lower() not in ("false", "0")


def _target(path: str, query: list[tuple[str, str]]) -> str:
    encoded = quote(path)
    return f"{encoded}?{urlencode(query)}" if query else encoded


async def _empty(request: web.BaseRequest) -> web.StreamResponse:
    response = web.Response(body=b"", headers={"Content-Type": "text/plain"})
    await response.prepare(request)
    await response.write_eof()
    return response


async def tunnel(
    request: web.BaseRequest, location: Location, target: str, resource: str, name: str
) -> web.StreamResponse:
    """Ask `location` for the upgrade that the client asks for, and connect the two. StatusError if it is refused."""
    if not (websocket.is_websocket(request) or request.headers.get("upgrade")):
        raise errors.bad_request("Upgrade request required")
    headers = [
        ("Host", location.authority),
        *proxy.passed_on(request),
        ("Connection", "Upgrade"),
        ("Upgrade", request.headers["upgrade"]),
    ]
    try:
        answer = await upstream.upgrade(location.host, location.port, request.method, target, headers, tls=location.tls)
    except (OSError, TimeoutError) as error:
        raise dial_error(location, error) from error
    if answer.connection is None:
        raise refusal(answer.status, answer.body, resource, name)
    return await join(request, answer)


async def join(request: web.BaseRequest, answer: upstream.Upgraded) -> web.StreamResponse:
    """Pass a granted upgrade on to the client, and copy both ways until it ends."""
    assert answer.connection is not None
    try:
        client = connection.take_over(request)
        lines = [f"HTTP/1.1 101 {answer.reason or 'Switching Protocols'}"]
        lines += [f"{key}: {value}" for key, value in answer.headers.items()]
        await client.write("\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape"))
    except ConnectionError:
        answer.connection.close()
        raise
    await connection.splice(client, answer.connection)
    return connection.Taken()


def dial_error(location: Location, error: BaseException) -> StatusError:
    """The node agent can't be reached."""
    why = "i/o timeout" if isinstance(error, TimeoutError) else (getattr(error, "strerror", None) or str(error))
    if isinstance(error, ConnectionRefusedError):
        why = "connect: connection refused"
    return errors.internal(f"error dialing backend: dial tcp {location.authority}: {why}")


def refusal(status: int, body: bytes, resource: str, name: str) -> StatusError:
    """What the node agent answered instead of doing it, as the API server's own failure."""
    text = body.decode("utf-8", "replace").removesuffix("\n")
    if status == 400:
        return errors.bad_request(text)
    if status == 500:
        return errors.internal(text)
    reasons = {401: "Unauthorized", 403: "Forbidden", 404: "NotFound"}
    message = {
        401: "the server has asked for the client to provide credentials",
        403: text or "unknown",
        404: "the server could not find the requested resource",
    }.get(status, f"the server responded with the status code {status} but did not return more information")
    if status != 403:
        message += f" ( {resource} {name})"
    details = meta_v1.StatusDetails(
        name=name, kind=resource, causes=[meta_v1.StatusCause(reason="UnexpectedServerResponse", message=text)]
    )
    return StatusError(
        meta_v1.Status(
            status="Failure",
            code=status,
            reason=reasons.get(status, "InternalError" if status > 500 else "Unknown"),
            message=message,
            details=details,
        )
    )


def cancelled_with(request: web.BaseRequest) -> asyncio.Future[None]:
    """Done when the client has hung up."""
    gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    callbacks = getattr(request.protocol, "on_lost", None)

    def lost() -> None:
        if not gone.done():
            gone.set_result(None)

    if callbacks is not None:
        callbacks.add(lost)
        gone.add_done_callback(lambda _: callbacks.discard(lost))
    return gone
