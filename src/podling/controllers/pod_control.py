"""Creating and deleting pods for an owner, with the events that people look for.

Creations go out in batches of 1, 2, 4, 8, ...: if the first fails because a quota is used up, the other 999 are not
tried.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from podling.api import core_v1, errors
from podling.api.meta_v1 import ObjectMeta
from podling.api.struct import clone
from podling.client.client import ApiClient
from podling.client.events import NORMAL, WARNING, Recorder
from podling.controllers.base import namespace_terminating
from podling.controllers.references import controller_reference

#: Longest prefix a generated name may have (the server appends five characters).
MAX_PREFIX = 58


def pod_from_template(template: core_v1.PodTemplateSpec, owner: Any) -> core_v1.Pod:
    """A pod of `owner`, named after it by the server."""
    meta, source = owner.metadata, clone(template)
    made = source.metadata or ObjectMeta()
    return core_v1.Pod(
        metadata=ObjectMeta(
            generate_name=f"{meta.name}-",
            namespace=meta.namespace,
            labels=made.labels,
            annotations=made.annotations,
            finalizers=made.finalizers,
            owner_references=[controller_reference(owner)],
        ),
        spec=source.spec or core_v1.PodSpec(),
    )


async def slow_start(
    count: int, work: Callable[[int], Awaitable[None]], initial: int = 1
) -> tuple[int, Exception | None]:
    """Do `work(i)` for i below `count` in growing batches; stop after a batch with a failure.

    Returns how many succeeded and the first failure.
    """
    done = position = 0
    batch = min(count, initial)
    while batch:
        results = await asyncio.gather(*(work(position + i) for i in range(batch)), return_exceptions=True)
        failures = [r for r in results if isinstance(r, BaseException)]
        done += batch - len(failures)
        position += batch
        if failures:
            first = failures[0]
            if not isinstance(first, Exception):
                raise first
            return done, first
        batch = min(2 * batch, count - position)
    return done, None


class PodControl:
    """Creates and deletes pods and says so."""

    def __init__(self, client: ApiClient, recorder: Recorder) -> None:
        self._client = client
        self._recorder = recorder

    async def create(self, pod: core_v1.Pod, owner: Any) -> core_v1.Pod:
        """Create a pod of `owner`. Raises StatusError, after an event (none if the namespace goes)."""
        try:
            made = await self._client.create(pod)
        except errors.StatusError as error:
            if not namespace_terminating(error):
                self._recorder.event(owner, WARNING, "FailedCreate", f"Error creating: {error}")
            raise
        self._recorder.event(owner, NORMAL, "SuccessfulCreate", f"Created pod: {made.metadata.name}")
        return made

    async def delete(self, pod: core_v1.Pod, owner: Any) -> None:
        """Delete a pod of `owner`; NotFound is raised too."""
        meta = pod.metadata
        try:
            await self._client.delete(core_v1.Pod, meta.name or "", meta.namespace)
        except errors.StatusError as error:
            if not errors.is_not_found(error):
                self._recorder.event(owner, WARNING, "FailedDelete", f"Error deleting: {error}")
            raise
        self._recorder.event(owner, NORMAL, "SuccessfulDelete", f"Deleted pod: {meta.name}")
