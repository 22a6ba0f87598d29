"""The node agent's HTTPS server: logs, exec, attach and port forward for the API server, and what scrapers read.

What a path means stands here; what it does is the backend's (the agent). Who may use it is settled by `server_auth`.
Source: k8s.io/kubernetes pkg/kubelet/server.
"""

from __future__ import annotations

import asyncio
import html
import mimetypes
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast
from urllib.parse import parse_qs, unquote

import msgspec
from aiohttp import web

from podling import log
from podling.api import core_v1, meta_v1
from podling.api.errors import StatusError, bad_request
from podling.api.struct import encode
from podling.kubelet import server_metrics
from podling.runtime.base import Sink, Source, Streams
from podling.streaming import log_query, port_forward, remote_command
from podling.streaming.log_query import LogQuery

LOG = log.get(__name__)

#: Seconds that connections are given to end when the server closes.
GRACE = 2.0
_TEXT = "text/plain; charset=utf-8"
_METRICS = "text/plain; version=0.0.4; charset=utf-8"


class KubeletBackend(Protocol):
    """What the agent does for its server. Failures are StatusError (their code and text are passed on) or anything
    else (500 with its text)."""

    def pods(self) -> Sequence[core_v1.Pod]:
        """All pods of the node, static ones included, with their current status."""

    def container_log(self, namespace: str, pod: str, container: str, query: LogQuery) -> AsyncIterator[bytes]:
        """The log, ready for the client; see `kubelet.logs`. What can't be had raises before the first piece."""

    async def exec(
        self, namespace: str, pod: str, container: str, argv: Sequence[str], *, tty: bool, streams: Streams
    ) -> int:
        """Run a command in a container; its exit code."""

    async def attach(self, namespace: str, pod: str, container: str, *, tty: bool, streams: Streams) -> None:
        """Connect to a container's main process."""

    async def port_forward(self, namespace: str, pod: str, port: int, stdin: Source, stdout: Sink) -> None:
        """Connect to a port of the pod and copy both ways until it ends."""

    def healthy(self) -> str:
        """ "" if all is well, else what is not."""

    async def stats_summary(self, *, only_cpu_and_memory: bool) -> Mapping[str, Any]:
        """The body of /stats/summary (stats/v1alpha1 Summary)."""

    async def metrics(self, path: str) -> str | None:
        """Prometheus' text for `/metrics`, `/metrics/cadvisor`, `/metrics/resource` or `/metrics/probes`; None for
        what is not served."""

    def configuration(self) -> Mapping[str, Any]:
        """What /configz shows (kubelet.config.k8s.io/v1beta1 KubeletConfiguration)."""


class Access(Protocol):
    """Who may use the server; see `server_auth`."""

    async def check(self, request: web.BaseRequest, verb: str, subresources: Sequence[str]) -> None:
        """StatusError 401 or 403 unless the sender may do `verb` on one of the node's `subresources`."""


Route = Callable[["KubeletServer", web.BaseRequest, "Target"], Awaitable[web.StreamResponse]]


class Target(msgspec.Struct):
    """What a path names, and the query: all values of each parameter."""

    path: str
    parts: list[str]
    query: dict[str, list[str]]

    @property
    def first(self) -> dict[str, str]:
        return {name: values[0] for name, values in self.query.items()}


class KubeletServer:
    """Serves `backend`. `log_directory` is what /logs/ shows."""

    def __init__(self, backend: KubeletBackend, access: Access, *, log_directory: Path = Path("/var/log")) -> None:
        self.port = 0
        self._backend = backend
        self._access = access
        self._log_directory = log_directory
        self._server = web.Server(self._handle, access_log=None, handler_cancellation=True)
        self._listener: asyncio.Server | None = None
        #: Requests under way, whose end may never come by itself: shells, followed logs.
        self._running: set[asyncio.Task[Any]] = set()

    async def start(self, host: str, port: int, tls: ssl.SSLContext | None) -> int:
        """Listen, and return the port. Without TLS only for tests."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(cast(Any, self._server), host, port, ssl=tls, reuse_address=True)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self.port

    async def close(self) -> None:
        """Stop listening and end what is under way."""
        if self._listener is not None:
            self._listener.close()
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        self._server.pre_shutdown()
        await self._server.shutdown(GRACE)
        if self._listener is not None:
            await self._listener.wait_closed()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        raw, _, query = request._message.path.partition("?")
        path = unquote(raw)
        target = Target(path, path.strip("/").split("/"), parse_qs(query, keep_blank_values=True))
        with server_metrics.serving(request.method, target.parts, _ROUTES):
            return await self._answer(request, target)

    async def _answer(self, request: web.BaseRequest, target: Target) -> web.StreamResponse:
        task, path = asyncio.current_task(), target.path
        assert task is not None
        self._running.add(task)
        try:
            await self._access.check(request, _VERBS.get(request.method, ""), subresources(path))
            route = _ROUTES.get(target.parts[0])
            if route is None:
                return _text(404, "404 page not found")
            return await route(self, request, target)
        except StatusError as error:
            return _text(error.code, error.status.message or "")
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception as error:
            LOG.exception("%s %s", request.method, path)
            return _text(500, str(error))
        finally:
            self._running.discard(task)

    # What scrapers and people read

    async def _healthz(self, request: web.BaseRequest, target: Target) -> web.StreamResponse:
        problem = self._backend.healthy()
        return _text(500, problem) if problem else _text(200, "ok", newline=False)

    async def _pods(self, request: web.BaseRequest, target: Target) -> web.StreamResponse:
        pods = core_v1.PodList(metadata=meta_v1.ListMeta(), items=list(self._backend.pods()))
        return _json(encode(pods))

    async def _running_pods(self, request: web.BaseRequest, target: Target) -> web.StreamResponse:
        running = [p for p in self._backend.pods() if p.status is not None and p.status.phase == "Running"]
        return _json(encode(core_v1.PodList(metadata=meta_v1.ListMeta(), items=running)))

    async def _stats(self, request: web.BaseRequest, target: Target) -> web.StreamResponse:
        if target.parts[1:] != ["summary"]:
            return _text(404, "404 page not found")
        only = target.first.get("only_cpu_and_memory", "") in ("1", "true")
        return _json(msgspec.json.encode(await self._backend.stats_summary(only_cpu_and_memory=only)))

    async def _metrics(self, request: web.BaseRequest, target: Target) -> web.StreamResponse:
        text = await self._backend.metrics("/" + "/".join(target.parts))
        if text is None:
            return _text(404, "404 page not found")
        return web.Response(body=text.encode(), headers={"Content-Type": _METRICS})

    async def _configz(self, request: web.BaseRequest, target: Target) -> web.StreamResponse:
        return _json(msgspec.json.encode({"kubeletconfig": self._backend.configuration()}))

    async def _logs(self, request: web.BaseRequest, target: Target) -> web.StreamResponse:
        """The node's own log files, as a plain file server."""
        root = self._log_directory.resolve()
        try:
            path = root.joinpath(*target.parts[1:]).resolve(strict=True)
        except (OSError, ValueError):
            return _text(404, "404 page not found")
        if path != root and root not in path.parents:
            return _text(404, "404 page not found")
        if not path.is_dir():
            kind = mimetypes.guess_type(path.name)[0] or "text/plain"
            return web.FileResponse(path, headers={"Content-Type": kind})
        if not target.path.endswith("/"):
            return web.Response(status=301, headers={"Location": f"{path.name if path != root else 'logs'}/"})
        names = sorted(p.name + ("/" if p.is_dir() else "") for p in path.iterdir())
        lines = "".join(f'<a href="{html.escape(n)}">{html.escape(n)}</a>\n' for n in names)
        return web.Response(text=f"<pre>\n{lines}</pre>\n", content_type="text/html")

    # What belongs to a pod

    def _pod(self, namespace: str, name: str) -> core_v1.Pod:
        for pod in self._backend.pods():
            if pod.metadata.name == name and (pod.metadata.namespace or "") == namespace:
                return pod
        raise _not_found("pod does not exist")

    async def _container_logs(self, request: web.BaseRequest, target: Target) -> web.StreamResponse:
        if len(target.parts) != 4 or request.method != "GET":
            raise bad_request("the path must be /containerLogs/<namespace>/<pod>/<container>")
        _, namespace, name, container = target.parts
        query = log_query.parse(target.first)
        pod = next(
            (p for p in self._backend.pods() if (p.metadata.namespace, p.metadata.name) == (namespace, name)), None
        )
        if pod is None:
            raise _not_found(f'pod "{name}" does not exist\n')
        if container not in containers_of(pod):
            raise _not_found(f'container "{container}" not found in pod "{name}"\n')
        pieces = self._backend.container_log(namespace, name, container, query)
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        response.enable_chunked_encoding()
        try:
            # A log that can't be had is known with its first piece; a quiet one that is followed must not wait for it.
            first = asyncio.ensure_future(anext(pieces, b""))
            try:
                await asyncio.wait((first,), timeout=0.05 if query.follow else None)
                if first.done() and first.exception() is not None:
                    raise cast(BaseException, first.exception())
                await response.prepare(request)
                await _send(response, await first)
            finally:
                first.cancel()
                await asyncio.gather(first, return_exceptions=True)
            async for piece in pieces:
                await _send(response, piece)
            await response.write_eof()
        finally:
            await cast(Any, pieces).aclose()
        return response

    async def _exec(self, request: web.BaseRequest, target: Target) -> web.StreamResponse:
        namespace, name, container = self._container(target)
        argv = target.query.get("command", [])
        wanted = remote_command.options(target.first)

        async def run(streams: Streams) -> int:
            return await self._backend.exec(namespace, name, container, argv, tty=wanted.tty, streams=streams)

        return await remote_command.serve(request, wanted, run)

    async def _attach(self, request: web.BaseRequest, target: Target) -> web.StreamResponse:
        namespace, name, container = self._container(target)
        wanted = remote_command.options(target.first)

        async def run(streams: Streams) -> None:
            await self._backend.attach(namespace, name, container, tty=wanted.tty, streams=streams)

        return await remote_command.serve(request, wanted, run, what="attaching to container")

    async def _run(self, request: web.BaseRequest, target: Target) -> web.StreamResponse:
        """Run `cmd` to its end and answer with its output."""
        namespace, name, container = self._container(target)
        argv = target.first.get("cmd", "").split(" ")
        output = bytearray()

        async def collect(data: bytes) -> None:
            output.extend(data)

        streams = Streams(stdout=collect, stderr=collect)
        code = await self._backend.exec(namespace, name, container, argv, tty=False, streams=streams)
        if code:
            return _text(500, f"command '{' '.join(argv)}' exited with {code}: {output.decode('utf-8', 'replace')}")
        return web.Response(body=bytes(output), headers={"Content-Type": _TEXT})

    async def _port_forward(self, request: web.BaseRequest, target: Target) -> web.StreamResponse:
        if len(target.parts) not in (3, 4):
            raise bad_request("the path must be /portForward/<namespace>/<pod>")
        namespace, name = target.parts[1:3]
        pod = self._pod(namespace, name)
        ports = port_forward.ports_of(target.query.get("port", []) + target.query.get("ports", []))

        async def forward(port: int, stdin: Source, stdout: Sink) -> None:
            await self._backend.port_forward(namespace, name, port, stdin, stdout)

        uid = pod.metadata.uid or ""
        return await port_forward.serve(request, ports, forward, pod=f"{name}_{namespace}", uid=uid)

    def _container(self, target: Target) -> tuple[str, str, str]:
        """(namespace, pod, container) of a path with or without the pod's uid before the container."""
        if len(target.parts) not in (4, 5):
            raise bad_request(f"the path must be /{target.parts[0]}/<namespace>/<pod>/<container>")
        _, namespace, name, *uid, container = target.parts
        pod = self._pod(namespace, name)
        if uid and pod.metadata.uid != uid[0]:
            raise _not_found("pod does not exist")
        if container not in containers_of(pod):
            raise StatusError(
                meta_v1.Status(status="Failure", code=500, message=f'container not found ("{container}")')
            )
        return namespace, name, container


def containers_of(pod: core_v1.Pod) -> list[str]:
    """The names of all containers of `pod`."""
    spec = pod.spec or core_v1.PodSpec()
    return [
        c.name
        for group in (spec.init_containers, spec.containers, spec.ephemeral_containers)
        for c in cast("Sequence[core_v1.Container]", group or ())
    ]


#: By HTTP method, what is asked of the authorizer.
_VERBS = {"POST": "create", "GET": "get", "HEAD": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}

_ROUTES: dict[str, Route] = {
    "healthz": KubeletServer._healthz,
    "pods": KubeletServer._pods,
    "runningpods": KubeletServer._running_pods,
    "containerLogs": KubeletServer._container_logs,
    "exec": KubeletServer._exec,
    "attach": KubeletServer._attach,
    "portForward": KubeletServer._port_forward,
    "run": KubeletServer._run,
    "logs": KubeletServer._logs,
    "stats": KubeletServer._stats,
    "metrics": KubeletServer._metrics,
    "configz": KubeletServer._configz,
}

_SUBRESOURCES: dict[str, tuple[str, ...]] = {
    "stats": ("stats",),
    "metrics": ("metrics",),
    "logs": ("log",),
    "pods": ("pods", "proxy"),
    "runningpods": ("pods", "proxy"),
    "healthz": ("healthz", "proxy"),
    "configz": ("configz", "proxy"),
}


def subresources(path: str) -> tuple[str, ...]:
    """The subresources of the node, any of which gives access to `path`."""
    return _SUBRESOURCES.get(path.strip("/").partition("/")[0], ("proxy",))


async def _send(response: web.StreamResponse, piece: bytes) -> None:
    if piece:
        await response.write(piece)


def _not_found(text: str) -> StatusError:
    return StatusError(meta_v1.Status(status="Failure", code=404, reason="NotFound", message=text))


def _text(status: int, text: str, *, newline: bool = True) -> web.Response:
    """Plain text, as Go's http.Error writes it."""
    body = text if not newline or text.endswith("\n") else f"{text}\n"
    headers = {"Content-Type": _TEXT, "X-Content-Type-Options": "nosniff"}
    return web.Response(status=status, body=body.encode(), headers=headers)


def _json(body: bytes) -> web.Response:
    return web.Response(body=body, headers={"Content-Type": "application/json"})
