"""ApiServer: who asks, what do they want, may they, and which handler answers.

The HTTP server and the clients in this process meet here: both bring an `api.request.Request`. In process (`send`) the
answer carries the cache's own objects; over HTTP (`handle`) an `Answer` that `server` turns into bytes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from podling import clock, log
from podling.api import errors, meta_v1, registry
from podling.api.errors import StatusError
from podling.api.registry import Resource
from podling.api.request import LOOPBACK, Request, Response, User
from podling.apiserver import metrics
from podling.apiserver.admission.base import Chain
from podling.apiserver.answer import Answer
from podling.apiserver.audit.trail import current as audit_trail
from podling.apiserver.authn import metrics as authn_metrics
from podling.apiserver.authz.attributes import Attributes, Authorize
from podling.apiserver.call import Call
from podling.apiserver.core import Admission, Core, asked
from podling.apiserver.discovery import Discovery
from podling.apiserver.handlers import delete, patch, read, subresources, watch, write
from podling.apiserver.health import Health
from podling.apiserver.openapi.document import OpenApi
from podling.apiserver.request_info import RequestInfo, resolve
from podling.apiserver.scrape import Scrape
from podling.apiserver.served import Served
from podling.apiserver.version import answer as version
from podling.client import rest_metrics
from podling.store.base import Store, Unavailable

if TYPE_CHECKING:
    from aiohttp import web

LOG = log.get(__name__)

#: Who is asking, by a request's headers, the DER form of its connection's verified certificate, and its path.
#: None if there are no credentials and the path needs some; StatusError 401 if they are wrong.
Authenticator = Callable[[Mapping[str, str], bytes | None, str], Awaitable[User | None]]
#: Whom a user is taken for, by the request's headers and what is asked, and what limits that. StatusError 403.
Impersonator = Callable[[User, Mapping[str, str], Attributes], Awaitable[tuple[User, str]]]
#: A verb of a resource, or what is served at a path that is no resource.
Handler = Callable[[Call], Awaitable[Answer]]

ANONYMOUS = User("system:anonymous", ("system:unauthenticated",))


class Aggregation(Protocol):
    """Passes requests on to the servers of `Core.remotes` (`aggregation.aggregator`)."""

    async def serve(self, http: web.BaseRequest, remote: Any, info: RequestInfo, user: User) -> web.StreamResponse: ...

    async def send(self, remote: Any, request: Request, info: RequestInfo, user: User) -> Answer: ...

    async def end(self) -> None: ...


class ApiServer(Core):
    """A Kubernetes API over a store. `api.request.Transport` for the clients in this process."""

    def __init__(
        self,
        store: Store,
        *,
        authenticator: Authenticator | None = None,
        authorizer: Authorize | None = None,
        admission: Admission | None = None,
        resources: Iterable[Resource] = registry.BUILTIN,
        ring: int = 4096,
    ) -> None:
        """Without an authenticator everyone is anonymous, without an authorizer everyone may do everything.

        Admission is empty unless a chain is given; a cluster sets `app.admission = default_chain(app)`
        (`admission.default`), since its plugins look things up here.
        """
        super().__init__(store, admission or Chain(), authorizer=authorizer, resources=resources, ring=ring)
        self.authenticator = authenticator
        self.impersonator: Impersonator | None = None
        #: Verbs of resources that are answered, not stored: {("authorization.k8s.io", "v1", "tokenreviews"): handler}.
        self.virtual: dict[tuple[str, str, str], Handler] = dict(subresources.VIRTUAL)
        #: {(qualified resource or "*", subresource): {verb: handler}}.
        self.subresources: dict[tuple[str, str], dict[str, Handler]] = dict(subresources.SUBRESOURCES)
        self.aggregation: Aggregation | None = None
        self.discovery = Discovery(self)
        self.health = Health(self)
        Scrape(self, self.health)
        self.openapi = OpenApi(self)
        self.paths["/version"] = version

    # Life

    async def start(self) -> None:
        """Load the cache and follow the store, which is open already."""
        await self.hub.start()
        # A copy: definitions that are there make custom resources served.
        for item in list(self.served.values()):
            if not item.resource.virtual and item.view is None:
                for callback in item.cache.observers:
                    for entry in item.cache.all():
                        callback("ADDED", entry.object)
        self.ready = True

    async def close(self) -> None:
        """End all watches; the store stays open."""
        self.ready = False
        await self.admission.close()
        await self.hub.close()

    # Requests

    async def send(self, request: Request) -> Response:
        """A request of this process: `request.user` (or the loopback user) is trusted to be who it says."""
        user = request.user or LOOPBACK
        info = resolve(request.method, request.path, request.query)
        began, code = clock.real_seconds(), 0
        try:
            if self.auditor is not None:
                answer = await self.auditor.in_process(self._answer, request, info, user)
            else:
                answer = await self._answer(request, info, user)
            code = answer.status
        except StatusError as error:
            code = error.code
            raise
        finally:
            rest_metrics.requested(rest_metrics.IN_PROCESS, request.method, code, clock.real_seconds() - began)
        return _in_process(answer)

    async def _answer(self, request: Request, info: RequestInfo, user: User) -> Answer:
        if (pending := self.authorize(user, info)) is not None:
            await pending
        if self.remotes and self.aggregation is not None and (remote := self.remote(info)) is not None:
            return await self.aggregation.send(remote, request, info, user)
        return await self.dispatch(request, info, user)

    async def authenticate(self, headers: Mapping[str, str], certificate: bytes | None, path: str) -> User:
        """Who sent these headers over a connection with this certificate. StatusError 401."""
        if self.authenticator is None:
            return ANONYMOUS
        began, result, name = clock.real_seconds(), authn_metrics.ERROR, ""
        try:
            user = await self.authenticator(headers, certificate, path)
            if user is None:
                result = authn_metrics.FAILURE
                raise errors.unauthorized()
            result, name = authn_metrics.SUCCESS, user.name
            return user
        finally:
            authn_metrics.attempted(result, clock.real_seconds() - began, name)

    def remote(self, info: RequestInfo) -> Any:
        """Which other server a request is for, None if it is for this one."""
        parts = info.path.split("/", 4)
        if len(parts) > 3 and parts[1] == "apis":
            return self.remotes.get((parts[2], parts[3]))
        # Who serves the core group's only version serves all below /api.
        return self.remotes.get(("", "v1")) if len(parts) > 1 and parts[1] == "api" else None

    async def impersonate(self, user: User, headers: Mapping[str, str], info: RequestInfo) -> User:
        """Whom `user` asks to be taken for, or `user`. StatusError 400, 403."""
        if self.impersonator is None:
            return user
        other, constraint = await self.impersonator(user, headers, asked(user, info))
        if self.auditor is not None and other is not user and (trail := audit_trail()) is not None:
            trail.impersonates(other, constraint)
        return other

    async def dispatch(self, request: Request, info: RequestInfo, user: User) -> Answer:
        """Answer a request that is allowed. StatusError in every other case."""
        if not info.resource:
            return await self._path(request, info, user)
        item = self.served.get((info.group, info.version, info.resource))
        if item is None or (info.namespace and not item.resource.namespaced and info.resource != "namespaces"):
            raise errors.path_not_found()
        call = Call(self, request, info, user, item)
        if item.strategy.deprecation or item.warnings:
            metrics.deprecated(info, item.strategy.deprecation)
            if item.strategy.deprecation:
                call.warn(item.strategy.deprecation)
        handler = self._handler(item, info)
        if self.auditor is not None and (trail := audit_trail()) is not None:
            trail.asked(request, item.strategy.deprecation or "".join(item.warnings))
        try:
            answer = await handler(call)
        except StatusError:
            raise
        except Unavailable as error:
            raise errors.unavailable(str(error)) from error
        if item.view is not None and item.view.deferred:
            await item.ready(answer.entries or ([answer.entry] if answer.entry is not None else []))
        answer.warnings = [*item.warnings, *call.warnings] if item.warnings else call.warnings
        return answer

    def _handler(self, item: Served, info: RequestInfo) -> Handler:
        resource = item.resource
        if info.subresource:
            if info.subresource in resource.subresources:
                verbs = self.subresources.get((resource.qualified, info.subresource)) or self.subresources.get(
                    ("*", info.subresource)
                )
                if verbs is not None:
                    if info.verb in verbs:
                        return verbs[info.verb]
                    raise not_allowed()
            raise errors.path_not_found()
        if info.verb not in resource.verbs or (not info.namespace and resource.namespaced and info.name and (
            info.verb in ("get", "update", "patch", "delete"))):  # fmt: skip
            if info.verb in resource.verbs:
                raise errors.path_not_found()
            raise not_allowed()
        if info.verb in ("update", "patch") and not info.name:
            raise not_allowed()
        if info.verb == "create" and (info.name and not (resource.name == "namespaces" and not resource.namespaced)):
            raise not_allowed()
        if resource.virtual:
            handler = self.virtual.get((resource.group, resource.version, resource.name))
            if handler is None:
                raise errors.path_not_found()
            return handler
        return VERBS[info.verb]

    async def _path(self, request: Request, info: RequestInfo, user: User) -> Answer:
        path = info.path.rstrip("/") or "/"
        handler = self.paths.get(path)
        while handler is None and path != "/":
            path = path.rpartition("/")[0] or "/"
            handler = self.paths.get(path + "/" if path != "/" else "/*")
        if handler is None:
            raise errors.path_not_found()
        return await handler(request, info, user)


def not_allowed() -> StatusError:
    """405: the resource has no such verb."""
    return StatusError(
        meta_v1.Status(
            status="Failure",
            code=405,
            reason="MethodNotAllowed",
            message="the server does not allow this method on the requested resource",
            details=meta_v1.StatusDetails(),
        )
    )


def _in_process(answer: Answer) -> Response:
    """Objects as they are."""
    if answer.relayed is not None:
        return answer.relayed
    view = answer.served.view if answer.served is not None else None
    if answer.entry is not None:
        obj = answer.entry.object if view is None else answer.entry.shown(view)[0]
        return Response(answer.status, obj=obj, warnings=answer.warnings)
    if answer.entries is not None:
        objects = [e.object for e in answer.entries] if view is None else [e.shown(view)[0] for e in answer.entries]
        return Response(answer.status, objects=objects, metadata=answer.list_meta, warnings=answer.warnings)
    if answer.watch is not None:
        return Response(answer.status, events=answer.watch)
    return Response(
        answer.status, obj=answer.obj, body=answer.body, headers=answer.headers or {}, warnings=answer.warnings
    )


VERBS: dict[str, Handler] = {
    "get": read.get,
    "list": read.list_,
    "watch": watch.watch,
    "create": write.create,
    "update": write.update,
    "patch": patch.patch,
    "delete": delete.delete,
    "deletecollection": delete.delete_collection,
}
