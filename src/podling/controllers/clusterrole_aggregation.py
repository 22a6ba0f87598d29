"""ClusterRoles made of others: the rules of all roles that an aggregation rule selects, put together.

`admin`, `edit` and `view` are such roles; a custom resource's author adds rules to them by labelling a role.
"""

from __future__ import annotations

from podling.api import rbac_v1, selectors
from podling.client.base import PatchType
from podling.controllers.base import Context, Controller


def aggregated(role: rbac_v1.ClusterRole, roles: list[rbac_v1.ClusterRole]) -> list[rbac_v1.PolicyRule]:
    """The rules `role` should have, by the names of the roles they come from, each once."""
    rules: list[rbac_v1.PolicyRule] = []
    chosen = role.aggregation_rule.cluster_role_selectors if role.aggregation_rule else None
    for wanted in chosen or ():
        selector = selectors.from_label_selector(wanted)
        for other in sorted(roles, key=lambda r: r.metadata.name or ""):
            if other.metadata.name == role.metadata.name or not selector.matches(other.metadata.labels or {}):
                continue
            rules.extend(rule for rule in other.rules or () if rule not in rules)
    return rules


class ClusterRoleAggregationController(Controller):
    """See the module."""

    name = "clusterrole-aggregation-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._roles = self.watch(rbac_v1.ClusterRole, self._changed)

    def _changed(self, _: rbac_v1.ClusterRole) -> None:
        for role in self._roles.list():
            if role.aggregation_rule is not None:
                self.enqueue(role)

    async def reconcile(self, key: str) -> None:
        role = self._roles.get(key)
        if role is None or role.aggregation_rule is None:
            return
        rules = aggregated(role, self._roles.list())
        if rules == (role.rules or []):
            return
        from podling.api.struct import to_dict

        await self.client.patch(rbac_v1.ClusterRole, key, None, {"rules": to_dict(rules)}, type=PatchType.MERGE)
