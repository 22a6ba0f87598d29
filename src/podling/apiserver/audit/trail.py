"""What is known of one request, gathered on its way through the server, and the events that come of it.

The server tells a trail of the request's stages; the parts that it passes find it by `current()` and tell it what they
know. Nothing is encoded before the policy has said that it is wanted.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol

from podling import clock, log
from podling.api import errors, meta_v1, times
from podling.apiserver import metadata
from podling.apiserver.audit.latency import Latency
from podling.apiserver.metrics import removed_in

if TYPE_CHECKING:
    from podling.api.request import Request, User
    from podling.apiserver.answer import Answer
    from podling.apiserver.audit.event import Event
    from podling.apiserver.audit.rules import Rules
    from podling.apiserver.negotiate import Media
    from podling.apiserver.request_info import RequestInfo

LOG = log.get(__name__)

_current: ContextVar[Trail | None] = ContextVar("audit", default=None)

#: Annotations that are recorded with requests' objects only.
_REQUEST_ONLY = "patch.webhook.admission.k8s.io/"
_LONG_RUNNING = frozenset({"attach", "exec", "proxy", "log", "portforward"})


def current() -> Trail | None:
    """The trail of the request that is being answered; None if it is not audited."""
    return _current.get()


def id_of(headers: Mapping[str, str]) -> str:
    """What a request is known by: as its client says, if that can stand in a header, or a new id."""
    given = headers.get("audit-id", "")
    return given if given and given.isascii() and given.isprintable() else metadata.new_uid()


async def started(code: int) -> None:
    """The head of a long answer to the current request is about to be sent."""
    trail = _current.get()
    if trail is not None:
        await trail.started(code)


@contextmanager
def spending(layer: str) -> Iterator[None]:
    """The time of the block is that of a layer of the current request."""
    trail = _current.get()
    if trail is None:
        yield
        return
    began = clock.elapsed()
    try:
        yield
    finally:
        trail.latency.spent(layer, clock.elapsed() - began)


class Recorder(Protocol):
    """Who takes the events of a trail (`auditor.Auditor`)."""

    rules: Rules
    #: Stands for the event of a request of which nothing is recorded.
    nothing: Event

    async def emit(self, event: Event) -> bool:
        """Whether the backends took it."""


class Trail:
    """Made when a request arrives, and the current one until it is left."""

    def __init__(self, auditor: Recorder, info: RequestInfo, audit_id: str, begin: Callable[[], Event]) -> None:
        """`begin` makes the event, as far as it is known when the request arrives."""
        self._auditor = auditor
        self._begin = begin
        self.info = info
        self.id = audit_id
        self.annotations: dict[str, str] = {}
        #: Only once the policy has decided that there is one; it is never changed if there is not.
        self.event = auditor.nothing
        self._received = clock.now()
        self.latency = Latency()
        self._decided = False
        self._unknown = False
        self._started = False
        self._panicked = False
        self._omit: frozenset[str] = frozenset()
        self._omit_managed_fields = False
        self._entered = _current.set(self)

    @property
    def records(self) -> bool:
        """Whether anything is recorded of the request."""
        return self.event is not self._auditor.nothing

    @property
    def long_running(self) -> bool:
        return self.info.verb in ("watch", "proxy") or self.info.subresource in _LONG_RUNNING

    # What the server tells, in the order of a request's life

    async def identified(self, user: User) -> None:
        """Who asks is known (before impersonation). StatusError 500 if the event is lost and must not be."""
        if self._decided:
            return
        self._decide(user)
        if not self.records:
            return
        from podling.apiserver.audit import event, metrics

        self.latency.spent("authentication", self.latency.total)
        self.event.user = event.user_info(user)
        if not await self._emit("RequestReceived"):
            metrics.REJECTED.add()
            self.event = self._auditor.nothing
            raise errors.internal("failed to store audit event")

    def impersonates(self, user: User, constraint: str = "") -> None:
        """The user as whom the request is answered, and by which constrained right."""
        if not self.records:
            return
        from podling.apiserver.audit.event import AuthenticationMetadata, user_info

        self.event.impersonated_user = user_info(user)
        if constraint:
            self.event.authentication_metadata = AuthenticationMetadata(impersonation_constraint=constraint)

    def authorized(self, allowed: bool, reason: str) -> None:
        # What a handler asks besides, for what it does in the user's name, is not the answer to the request.
        if not self.records or "authorization.k8s.io/decision" in self.annotations:
            return
        decision = "allow" if allowed else "forbid"
        self.annotate({"authorization.k8s.io/decision": decision, "authorization.k8s.io/reason": reason})

    def asked(self, request: Request, deprecation: str) -> None:
        """The request has a handler, which will read its object. `deprecation` is what clients are warned of."""
        if not self.records:
            return
        from podling.apiserver.audit import objects

        if deprecation:
            self.annotate({"k8s.io/deprecated": "true"})
            if removed := removed_in(deprecation):
                self.annotate({"k8s.io/removed-release": removed})
        named, wanted = self.info.verb in ("create", "update"), self.event.level != "Metadata"
        data = objects.sent(request) if named or wanted else None
        if data is None:
            return
        if named and self.event.object_ref is not None:
            self.event.object_ref = objects.referred(self.event.object_ref, data)
        if wanted:
            self.event.request_object = objects.raw(data, bare=self._omit_managed_fields)

    def failed(self, status: meta_v1.Status) -> None:
        """The answer is a failure."""
        if not self._decided:
            self._unidentified()
        if not self.records:
            return
        from podling.apiserver.audit import objects

        self.event.response_status = objects.response_status(status.code or 500, status)
        if self.wants_answer:
            self.event.response_object = objects.raw(objects.as_json(status), bare=False)

    def answered(self, answer: Answer, body: bytes, media: Media, query: dict[str, str]) -> None:
        """The answer is this, and `body` is what the client gets of it."""
        if not self.records:
            return
        from podling.apiserver.audit import objects

        self.event.response_status = objects.response_status(answer.status, answer.obj)
        if self.wants_answer:
            data = objects.answered(answer, body, media, query)
            self.event.response_object = objects.raw(data, bare=self._omit_managed_fields)

    def passed_on(self, code: int) -> None:
        """Another server answered; what, is for that one's audit log."""
        if not self.records:
            return
        from podling.apiserver.audit import objects

        self.event.response_status = objects.response_status(code)

    def panicked(self, error: BaseException) -> None:
        """The server broke."""
        if not self.records:
            return
        from podling.apiserver.audit import objects

        self._panicked = True
        message = f"APIServer panic'd: {error}"
        status = meta_v1.Status(status="Failure", reason="InternalError", message=message, code=500)
        self.event.response_status = objects.response_status(500, status)

    async def started(self, code: int) -> None:
        """The head of a long answer is about to be sent."""
        if self.records and not self._started:
            from podling.apiserver.audit import objects

            self._started = True
            if self.event.response_status is None:
                self.event.response_status = objects.response_status(code)
            await self._emit("ResponseStarted")

    async def leave(self) -> None:
        """Nothing more will be sent."""
        self.stray()
        await self.finish()

    def stray(self) -> None:
        """What this task does next is no part of the request any more, though that goes on."""
        _current.reset(self._entered)

    async def finish(self) -> None:
        """The last events."""
        if not self._decided:
            self._unidentified()
        event = self.event
        if self._unknown:
            await self.started(401)
        elif self._panicked:
            await self._emit("Panic")
        elif self.records:
            if event.response_status is None:
                from podling.apiserver.audit import objects

                early = meta_v1.Status(status="Success", message="Connection closed early")
                event.response_status = objects.response_status(200, early)
            if self.long_running:
                await self.started(event.response_status.code)
            self.annotate(self.latency.annotations())
            await self._emit("ResponseComplete")

    # What others tell

    def annotate(self, annotations: Mapping[str, str]) -> None:
        """What a part of the server wants to be known. The first value of a key stays."""
        if self._decided and not self.records:
            return
        mine = self.annotations
        for key, value in annotations.items():
            if key.startswith(_REQUEST_ONLY) and self.event.level == "Metadata":
                continue
            if mine.setdefault(key, value) != value:
                LOG.warning(
                    'Failed to set annotations["%s"] to "%s" for audit:"%s", it has already been set to "%s"',
                    key, value, self.id, mine[key],
                )  # fmt: skip

    # How it becomes events

    @property
    def wants_answer(self) -> bool:
        """Whether the answer's object is recorded."""
        return self.event.level == "RequestResponse" and self.info.is_resource

    def _decide(self, user: User | None) -> None:
        from podling.apiserver.audit import metrics

        decision = self._auditor.rules.decide(user, self.info)
        self._decided = True
        metrics.LEVELS.add(decision.level)
        if decision.level == "None":
            return
        self.event = self._begin()
        self.event.level = decision.level
        self.event.request_received_timestamp = times.format_micro(self._received)
        self._omit, self._omit_managed_fields = decision.omit_stages, decision.omit_managed_fields

    def _unidentified(self) -> None:
        """Nobody could be authenticated, which is all that there is to say of the request."""
        self._unknown = True
        self._decide(None)

    async def _emit(self, stage: str) -> bool:
        """Whether the backends took it."""
        if not self.records or stage in self._omit:
            return True
        event = copy.copy(self.event)
        event.stage = stage
        event.annotations = dict(self.annotations)
        received = stage == "RequestReceived"
        event.stage_timestamp = event.request_received_timestamp if received else times.now_micro()
        return await self._auditor.emit(event)
