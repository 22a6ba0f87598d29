"""pods/log, exec, attach and portforward: the API server finds the pod's node agent and passes everything through.

An upgraded connection is copied as raw bytes both ways: SPDY and WebSocket are spoken by the node agent. Source:
k8s.io/kubernetes pkg/registry/core/pod (LogLocation, ExecLocation, ...).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from aiohttp import web

from podling import log
from podling.api import core_v1, errors
from podling.api.request import User
from podling.apiserver.core import Core
from podling.apiserver.handlers import proxy
from podling.apiserver.handlers.backend import dial_error, join, refusal
from podling.apiserver.handlers.kubelets import Kubelets, Location
from podling.apiserver.request_info import RequestInfo
from podling.streaming import log_query, port_forward, upstream, websocket

LOG = log.get(__name__)

#: The API's parameters of exec and attach, and the node agent's.
_STREAMS = (("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty"))

#: What also needs the permission to create (KEP-4006).
_CREATING = frozenset({"exec", "attach", "portforward"})


class Streaming:
    """`apiserver.server.Streaming`: answers what is more than a request and an answer. StatusError for refusals."""

    def __init__(self, app: Core, kubelets: Kubelets, *, passing: proxy.Proxy | None = None) -> None:
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
        if info.subresource in _CREATING and info.verb != "create":
            # A WebSocket is opened by GET, but who may only read may not run anything.
            pending = self._app.authorize(user, info._replace(verb="create"))
            if pending is not None:
                await pending
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
