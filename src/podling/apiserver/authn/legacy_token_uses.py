"""The day on which a token kept in a Secret was used last: a label of that Secret, written at most once a day.

Nobody waits for it: a use is noted in memory, and the label is written beside the request. Source: KEP-2799.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

from podling import clock, log
from podling.api import core_v1
from podling.api.errors import StatusError
from podling.api.request import Request, Transport

LOG = log.get(__name__)

LAST_USED = "kubernetes.io/legacy-token-last-used"
INVALID_SINCE = "kubernetes.io/legacy-token-invalid-since"
DATE = "%Y-%m-%d"

_HEADERS = {"user-agent": "kube-apiserver", "content-type": "application/merge-patch+json"}


class LegacyTokenUses:
    """Labels Secrets through `transport`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        #: By uid of the secret: labels on their way.
        self._writing: dict[str, asyncio.Task[None]] = {}

    def used(self, secret: core_v1.Secret) -> None:
        """Its token has just been used."""
        now, uid = clock.now(), secret.metadata.uid or ""
        # Tomorrow is what another server has written whose clock is ahead.
        known = (now.strftime(DATE), (now + timedelta(days=1)).strftime(DATE))
        if (secret.metadata.labels or {}).get(LAST_USED) in known or uid in self._writing:
            return
        task = asyncio.get_running_loop().create_task(self._label(secret, known[0]), name="legacy-token-last-used")
        self._writing[uid] = task
        task.add_done_callback(lambda _: self._writing.pop(uid, None))

    async def close(self) -> None:
        """What is on its way is still written."""
        await asyncio.gather(*self._writing.values(), return_exceptions=True)

    async def _label(self, secret: core_v1.Secret, day: str) -> None:
        meta = secret.metadata
        path = f"/api/v1/namespaces/{meta.namespace}/secrets/{meta.name}"
        # With the uid a successor of the same name is left alone.
        body = {"metadata": {"uid": meta.uid, "labels": {LAST_USED: day}}}
        try:
            await self._transport.send(Request("PATCH", path, headers=dict(_HEADERS), obj=body))
        except StatusError as error:
            LOG.warning(
                "the secret %s/%s can't be labelled with the day of its token's last use: %s",
                meta.namespace, meta.name, error,
            )  # fmt: skip
