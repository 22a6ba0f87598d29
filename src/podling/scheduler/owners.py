"""Which pods belong together with a pod, if it does not say so itself: those of its services and its controller.

Source: k8s.io/kubernetes pkg/scheduler/framework/plugins/helper/spread.go (DefaultSelector).
"""

from __future__ import annotations

from typing import Any

from podling.api import apps_v1, core_v1, selectors
from podling.api.selectors import LabelSelector
from podling.client.informer import Informer, Informers


class Owners:
    """Looks services and controllers up in informers."""

    def __init__(self, informers: Informers) -> None:
        self._services = informers.of(core_v1.Service)
        self._controllers: dict[str, Informer[Any]] = {
            "ReplicationController": informers.of(core_v1.ReplicationController),
            "ReplicaSet": informers.of(apps_v1.ReplicaSet),
            "StatefulSet": informers.of(apps_v1.StatefulSet),
        }

    @property
    def informers(self) -> list[Informer[Any]]:
        return [self._services, *self._controllers.values()]

    def selector(self, pod: core_v1.Pod) -> LabelSelector | None:
        """What all services that select the pod and its controller demand together; None if there is nothing."""
        labels = pod.metadata.labels or {}
        wanted: dict[str, str] = {}
        for service in self._services.list(pod.metadata.namespace or ""):
            chosen = service.spec.selector
            if chosen and chosen.items() <= labels.items():
                wanted.update(chosen)
        requirements = selectors.from_set(wanted).requirements + self._of_controller(pod)
        return LabelSelector(requirements) if requirements else None

    def _of_controller(self, pod: core_v1.Pod) -> tuple[selectors.Requirement, ...]:
        owner = next((o for o in pod.metadata.owner_references or () if o.controller), None)
        informer = self._controllers.get(owner.kind) if owner is not None else None
        if owner is None or informer is None or (found := informer.lookup(owner.name, pod.metadata.namespace)) is None:
            return ()
        chosen = found.spec.selector
        made = selectors.from_set(chosen) if isinstance(chosen, dict) else selectors.from_label_selector(chosen)
        return made.requirements
