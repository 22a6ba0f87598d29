"""Core: what every part of the API server may know of it.

What is served, from which store and cache, who may do what, and how to send a request of one's own. Handlers, admission
plugins and documents are given a Core; it knows none of them. `app.ApiServer` is the Core that also answers requests.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from podling import clock
from podling.api import authentication_v1, registry
from podling.api.registry import Resource
from podling.api.request import Request, Response, User
from podling.apiserver import served as serving
from podling.apiserver.admission.attributes import Attributes as Write
from podling.apiserver.answer import Answer
from podling.apiserver.audit.trail import current as audit_trail
from podling.apiserver.authz import metrics
from podling.apiserver.authz.attributes import Attributes, Authorize, Decision, refusal
from podling.apiserver.cache import WatchCache
from podling.apiserver.request_info import RequestInfo
from podling.apiserver.served import Served
from podling.apiserver.strategy import Strategy
from podling.apiserver.usage import NodeUsages
from podling.metrics import Registry
from podling.store.base import Store

if TYPE_CHECKING:
    from podling.apiserver.audit.auditor import Auditor

TokenIssuer = Callable[[str, str, authentication_v1.TokenRequest], authentication_v1.TokenRequest]
PathHandler = Callable[[Request, RequestInfo, User], Awaitable[Answer]]


class Admission(Protocol):
    """All admission plugins as one (`admission.base.Chain`)."""

    async def mutate(self, attributes: Write) -> bool: ...

    async def validate(self, attributes: Write) -> None: ...

    async def close(self) -> None: ...


def _strategy(resource: Resource) -> Strategy[Any]:
    """The strategy of a built-in kind, loaded when the kind is first used."""
    from podling.apiserver.resources import strategy_for

    return strategy_for(resource)


class Core(ABC):
    """`ready` is True from the moment when the cache is loaded until the server closes."""

    def __init__(
        self,
        store: Store,
        admission: Admission,
        *,
        authorizer: Authorize | None = None,
        resources: Iterable[Resource] = registry.BUILTIN,
        ring: int = 4096,
    ) -> None:
        self.store = store
        self.hub = WatchCache(store, ring=ring)
        #: May they? Decides from memory, at once, unless webhooks are asked.
        self.authorizer = authorizer
        self.admission = admission
        self.served: dict[tuple[str, str, str], Served] = {}
        #: Group versions that other servers serve (`aggregation.remote.Remote`); requests for them are passed on.
        self.remotes: dict[tuple[str, str], Any] = {}
        #: What is served at paths that are no resources; the longest prefix that ends in "/" wins if none is equal.
        self.paths: dict[str, PathHandler] = {}
        #: Issues the tokens of serviceaccounts/token: (namespace, name, request) -> request with its status.
        self.token_issuer: TokenIssuer | None = None
        #: Parts of the control plane for componentstatuses: name -> what is wrong with it now, or None.
        self.components: dict[str, Callable[[], Awaitable[str | None]]] = {}
        #: Records requests, if that is wanted.
        self.auditor: Auditor | None = None
        #: What nodes and pods use, for metrics.k8s.io; None where no node agent can be asked.
        self.usages: NodeUsages | None = None
        self.ready = False
        #: Whether CBOR is spoken (the feature CBORServingAndStorage).
        self.cbor = False
        #: What is counted or read of this server alone; see `scrape`.
        self.metrics = Registry()
        #: Seconds after which a watch ends that did not say for how long it wants to watch; up to twice as much.
        self.min_request_timeout = 1800
        #: Counts changes of what is served, for discovery and OpenAPI documents.
        self.generation = 0
        for resource in resources:
            self.install(resource)

    @abstractmethod
    async def send(self, request: Request) -> Response:
        """A request of this process: `request.user` (or the loopback user) is trusted to be who it says."""

    # What is served

    def install(self, resource: Resource, strategy: Strategy[Any] | None = None) -> Served:
        """Serve a resource from now on (a custom one may come at any time)."""
        make = (lambda: strategy) if strategy is not None else (lambda: _strategy(resource))
        item = serving.install(self.hub, resource, make)
        self.served[resource.group, resource.version, resource.name] = item
        self.generation += 1
        return item

    def serve(self, item: Served) -> None:
        """Serve a version of a custom resource from now on."""
        row = item.resource
        self.served[row.group, row.version, row.name] = item
        self.generation += 1

    def uninstall(self, resource: Resource) -> None:
        """Serve a resource no longer; its watches end, its objects stay in the store."""
        item = self.served.pop((resource.group, resource.version, resource.name), None)
        if item is not None and item.prefix and not any(s.prefix == item.prefix for s in self.served.values()):
            self.hub.drop(item.prefix)
        self.generation += 1

    def lookup(self, group: str, name: str, *, version: str = "") -> Served | None:
        """A served resource of a group, in its preferred version unless one is given."""
        if version:
            return self.served.get((group, version, name))
        return next((s for (g, _, n), s in self.served.items() if g == group and n == name), None)

    def by_kind(self, api_version: str, kind: str) -> Served | None:
        """A served resource by the kind of its objects, custom ones included: `by_kind("example.com/v1", "Foo")`."""
        return next(
            (s for s in self.served.values() if s.resource.kind == kind and s.resource.group_version == api_version),
            None,
        )

    def cached(self, group: str, name: str, key: str) -> Any:
        """The object at `namespace/name` (or `name`) as the cache has it now, None if it has none."""
        item = self.lookup(group, name)
        entry = item.cache.get(key) if item is not None else None
        return entry.object if entry is not None else None

    def get(self, resource: str, namespace: str, name: str) -> Any:
        """A core/v1 object by the plural of its kind, None if there is none (`authn.lookup.Lookup`)."""
        return self.cached("", resource, f"{namespace}/{name}" if namespace else name)

    def observe(self, kind: type[Any], callback: Callable[[str, Any], None]) -> None:
        """Call `callback("ADDED" | "MODIFIED" | "DELETED", object)` for all objects of a class and every change.

        At the moment when it enters the cache: for what decides upon requests and must not lag behind them. Give it
        before `start`, so that nothing is missed.
        """
        row = registry.of(kind)
        self.served[row.group, row.version, row.name].cache.observers.append(callback)

    @staticmethod
    def now() -> datetime:
        return clock.now()

    def authorize(self, user: User, info: RequestInfo) -> Awaitable[None] | None:
        """StatusError 403 unless `user` may do it. What to wait for, if that is not decided from memory."""
        if self.authorizer is None:
            return None
        attributes, began = asked(user, info), clock.real_seconds()
        decision = self.authorizer(attributes)
        if not isinstance(decision, Decision):
            return self._allowed(attributes, decision, began)
        self._judge(attributes, decision, began)
        return None

    def _judge(self, attributes: Attributes, decision: Decision, began: float) -> None:
        metrics.attempted(decision.allowed, decision.denied, decision.error, clock.real_seconds() - began)
        if self.auditor is not None and (trail := audit_trail()) is not None:
            trail.authorized(decision.allowed, decision.reason)
        if not decision.allowed:
            raise refusal(attributes, decision)

    async def _allowed(self, attributes: Attributes, pending: Awaitable[Decision], began: float) -> None:
        self._judge(attributes, await pending, began)


def asked(user: User, info: RequestInfo) -> Attributes:
    """What a request is to an authorizer."""
    return Attributes(
        user, info.verb, info.group, info.version, info.resource, info.subresource, info.namespace, info.name,
        info.path, info.field_selector, info.label_selector,
    )  # fmt: skip
