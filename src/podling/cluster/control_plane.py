"""The control plane: API server, controllers and scheduler, in one process over one store.

The parts talk to the API server in process: objects are handed over, nothing is serialised. Everyone else comes by TLS.
`ControlPlane` is free of the operating system (given a memory store it runs on virtual time); `run` is the life of the
control plane's process.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from podling import clock, log
from podling.api import core_v1
from podling.api.request import User
from podling.apiserver.assembly import Assembly, Settings
from podling.apiserver.handlers.streaming import Streaming
from podling.client.client import ApiClient
from podling.client.events import Recorder
from podling.client.informer import Informers
from podling.cluster import bootstrap, certificates, host_paths, networking, process, progress
from podling.cluster.config import ClusterConfig, Layout
from podling.cluster.pki import Pki
from podling.controllers.base import Config, LocalPaths
from podling.controllers.manager import ControllerManager
from podling.scheduler.scheduler import Scheduler
from podling.store.base import Store, StoreError

if TYPE_CHECKING:
    from podling.apiserver.server import HttpServer

_log = log.get(__name__)

#: Revisions older than this are forgotten, looked at this often (upstream's --etcd-compaction-interval).
_COMPACTION_SECONDS = 300.0

#: Who the parts of this process are, to admission and to the audit log. They may do everything.
_CONTROLLERS = User("system:kube-controller-manager", ("system:masters", "system:authenticated"))
_SCHEDULER = User("system:kube-scheduler", ("system:masters", "system:authenticated"))


class ControlPlane:
    """`start` fills an empty store with what every cluster has; `close` ends everything but the store.

    With `pki`, callers over the network are authenticated and authorized; without, there are none.
    """

    def __init__(
        self, config: ClusterConfig, store: Store, pki: Pki | None = None, local_path: LocalPaths | None = None
    ) -> None:
        self.config = config
        self._local_path = local_path or LocalPaths()
        self._store = store
        self._pki = pki
        self._server = Assembly(
            store,
            Settings(
                service_cidr=config.service_cidr,
                node_port_range=config.node_port_range,
                signing_key=pki.service_account_key().key if pki else b"",
                issuer=f"https://kubernetes.default.svc.{config.cluster_domain}",
                proxy_client=self._front_proxy,
                client_ca=pki.ca.certificate if pki else b"",
                options=config.kube_apiserver,
            ),
        )
        self.app = self._server.app
        self.client = ApiClient(self.app)
        self._controllers = self.client.as_user(_CONTROLLERS)
        self._scheduling = self.client.as_user(_SCHEDULER).with_agent("kube-scheduler/podling")
        self.informers = Informers(self._controllers.with_agent("kube-controller-manager/podling"))
        self._tasks: list[asyncio.Task[Any]] = []
        self._recorder: Recorder | None = None
        self._manager: ControllerManager | None = None
        self._booted = [self.app.health.hook(f"poststarthook/{name}") for name in bootstrap.HOOKS]

    def _front_proxy(self) -> tuple[str, str] | None:
        if self._pki is None:
            return None
        pair = certificates.front_proxy_client(self._pki)
        return str(pair.certificate_path), str(pair.key_path)

    async def start(self) -> None:
        await self._store.open()
        await self._server.start()
        ca = self._pki.ca.certificate if self._pki else b""
        front_proxy = self._pki.front_proxy_ca.certificate if self._pki else b""
        self._recorder = Recorder(
            self._scheduling,
            "default-scheduler",
            f"default-scheduler-{self.config.name}",
            series=True,
        )
        scheduler = Scheduler(self._scheduling, self.informers, self._recorder)
        signer = self._pki.ca if self._pki else None
        settings = Config(
            root_ca=ca.decode(),
            cluster_cidr=self.config.pod_cidr,
            signer=signer,
            sign_token=self._server.sign_token,
            remove_directory=None if self.config.simulate else host_paths.remove,
            local_path=self._local_path,
        )
        self._manager = ControllerManager(self._controllers, settings, informers=self.informers)
        await bootstrap.run(self.client, self.config, ca=ca, front_proxy_ca=front_proxy)
        for finished in self._booted:
            finished()
        await self._manager.start()
        scheduling = asyncio.create_task(scheduler.run(), name="scheduler")
        self._watch_over(scheduling, self._manager)
        self._tasks = [
            scheduling,
            asyncio.create_task(self._compact(), name="compaction"),
        ]

    def _watch_over(self, scheduling: asyncio.Task[None], manager: ControllerManager) -> None:
        """What componentstatuses say."""

        async def scheduler() -> str | None:
            return "the scheduler has ended" if scheduling.done() else None

        async def controllers() -> str | None:
            ended = manager.ended()
            return f"ended: {', '.join(ended)}" if ended else None

        async def store() -> str | None:
            try:
                await self._store.get("/registry/health")
            except StoreError as error:
                return str(error)
            return None

        self.app.components = {"scheduler": scheduler, "controller-manager": controllers, "etcd-0": store}

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._manager is not None:
            await self._manager.close()
        if self._recorder is not None:
            await self._recorder.close()
        await self.informers.close()
        await self._server.close()
        await self._store.close()

    def http(self, streaming: Streaming) -> HttpServer:
        """A server for callers over the network."""
        from podling.apiserver.server import HttpServer

        options = self.config.kube_apiserver
        return HttpServer(self.app, streaming=streaming, limiter=self._server.limiter, options=options)

    def streaming(self, *, ca: Path, certificate: Path, key: Path) -> Streaming:
        """What serves exec, logs and the like over HTTP; see `Assembly.streaming`."""
        return self._server.streaming(ca=ca, certificate=certificate, key=key)

    async def _compact(self) -> None:
        """Keep the history of the last interval or two, and no more."""
        before = self._store.revision
        while True:
            await asyncio.sleep(_COMPACTION_SECONDS)
            await self._store.compact(before)
            before = self._store.revision


def run(config: ClusterConfig, paths: Layout) -> None:
    """The control plane's process, until SIGTERM."""
    # The store's writer thread asks for the interpreter's lock after every sync; with the usual 5 ms it would wait for
    # the event loop longer than for the disk.
    sys.setswitchinterval(0.0005)
    process.run_loop(_serve(config, paths))


async def _serve(config: ClusterConfig, paths: Layout) -> None:
    from podling.apiserver.server import tls_context
    from podling.store.sqlite import SqliteStore

    began = clock.real_seconds()
    pki = Pki(paths.pki, config.name)
    serving = certificates.api_server(pki, config)
    kubelet_client = certificates.kubelet_client(pki)
    plane = ControlPlane(
        config,
        SqliteStore(paths.store, erase=bool(config.kube_apiserver.encryption_provider_config)),
        pki,
        None if config.simulate else host_paths.NodePaths(paths),
    )
    streaming = plane.streaming(
        ca=pki.path("ca.crt"), certificate=kubelet_client.certificate_path, key=kubelet_client.key_path
    )
    server = plane.http(streaming)
    plane.app.metrics.gauge(
        "apiserver_storage_size_bytes",
        "[STABLE] Size of the storage database file physically allocated in bytes.",
        ("storage_cluster_id",),
        lambda: {
            ("sqlite",): float(sum(f.stat().st_blocks * 512 for f in paths.store.parent.glob(f"{paths.store.name}*")))
        },
    )
    tls = tls_context(str(serving.certificate_path), str(serving.key_path), str(pki.path("ca.crt")))
    if front_proxy := config.kube_apiserver.requestheader_client_ca_file:
        tls.load_verify_locations(front_proxy)
    stop = process.stop_event()
    await plane.start()
    hosts = ["127.0.0.1"] + ([] if config.simulate else [config.host_ip]) + config.listen
    await server.start(hosts, config.port, tls=tls)
    _log.info("serving on %s after %.3f s", ", ".join(hosts), clock.real_seconds() - began)
    process.settle()
    progress.report("step", f"control plane ready ({clock.real_seconds() - began:.2f} s)")
    tasks = [asyncio.create_task(_report_nodes(plane.client, config))]
    if config.nodes > 1 and not config.simulate:
        # Answers to the pods of nodes in namespaces of their own go out from here.
        tasks.append(asyncio.create_task(networking.keep_routes(plane.informers, config, "")))
    await stop.wait()
    await server.drain()
    for task in tasks:
        task.cancel()
    await streaming.close()
    await server.close()
    await plane.close()


async def _report_nodes(client: ApiClient, config: ClusterConfig) -> None:
    """Tell whoever started the cluster when each of its nodes is ready, and when all are."""
    waiting = set(config.node_names)
    async for event in client.watch(core_v1.Node, send_initial_events=True):
        node = event.object
        name = node.metadata.name or ""
        if event.type in ("ADDED", "MODIFIED") and name in waiting and is_ready(node):
            waiting.discard(name)
            progress.report("step", f"node {name} is ready")
            if not waiting:
                progress.report("ready", "")
                progress.end()
                return


def is_ready(node: core_v1.Node) -> bool:
    """Whether the condition Ready is True."""
    return any(c.type == "Ready" and c.status == "True" for c in node.status.conditions or ())
