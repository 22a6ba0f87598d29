"""Which handler answers which subresource, and the resources that are answered without being stored."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from podling.apiserver.call import Answer, Call
from podling.apiserver.facet import STATUS, Facet
from podling.apiserver.handlers import patch, read, write

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


SUBRESOURCES: dict[tuple[str, str], dict[str, Handler]] = {("*", "status"): of_facet(STATUS)}

VIRTUAL: dict[tuple[str, str, str], Handler] = {}
