"""What all controllers share: keys in a queue, workers that reconcile them, caches that say when.

A controller names what it watches in its constructor and turns every event into a key; `reconcile(key)` reads the
cache, decides in pure functions what should be, and does the difference. It is safe to repeat, and a failure is
repeated later by itself. Nothing runs while nothing changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta
from typing import Any, ClassVar, Protocol, TypeVar

import msgspec

from podling import log
from podling.api import apiextensions_v1, apiregistration_v1, core_v1, errors
from podling.client.client import ApiClient
from podling.client.events import Recorder
from podling.client.informer import Informer, Informers, key_of
from podling.client.workqueue import WorkQueue
from podling.controllers import metrics
from podling.controllers.aggregated import Aggregated
from podling.controllers.resources import Resources

T = TypeVar("T")

_log = log.get(__name__)


class Signer(Protocol):
    """A certificate authority."""

    def sign_request(self, request: bytes, usages: Iterable[str], lifetime: timedelta) -> bytes:
        """The certificate (PEM) for a PKCS#10 request (PEM), with the usages of a CertificateSigningRequest.

        Whether the asker may have it is for the caller to know. ValueError for what can't be signed.
        """
        ...


class LocalPaths:
    """Where volumes on the nodes' disks lie, by node and name. These are nowhere: the nodes are simulated."""

    def path(self, node: str, name: str) -> str:
        return f"/var/lib/podling/nodes/{node}/local-path/{name}"

    async def make(self, path: str) -> None:
        """Make the directory, for anybody to write to, unless it is there. Raises OSError."""

    async def remove(self, path: str) -> None:
        """Remove the directory with all that is in it, if it is there and is one of these. Raises OSError."""


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """What a cluster decides for its controllers; times in seconds, upstream's defaults."""

    #: PEM of the CA that pods verify the API server with.
    root_ca: str = ""
    #: Range that nodes' pod ranges are cut from; several, comma-separated, for dual stack; "" if somebody else does it.
    cluster_cidr: str = "10.244.0.0/16"
    node_cidr_mask_ipv4: int = 24
    node_cidr_mask_ipv6: int = 64
    #: How long a node may be silent before it counts as lost.
    node_monitor_grace_period: float = 50.0
    node_startup_grace_period: float = 60.0
    node_monitor_period: float = 5.0
    node_eviction_rate: float = 0.1
    #: How many ended pods may stay.
    terminated_pod_threshold: int = 12500
    endpoints_per_slice: int = 100
    #: How often autoscalers look at their metrics.
    autoscaler_sync_period: float = 15.0
    #: For so long a higher recommendation keeps replicas, unless an autoscaler says otherwise.
    autoscaler_downscale_stabilization: float = 300.0
    #: By how much the ratio of use to target may differ from 1 with nothing being done.
    autoscaler_tolerance: float = 0.1
    #: For so long after its start a pod's CPU counts only once it is ready.
    autoscaler_cpu_initialization: float = 300.0
    #: A pod that was unready for so long from its start has never been ready.
    autoscaler_readiness_delay: float = 30.0
    #: Signs for Kubernetes' own signers; None if there is no authority here.
    signer: Signer | None = None
    #: Signs the token of an account for a Secret of this name; None if nobody is authenticated here.
    sign_token: Callable[[core_v1.ServiceAccount, str], str] | None = None
    #: How long the token in a Secret that was made by itself may be unused before it is invalid, and before it goes.
    legacy_token_clean_up_period: float = 365 * 86400.0
    #: How long its certificates are good, unless a request wants less.
    signing_duration: float = 365 * 86400.0
    #: Removes what a hostPath volume with the policy Delete leaves on its node; OSError if it can't. None if there is
    #: nothing to remove: nodes are simulated.
    remove_directory: Callable[[str], Awaitable[None]] | None = None
    local_path: LocalPaths = LocalPaths()


class Context(msgspec.Struct):
    """The surroundings of a controller: one a process."""

    client: ApiClient
    informers: Informers
    config: Config


class Controller:
    """A reconciler. Subclasses set `name` (upstream's, as in --controllers), watch in `__init__`, and reconcile."""

    name: ClassVar[str]
    #: Under which name events are recorded.
    component: ClassVar[str] = ""
    workers: ClassVar[int] = 5

    def __init__(self, context: Context) -> None:
        self.context = context
        self.client = context.client.with_agent(f"kube-controller-manager/{self.name}")
        self.queue: WorkQueue[str] = WorkQueue(name=metrics.queue_name(self.name))
        self.recorder = Recorder(self.client, self.component or self.name)
        self._watched: list[Informer[Any]] = []

    async def reconcile(self, key: str) -> None:
        """Make what is at `key` as it should be. Raise to be called again, later and later."""
        raise NotImplementedError

    def informer(self, kind: type[T]) -> Informer[T]:
        """The shared cache of a kind; the workers wait until it is filled."""
        informer = self.context.informers.of(kind)
        if informer not in self._watched:
            self._watched.append(informer)
        return informer

    def resources(self) -> Resources:
        """All resources that the cluster serves; aggregated ones for who runs their `follow` in the background."""
        services = self.informer(apiregistration_v1.APIService)
        definitions = self.informer(apiextensions_v1.CustomResourceDefinition)
        return Resources(definitions, Aggregated(self.client, services))

    def watch(self, kind: type[T], enqueue: Callable[[T], None] | None = None) -> Informer[T]:
        """The cache of a kind, each change of which calls `enqueue` (by default: queue the object's own key)."""
        informer = self.informer(kind)
        call = enqueue or self.enqueue
        informer.add_handler(on_add=call, on_update=lambda old, new: call(new), on_delete=call)
        return informer

    def enqueue(self, obj: Any) -> None:
        """Queue an object for reconciliation."""
        self.queue.add(key_of(obj))

    async def run(self) -> None:
        """Work until cancelled."""
        for informer in self._watched:
            await informer.wait_synced()
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(self.workers):
                    group.create_task(self.queue.serve(self.reconcile, self._failed), name=f"{self.name} {number}")
                for number, background in enumerate(self.background()):
                    group.create_task(background, name=f"{self.name} background {number}")
        finally:
            self.queue.shutdown()

    def background(self) -> list[Any]:
        """Coroutines that run beside the workers, for what time alone triggers."""
        return []

    async def close(self) -> None:
        """Let go of what outlives `run`: writes the last events."""
        self.queue.shutdown()
        await self.recorder.close()

    def _failed(self, key: str, error: Exception) -> None:
        if isinstance(error, errors.StatusError | NotYet):
            # A stale cache shows as a conflict or a missing object; the next round sees what is.
            _log.debug("%s: %s: %s", self.name, key, error)
        else:
            _log.error(
                "%s: %s: %s", self.name, key, error, exc_info=None if isinstance(error, ReconcileError) else error
            )


class ReconcileError(Exception):
    """Not all could be done now; the text says what. Tried again later."""


class NotYet(ReconcileError):
    """What is missing comes by itself, usually at once: nothing that a person should read about."""


async def unchanged(client: ApiClient, known: T) -> T | None:
    """The object as the server has it, None if it is gone, another one, or has another spec than `known` of a cache:
    what can't be undone is not done on a cache's word."""
    meta = known.metadata  # type: ignore[attr-defined]
    try:
        fresh: Any = await client.get(type(known), meta.name or "", meta.namespace)
    except errors.StatusError as error:
        if errors.is_not_found(error):
            return None
        raise
    same = fresh.metadata.uid == meta.uid and fresh.spec == known.spec  # type: ignore[attr-defined]
    return fresh if same else None


def namespace_terminating(error: BaseException) -> bool:
    """Whether a create failed because its namespace goes: nothing to repeat."""
    if not isinstance(error, errors.StatusError) or error.status.details is None:
        return False
    return any(c.reason == "NamespaceTerminating" for c in error.status.details.causes or ())
