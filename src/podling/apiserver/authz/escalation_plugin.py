"""The escalation check as an admission plugin: it sees every write of a role or binding, whatever verb it came by."""

from __future__ import annotations

from podling.apiserver.admission.base import Attributes, Plugin
from podling.apiserver.authz import escalation
from podling.apiserver.authz.authorizer import Authorizer
from podling.apiserver.core import Core

_KINDS = ("roles", "clusterroles", "rolebindings", "clusterrolebindings")


class EscalationCheck(Plugin):
    """Refuses what `escalation.check` refuses."""

    name = "RBACEscalationCheck"
    resources = frozenset(f"{kind}.{escalation.GROUP}" for kind in _KINDS)
    validates = True

    def __init__(self, app: Core, authorizer: Authorizer) -> None:
        super().__init__(app)
        self._authorizer = authorizer

    async def validate(self, attributes: Attributes) -> None:
        await escalation.check(self._authorizer, attributes.user, attributes.obj, attributes.old)
