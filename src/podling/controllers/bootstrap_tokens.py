"""Bootstrap tokens: those that have ended go, and those that are for it sign the ConfigMap `cluster-info`.

Who joins with a token has no certificate of the cluster's authority yet: the signature, made with the token itself,
tells them that what everybody may read there is the cluster's. Source: Kubernetes' "Authenticating with Bootstrap
Tokens".
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
from datetime import datetime, timedelta
from hashlib import sha256

from podling import clock, log
from podling.api import core_v1, errors, times
from podling.api.struct import clone
from podling.client.informer import Informer
from podling.controllers.base import Context, Controller

TYPE = "bootstrap.kubernetes.io/token"
NAMESPACE = "kube-system"
PREFIX = "bootstrap-token-"
CONFIG_MAP, PUBLIC = "cluster-info", "kube-public"
KUBECONFIG, SIGNATURE = "kubeconfig", "jws-kubeconfig-"

_log = log.get(__name__)


def value(secret: core_v1.Secret, key: str) -> str:
    """An entry of a secret as text; "" if there is none that is."""
    try:
        return base64.b64decode((secret.data or {}).get(key, "")).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""


def end(secret: core_v1.Secret) -> datetime | None:
    """When a token ends; None if it does not. One that can't be read has ended."""
    text = value(secret, "expiration")
    if not text:
        return None
    try:
        return times.parse(text)
    except ValueError:
        meta = secret.metadata
        _log.warning("unparseable expiration time in %s/%s: %s; treated as ended", meta.namespace, meta.name, text)
        return clock.now() - timedelta(seconds=1)


def signing(secret: core_v1.Secret, now: datetime) -> tuple[str, str] | None:
    """Id and secret of a token that may sign; None if it may not."""
    token_id, token_secret = value(secret, "token-id"), value(secret, "token-secret")
    if not token_id or not token_secret or secret.metadata.name != PREFIX + token_id:
        return None
    ends = end(secret)
    if value(secret, "usage-bootstrap-signing") != "true" or (ends is not None and ends <= now):
        return None
    return token_id, token_secret


def signature(text: str, token_id: str, token_secret: str) -> str:
    """The detached JSON web signature of a text: `header..signature`."""

    def encoded(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    header = encoded(json.dumps({"alg": "HS256", "kid": token_id}, separators=(",", ":")).encode())
    key = f"{token_id}.{token_secret}".encode()
    made = hmac.digest(key, f"{header}.{encoded(text.encode())}".encode(), sha256)
    return f"{header}..{encoded(made)}"


class BootstrapSignerController(Controller):
    """Keeps the signatures of `cluster-info` as they should be."""

    name = "bootstrap-signer-controller"
    workers = 1

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._secrets = tokens(self)
        self._maps: Informer[core_v1.ConfigMap] = context.informers.of(
            core_v1.ConfigMap, namespace=PUBLIC, field_selector=f"metadata.name={CONFIG_MAP}"
        )
        self._watched.append(self._maps)
        for informer in (self._secrets, self._maps):
            informer.add_handler(on_add=self._changed, on_update=lambda _, new: self._changed(new))
        self._secrets.add_handler(on_delete=self._changed)

    def _changed(self, _: object) -> None:
        self.queue.add(CONFIG_MAP)

    async def reconcile(self, key: str) -> None:
        present = self._maps.lookup(CONFIG_MAP, PUBLIC)
        if present is None:
            return
        data = present.data or {}
        text, now = data.get(KUBECONFIG, ""), clock.now()
        wanted = {k: v for k, v in data.items() if not k.startswith(SIGNATURE)}
        for secret in self._secrets.list():
            found = signing(secret, now) if text else None
            if found is not None:
                wanted[SIGNATURE + found[0]] = signature(text, *found)
        if wanted == data:
            return
        changed = clone(present)
        changed.data = wanted
        await self.client.update(changed)


class TokenCleanerController(Controller):
    """One timer a token."""

    name = "token-cleaner-controller"
    workers = 1

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._secrets = tokens(self)
        self._secrets.add_handler(on_add=self.enqueue, on_update=lambda _, new: self.enqueue(new))

    async def reconcile(self, key: str) -> None:
        secret = self._secrets.get(key)
        ends = end(secret) if secret is not None else None
        if secret is None or ends is None or secret.metadata.deletion_timestamp is not None:
            return
        left = (ends - clock.now()).total_seconds()
        if left > 0:
            self.queue.add_after(key, left)
            return
        meta = secret.metadata
        try:
            await self.client.delete(core_v1.Secret, meta.name or "", meta.namespace, uid=meta.uid)
        except errors.StatusError as error:
            if not (errors.is_not_found(error) or errors.is_conflict(error)):
                raise


def tokens(controller: Controller) -> Informer[core_v1.Secret]:
    """The cache of bootstrap tokens, for which the controller's workers wait."""
    found: Informer[core_v1.Secret] = controller.context.informers.of(
        core_v1.Secret, namespace=NAMESPACE, field_selector=f"type={TYPE}"
    )
    controller._watched.append(found)
    return found
