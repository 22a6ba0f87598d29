"""ServiceAccounts."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api import core_v1
from podling.apiserver.resources import printing
from podling.apiserver.strategy import Context, Strategy


class ServiceAccountStrategy(Strategy[core_v1.ServiceAccount]):
    columns = (printing.NAME, printing.text("Secrets"), printing.AGE)

    def prepare_create(self, obj: core_v1.ServiceAccount, context: Context) -> None:
        _clean(obj)

    def prepare_update(self, new: core_v1.ServiceAccount, old: core_v1.ServiceAccount, context: Context) -> None:
        _clean(new)

    def row(self, obj: core_v1.ServiceAccount, now: datetime) -> list[Any]:
        return [printing.name(obj.metadata), len(obj.secrets or ()), printing.age(obj.metadata, now)]


def _clean(account: core_v1.ServiceAccount) -> None:
    """Of the listed secrets only the names count."""
    if account.secrets:
        account.secrets = [core_v1.ObjectReference(name=s.name) for s in account.secrets]
