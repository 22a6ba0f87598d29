"""Tokens of old that nobody uses go: auto-generated Secrets are first marked invalid, and removed a period later.

A Secret was made by itself if its ServiceAccount lists it; what somebody made by hand stays for ever. One timer a
Secret, for the day on which something is due, instead of upstream's daily look at all. Source: KEP-2799.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from podling import clock
from podling.api import core_v1, errors, times
from podling.client.base import PatchType
from podling.client.informer import Informer, key_of
from podling.controllers.base import Context, Controller
from podling.controllers.serviceaccount_token import TYPE, account_of
from podling.machinery.pod_secrets import secrets_of

LAST_USED = "kubernetes.io/legacy-token-last-used"
INVALID_SINCE = "kubernetes.io/legacy-token-invalid-since"
TRACKING = "kube-apiserver-legacy-service-account-token-tracking"
DAY = timedelta(days=1)

_DATE = "%Y-%m-%d"


def day(text: str | None) -> datetime | None:
    """The beginning of a day written as 2006-01-02; None if it is none."""
    try:
        return datetime.strptime(text or "", _DATE).replace(tzinfo=UTC)
    except ValueError:
        return None


def due(secret: core_v1.Secret, period: timedelta) -> datetime | None:
    """When the secret is to be marked, or, being marked, removed; None if nobody can tell when it was used last."""
    labels = secret.metadata.labels or {}
    created = secret.metadata.creation_timestamp
    if created is None:
        return None
    found = [times.parse(created)]
    if LAST_USED in labels:
        last = day(labels[LAST_USED])
        if last is None:
            return None
        found.append(last + DAY)
    marked = day(labels.get(INVALID_SINCE))
    if marked is not None:
        found.append(marked + DAY)
    return max(found) + period


def automatic(secret: core_v1.Secret, account: core_v1.ServiceAccount | None) -> bool:
    """Whether `account` lists the secret, and is the one that the secret is for."""
    _, uid = account_of(secret)
    if account is None or (uid and uid != account.metadata.uid):
        return False
    return any(ref.name == secret.metadata.name for ref in account.secrets or ())


class LegacyTokenCleanerController(Controller):
    """See the module."""

    name = "legacy-serviceaccount-token-cleaner-controller"
    workers = 1

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._period = timedelta(seconds=context.config.legacy_token_clean_up_period)
        self._secrets: Informer[core_v1.Secret] = context.informers.of(core_v1.Secret, field_selector=f"type={TYPE}")
        self._watched.append(self._secrets)
        self._accounts: Informer[core_v1.ServiceAccount] = self.informer(core_v1.ServiceAccount)
        self._pods: Informer[core_v1.Pod] = self.informer(core_v1.Pod)
        self._secrets.add_handler(on_add=self.enqueue, on_update=self._secret_changed)
        self._accounts.add_handler(on_add=self._account_changed, on_update=lambda _, new: self._account_changed(new))
        self._pods.add_handler(on_delete=self._pod_gone)

    def _secret_changed(self, old: core_v1.Secret, new: core_v1.Secret) -> None:
        if self._valid(new) and not self._valid(old):
            # Somebody allows its use once more: for that there is a day, and a use puts it off.
            self.queue.add_after(key_of(new), DAY.total_seconds())
        else:
            self.enqueue(new)

    def _account_changed(self, account: core_v1.ServiceAccount) -> None:
        for ref in account.secrets or ():
            self._again(ref.name or "", account.metadata.namespace or "")

    def _pod_gone(self, pod: core_v1.Pod) -> None:
        for name in secrets_of(pod):
            self._again(name, pod.metadata.namespace or "")

    def _again(self, name: str, namespace: str) -> None:
        secret = self._secrets.lookup(name, namespace)
        if secret is not None:
            self.queue.add(key_of(secret))

    async def reconcile(self, key: str) -> None:
        secret = self._secrets.get(key)
        if secret is None or secret.metadata.deletion_timestamp is not None:
            return
        namespace = secret.metadata.namespace or ""
        when = due(secret, self._period)
        if when is None or not automatic(secret, self._accounts.lookup(account_of(secret)[0], namespace)):
            return
        if clock.now() > when:
            tracked = await self._tracked()
            when = max(when, tracked + DAY + self._period) if tracked is not None else clock.now() + DAY
        left = (when - clock.now()).total_seconds()
        if left >= 0:
            # A token may be used to the very end of its period.
            self.queue.add_after(key, left + 1)
        elif not any((secret.metadata.name or "") in secrets_of(pod) for pod in self._pods.list(namespace)):
            await (self._mark(secret) if self._valid(secret) else self._remove(secret))

    @staticmethod
    def _valid(secret: core_v1.Secret) -> bool:
        return day((secret.metadata.labels or {}).get(INVALID_SINCE)) is None

    async def _tracked(self) -> datetime | None:
        """Since which day uses are tracked; None if nobody says."""
        try:
            found = await self.client.get(core_v1.ConfigMap, TRACKING, "kube-system")
        except errors.StatusError as error:
            if errors.is_not_found(error):
                return None
            raise
        return day((found.data or {}).get("since"))

    async def _mark(self, secret: core_v1.Secret) -> None:
        meta = secret.metadata
        patch = {"metadata": {"uid": meta.uid, "labels": {INVALID_SINCE: clock.now().strftime(_DATE)}}}
        try:
            await self.client.patch(core_v1.Secret, meta.name or "", meta.namespace, patch, type=PatchType.MERGE)
        except errors.StatusError as error:
            if not (errors.is_not_found(error) or errors.is_conflict(error)):
                raise

    async def _remove(self, secret: core_v1.Secret) -> None:
        meta = secret.metadata
        try:
            await self.client.delete(
                core_v1.Secret, meta.name or "", meta.namespace, resource_version=meta.resource_version
            )
        except errors.StatusError as error:
            if not (errors.is_not_found(error) or errors.is_conflict(error)):
                raise
