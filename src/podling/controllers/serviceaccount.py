"""Every namespace has a ServiceAccount `default`, which pods run as unless they say otherwise."""

from __future__ import annotations

from podling.api import core_v1, errors
from podling.api.meta_v1 import ObjectMeta
from podling.controllers.base import Context, Controller, namespace_terminating

ACCOUNT = "default"


class ServiceAccountController(Controller):
    """See the module."""

    name = "serviceaccount-controller"
    workers = 1

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._namespaces = self.watch(core_v1.Namespace)
        self._accounts = self.informer(core_v1.ServiceAccount)
        self._accounts.add_handler(on_delete=self._account_deleted)

    def _account_deleted(self, account: core_v1.ServiceAccount) -> None:
        if account.metadata.name == ACCOUNT:
            self.queue.add(account.metadata.namespace or "")

    async def reconcile(self, key: str) -> None:
        namespace = self._namespaces.get(key)
        if namespace is None or namespace.status.phase == "Terminating":
            return
        if namespace.metadata.deletion_timestamp is not None or self._accounts.lookup(ACCOUNT, key) is not None:
            return
        account = core_v1.ServiceAccount(metadata=ObjectMeta(name=ACCOUNT, namespace=key))
        try:
            await self.client.create(account)
        except errors.StatusError as error:
            if not (errors.is_already_exists(error) or namespace_terminating(error) or errors.is_not_found(error)):
                raise
