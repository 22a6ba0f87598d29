"""The auditor: made from the options of the server, it begins the trail of each request and takes its events."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from ipaddress import ip_address
from urllib.parse import urlencode

from podling.api.request import Request, User
from podling.apiserver.answer import Answer
from podling.apiserver.audit import local, metrics
from podling.apiserver.audit.backend import Backend
from podling.apiserver.audit.event import Event, ObjectReference, shortened_agent
from podling.apiserver.audit.policy import NONE
from podling.apiserver.audit.rules import Rules
from podling.apiserver.audit.trail import Trail, id_of
from podling.apiserver.request_info import RequestInfo


class Auditor:
    """Events that `rules` want go to `backend`."""

    def __init__(self, rules: Rules, backend: Backend) -> None:
        self.rules = rules
        self._backend = backend
        #: Stands for the event of a request of which nothing is recorded.
        self.nothing = Event(level=NONE)
        self._finishing: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        self._backend.start()

    async def close(self) -> None:
        """Record the end of what has ended, and write what is left."""
        await asyncio.gather(*self._finishing, return_exceptions=True)
        await self._backend.close()

    async def emit(self, event: Event) -> bool:
        metrics.EVENTS.add()
        return await self._backend.write((event,))

    def begin(self, info: RequestInfo, uri: str, headers: Mapping[str, str], remote: str) -> Trail:
        """The trail of a request that has just arrived from the address `remote`. `leave` it in the end."""
        audit_id = id_of(headers)
        return Trail(self, info, audit_id, lambda: _begun(audit_id, info, uri, headers, remote))

    async def in_process(self, handler: local.Handler, request: Request, info: RequestInfo, user: User) -> Answer:
        """Have a request of this process answered, and audit it like any other."""
        query = {**request.query, **request.queries}
        uri = f"{request.path}?{urlencode(query, doseq=True)}" if query else request.path
        trail = self.begin(info, uri, request.headers, "127.0.0.1")
        return await local.audited(trail, handler, request, user, self._finish)

    def _finish(self, trail: Trail) -> None:
        task = asyncio.get_running_loop().create_task(trail.finish(), name="audit-end-of-watch")
        self._finishing.add(task)
        task.add_done_callback(self._finishing.discard)


def _begun(audit_id: str, info: RequestInfo, uri: str, headers: Mapping[str, str], remote: str) -> Event:
    """What is known of a request when it arrives."""
    event = Event(
        audit_id=audit_id,
        request_uri=uri,
        verb=info.verb,
        user_agent=shortened_agent(headers.get("user-agent", "")),
        source_ips=source_ips(headers, remote),
    )
    if info.resource:
        event.object_ref = ObjectReference(
            namespace=info.namespace,
            name=info.name,
            resource=info.resource,
            subresource=info.subresource,
            api_group=info.group,
            api_version=info.version,
        )
    return event


def source_ips(headers: Mapping[str, str], remote: str) -> list[str]:
    """Where the request came from, through which proxies: only the last address can't be made up by the client."""
    found = [shown for part in headers.get("x-forwarded-for", "").split(",") if (shown := _address(part))]
    real = _address(headers.get("x-real-ip", ""))
    if real and real not in found:
        found.append(real)
    last = _address(remote)
    if last and (not found or found[-1] != last):
        found.append(last)
    return found


def _address(text: str) -> str:
    try:
        address = ip_address(text.strip())
    except ValueError:
        return ""
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)
