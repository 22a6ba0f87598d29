"""The union of authorizers that the API server asks: system:masters, Node, RBAC."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from podling.api import certificates_v1, core_v1, rbac_v1, resource_v1, storage_v1
from podling.api.request import User
from podling.apiserver.authz import metrics
from podling.apiserver.authz.attributes import NO_OPINION, Attributes, Authorize, Decision, Verdict
from podling.apiserver.authz.node import NodeAuthorizer
from podling.apiserver.authz.rbac import Rbac, RulesOfUser

MASTERS = "system:masters"

_ALLOWED = Decision(True)
_NODE_ALLOWS, _RBAC_ALLOWS = metrics.allowing("Node"), metrics.allowing("RBAC")
#: The rules that allow everything.
ALL = (
    rbac_v1.PolicyRule(verbs=["*"], api_groups=["*"], resources=["*"]),
    rbac_v1.PolicyRule(verbs=["*"], non_resource_urls=["*"]),
)


class Authorizer:
    """Decides at once, from memory. Feed it every object and event of `KINDS` by `observe`."""

    #: The kinds whose objects decide who may do what.
    KINDS: tuple[type[Any], ...] = (
        rbac_v1.Role,
        rbac_v1.ClusterRole,
        rbac_v1.RoleBinding,
        rbac_v1.ClusterRoleBinding,
        core_v1.Pod,
        core_v1.PersistentVolume,
        storage_v1.VolumeAttachment,
        resource_v1.ResourceSlice,
        certificates_v1.PodCertificateRequest,
    )

    def __init__(self) -> None:
        self.rbac = Rbac()
        self.node = NodeAuthorizer()
        #: What is asked instead of the two, if an administrator wants that (`setup.Modes`).
        self._others: Authorize | None = None
        self._modes: Sequence[str] = ("Node", "RBAC")

    def use(self, others: Authorize, modes: Sequence[str]) -> None:
        """From now on ask `others`, which are of these modes."""
        self._others, self._modes = others, tuple(modes)

    def observe(self, event: str, obj: Any) -> None:
        """Take in an object of `KINDS`; `event` is ADDED, MODIFIED or DELETED. Objects stay unchanged."""
        gone = event == "DELETED"
        if type(obj).__module__ == rbac_v1.__name__:
            self.rbac.remove(obj) if gone else self.rbac.put(obj)
        else:
            self.node.remove(obj) if gone else self.node.put(obj)

    def authorize(self, attributes: Attributes) -> Verdict:
        """The first authorizer that allows wins; if none does, the reason is what all of them said."""
        if MASTERS in attributes.user.groups:
            return _ALLOWED
        if self._others is not None:
            return self._others(attributes)
        node = self.node.authorize(attributes)
        if node.allowed:
            _NODE_ALLOWS.value += 1
            return node
        rbac = self.rbac.authorize(attributes)
        if rbac.allowed:
            _RBAC_ALLOWS.value += 1
            return rbac
        if not node.reason:
            return rbac
        return Decision(False, "\n".join(r for r in (node.reason, rbac.reason) if r), rbac.error)

    def rules_for(self, user: User, namespace: str) -> RulesOfUser:
        """Every rule that applies to `user` in `namespace`, for SelfSubjectRulesReview and escalation checks."""
        rules = self.rbac.rules_for(user, namespace) if "RBAC" in self._modes else RulesOfUser([], [])
        if "Node" in self._modes and self.node.name_of(user) is not None:
            rules.errors.insert(0, "node authorizer does not support user rule resolution")
            rules.incomplete = True
        for mode in self._modes:
            if mode == "AlwaysAllow":
                rules.rules += ALL
            elif mode in ("Webhook", "ABAC"):
                rules.errors.append(f"{mode.lower()} authorizer does not support user rule resolution")
                rules.incomplete = True
        return rules


def allow_all(attributes: Attributes) -> Decision:
    """For a server that is asked only by its own process."""
    return _ALLOWED


__all__ = ["MASTERS", "NO_OPINION", "Attributes", "Authorizer", "Decision", "allow_all"]
