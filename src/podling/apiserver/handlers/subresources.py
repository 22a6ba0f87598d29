"""Which handler answers which subresource, and the resources that are answered without being stored."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from podling.api.request import User
from podling.apiserver import body
from podling.apiserver.answer import Answer
from podling.apiserver.call import Call
from podling.apiserver.facet import STATUS, Facet
from podling.apiserver.handlers import eviction, metrics, patch, pods, read, special, write
from podling.apiserver.handlers.scale import SCALE

Handler = Callable[[Call], Awaitable[Answer]]


def of_facet(facet: Facet) -> dict[str, Handler]:
    """get, update and patch of a facet."""

    async def get(call: Call) -> Answer:
        return facet.answer(await read.get(call))

    async def update(call: Call) -> Answer:
        return await write.update_facet(call, facet)

    async def patch_(call: Call) -> Answer:
        return await patch.patch_facet(call, facet)

    return {"get": get, "update": update, "patch": patch_}


SUBRESOURCES: dict[tuple[str, str], dict[str, Handler]] = {
    ("*", "status"): of_facet(STATUS),
    ("*", "scale"): of_facet(SCALE),
    ("pods", "binding"): {"create": pods.bind},
    ("pods", "ephemeralcontainers"): of_facet(pods.EPHEMERAL_CONTAINERS),
    ("pods", "eviction"): {"create": eviction.evict},
    ("pods", "resize"): of_facet(pods.RESIZE),
    ("namespaces", "finalize"): {"update": of_facet(special.FINALIZE)["update"]},
    ("serviceaccounts", "token"): {"create": special.create_token},
    ("certificatesigningrequests.certificates.k8s.io", "approval"): of_facet(special.APPROVAL),
}

VIRTUAL: dict[tuple[str, str, str], Handler] = {
    ("", "v1", "bindings"): pods.bind,
    ("", "v1", "componentstatuses"): special.component_statuses,
    ("metrics.k8s.io", "v1beta1", "nodes"): metrics.nodes,
    ("metrics.k8s.io", "v1beta1", "pods"): metrics.pods,
}


def reviewing(answer: Callable[[str, Any, User, str], Awaitable[Any]]) -> Handler:
    """The handler of a resource that is created and answered but not stored: `answer(resource, obj, user, namespace)`
    returns the object with its status."""

    async def create(call: Call) -> Answer:
        resource = call.served.resource
        obj = body.read_object(call, call.served.codec, resource.kind, resource.group_version)
        await call.app.hub.current()
        return Answer(status=201, obj=await answer(resource.name, obj, call.user, call.info.namespace))

    return create
