"""ReplicationControllers: ReplicaSets of the first days, with a plain map for a selector."""

from __future__ import annotations

from typing import Any, ClassVar

from podling.api import apps_v1, core_v1, selectors
from podling.api.meta_v1 import LabelSelector
from podling.api.struct import from_dict, to_dict
from podling.controllers.replicaset import ReplicaSetController


class ReplicationControllerController(ReplicaSetController):
    """See the module; all else is as for ReplicaSets."""

    name = "replicationcontroller-controller"
    component = "replication-controller"
    kind: ClassVar[type[Any]] = core_v1.ReplicationController
    counts_terminating = False

    def selector(self, rs: Any) -> Any:
        return selectors.from_set(rs.spec.selector)

    def view(self, rs: Any) -> apps_v1.ReplicaSet:
        spec = rs.spec
        return apps_v1.ReplicaSet(
            metadata=rs.metadata,
            spec=apps_v1.ReplicaSetSpec(
                replicas=spec.replicas,
                min_ready_seconds=spec.min_ready_seconds,
                selector=LabelSelector(match_labels=spec.selector),
                template=spec.template,
            ),
            status=from_dict(to_dict(rs.status), apps_v1.ReplicaSetStatus),
        )
