"""Secrets of type kubernetes.io/service-account-token: filled with a token that never ends, gone with their account.

Nobody needs one any more (TokenRequest gives tokens that end), but who asks for one gets it.
"""

from __future__ import annotations

import base64

from podling.api import core_v1, errors
from podling.api.struct import clone
from podling.client.informer import Informer
from podling.controllers.base import Context, Controller

TYPE = "kubernetes.io/service-account-token"
NAME, UID = "kubernetes.io/service-account.name", "kubernetes.io/service-account.uid"


def account_of(secret: core_v1.Secret) -> tuple[str, str]:
    """Name and uid ("": any) of the account that a secret is for."""
    annotations = secret.metadata.annotations or {}
    return annotations.get(NAME, ""), annotations.get(UID, "")


def incomplete(secret: core_v1.Secret, account: core_v1.ServiceAccount, ca: str) -> bool:
    """Whether something of what such a secret holds is missing, or no longer right."""
    data = secret.data or {}
    return (
        not data.get("token")
        or data.get("ca.crt", "") != _encoded(ca)
        or data.get("namespace") != _encoded(secret.metadata.namespace or "")
        or account_of(secret) != (account.metadata.name, account.metadata.uid)
    )


def filled(secret: core_v1.Secret, account: core_v1.ServiceAccount, ca: str, token: str) -> core_v1.Secret:
    """The secret with all that it is to hold; a token that is there stays."""
    result = clone(secret)
    result.data = dict(result.data or {})
    result.data.setdefault("token", _encoded(token))
    result.data["token"] = result.data["token"] or _encoded(token)
    if ca:
        result.data["ca.crt"] = _encoded(ca)
    result.data["namespace"] = _encoded(secret.metadata.namespace or "")
    named = {NAME: account.metadata.name or "", UID: account.metadata.uid or ""}
    result.metadata.annotations = {**(result.metadata.annotations or {}), **named}
    return result


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


class ServiceAccountTokenController(Controller):
    """Without `Config.sign_token` there is nothing that it could fill secrets with."""

    name = "serviceaccount-token-controller"
    workers = 1

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._sign, self._ca = context.config.sign_token, context.config.root_ca
        self._accounts: Informer[core_v1.ServiceAccount] = self.informer(core_v1.ServiceAccount)
        self._secrets: Informer[core_v1.Secret] = context.informers.of(core_v1.Secret, field_selector=f"type={TYPE}")
        self._watched.append(self._secrets)
        self._secrets.add_handler(on_add=self.enqueue, on_update=lambda _, new: self.enqueue(new))
        self._accounts.add_handler(on_add=self._account_changed, on_delete=self._account_changed)

    def _account_changed(self, account: core_v1.ServiceAccount) -> None:
        for secret in self._secrets.list(account.metadata.namespace or ""):
            if account_of(secret)[0] == account.metadata.name:
                self.enqueue(secret)

    async def reconcile(self, key: str) -> None:
        secret = self._secrets.get(key)
        if self._sign is None or secret is None or secret.metadata.deletion_timestamp is not None:
            return
        namespace, (name, uid) = secret.metadata.namespace or "", account_of(secret)
        account = await self._account(namespace, name)
        if account is None or (uid and account.metadata.uid != uid):
            await self._remove(secret)
            return
        if not incomplete(secret, account, self._ca):
            return
        token = self._sign(account, secret.metadata.name or "")
        try:
            await self.client.update(filled(secret, account, self._ca, token))
        except errors.StatusError as error:
            if not errors.is_not_found(error):
                raise

    async def _account(self, namespace: str, name: str) -> core_v1.ServiceAccount | None:
        """The account as it is: what the cache does not know yet must not cost anybody their secret."""
        found = self._accounts.lookup(name, namespace)
        if found is not None:
            return found
        try:
            return await self.client.get(core_v1.ServiceAccount, name, namespace)
        except errors.StatusError as error:
            if errors.is_not_found(error):
                return None
            raise

    async def _remove(self, secret: core_v1.Secret) -> None:
        meta = secret.metadata
        try:
            await self.client.delete(
                core_v1.Secret, meta.name or "", meta.namespace, uid=meta.uid, resource_version=meta.resource_version
            )
        except errors.StatusError as error:
            if not (errors.is_not_found(error) or errors.is_conflict(error)):
                raise
