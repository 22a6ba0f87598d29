"""The node's heartbeat: a Lease in kube-node-lease, renewed every ten seconds (KEP-589)."""

from __future__ import annotations

import asyncio

from podling import log
from podling.api import coordination_v1, core_v1, errors, meta_v1, times
from podling.api.errors import StatusError
from podling.api.struct import clone
from podling.client.base import Client

NAMESPACE = "kube-node-lease"
RETRY_FIRST, RETRY_MOST = 0.2, 7.0

_log = log.get(__name__)


class NodeLease:
    """Renews the lease of `node_name`; `duration` is how long it holds, `period` the time between renewals (s)."""

    def __init__(self, client: Client, node_name: str, *, duration: int, period: float) -> None:
        self._client, self._name = client, node_name
        self._duration, self._period = duration, period
        self._lease: coordination_v1.Lease | None = None

    async def run(self, registered: asyncio.Event) -> None:
        """Until cancelled; begins when the node is registered, so that the lease can name it as its owner."""
        await registered.wait()
        delay = RETRY_FIRST
        while True:
            try:
                await self._renew()
                delay, wait = RETRY_FIRST, self._period
            except StatusError as error:
                _log.debug("node lease not renewed: %s", error)
                self._lease = None
                wait, delay = delay, min(delay * 2, RETRY_MOST)
            await asyncio.sleep(wait)

    async def _renew(self) -> None:
        if self._lease is None:
            self._lease = await self._get_or_create()
            if self._lease.spec.renew_time is None:
                return
        lease = clone(self._lease)
        lease.spec.holder_identity = self._name
        lease.spec.lease_duration_seconds = self._duration
        lease.spec.renew_time = times.now_micro()
        self._lease = await self._client.update(lease)

    async def _get_or_create(self) -> coordination_v1.Lease:
        try:
            return await self._client.get(coordination_v1.Lease, self._name, NAMESPACE)
        except StatusError as error:
            if not errors.is_not_found(error):
                raise
        node = await self._client.get(core_v1.Node, self._name)
        owner = meta_v1.OwnerReference(api_version="v1", kind="Node", name=self._name, uid=node.metadata.uid or "")
        return await self._client.create(
            coordination_v1.Lease(
                metadata=meta_v1.ObjectMeta(name=self._name, namespace=NAMESPACE, owner_references=[owner]),
                spec=coordination_v1.LeaseSpec(
                    holder_identity=self._name,
                    lease_duration_seconds=self._duration,
                    renew_time=times.now_micro(),
                ),
            )
        )
