"""Pods: a spec that hardly changes, a status that the kubelet writes, and subresources for all that is special."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from podling.api import core_v1, errors, meta_v1, names, times
from podling.api.struct import clone
from podling.apiserver.resources import printing
from podling.apiserver.resources.podspec import defaults, spec, updates, warnings
from podling.apiserver.strategy import Column, Context, Strategy
from podling.machinery import qos
from podling.machinery.validation import Findings, Path, not_supported, required


class PodStrategy(Strategy[core_v1.Pod]):
    has_status = True
    selectable_fields = (
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.podIPs",
        "status.nominatedNodeName",
    )
    columns = (
        printing.NAME,
        Column("Ready", description="The aggregate readiness state of this pod for accepting traffic."),
        Column("Status", description="The aggregate status of the containers in this pod."),
        Column("Restarts", description="The number of times the containers in this pod have been restarted."),
        printing.AGE,
        printing.text("IP", wide=True),
        printing.text("Node", wide=True),
        printing.text("Nominated Node", wide=True),
        printing.text("Readiness Gates", wide=True),
    )

    def default(self, obj: core_v1.Pod) -> None:
        defaults.pod(obj)
        # Of a pod, that is; what a template says stays, and is warned of.
        if (obj.spec.termination_grace_period_seconds or 0) < 0:
            obj.spec.termination_grace_period_seconds = 1

    def prepare_create(self, obj: core_v1.Pod, context: Context) -> None:
        obj.metadata.generation = 1
        obj.status = core_v1.PodStatus(phase="Pending", qos_class=qos.compute(obj.spec))
        if obj.spec.scheduling_gates:
            condition = core_v1.PodCondition(
                type="PodScheduled",
                status="False",
                reason="SchedulingGated",
                message="Scheduling is blocked due to non-empty scheduling gates",
            )
            obj.status.conditions = [condition]
        _apply_label_keys(obj)

    def validate(self, obj: core_v1.Pod) -> Findings:
        return spec.new_pod(obj)

    def validate_update(self, new: core_v1.Pod, old: core_v1.Pod) -> Findings:
        return updates.pod(new, old)

    def prepare_status_update(self, new: core_v1.Pod, old: core_v1.Pod, context: Context) -> None:
        new.status.qos_class = new.status.qos_class or old.status.qos_class
        _keep_observed_generations(new.status, old.status)

    def validate_status_update(self, new: core_v1.Pod, old: core_v1.Pod) -> Findings:
        return updates.status(new, old)

    def warnings(self, new: core_v1.Pod, old: core_v1.Pod | None) -> list[str]:
        if old is not None:
            return []
        found: list[str] = []
        if problems := names.dns_label(new.metadata.name or ""):
            found.append(
                "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; "
                f"a DNS label is recommended: [{' '.join(problems)}]"
            )
        return found + warnings.pod_spec(new.spec, spec.SPEC)

    def grace_period(self, obj: core_v1.Pod, requested: int | None) -> int | None:
        period = requested if requested is not None else obj.spec.termination_grace_period_seconds or 0
        if not obj.spec.node_name or obj.status.phase in ("Failed", "Succeeded"):
            return 0
        return period if period >= 0 else 1

    def fields(self, obj: core_v1.Pod) -> Mapping[str, str]:
        status = obj.status
        return {
            "spec.nodeName": obj.spec.node_name or "",
            "spec.restartPolicy": obj.spec.restart_policy or "",
            "spec.schedulerName": obj.spec.scheduler_name or "",
            "spec.serviceAccountName": obj.spec.service_account_name or "",
            "spec.hostNetwork": printing.go_bool(obj.spec.host_network),
            "status.phase": status.phase or "",
            "status.podIP": status.pod_ip or "",
            "status.podIPs": status.pod_ip or "",
            "status.nominatedNodeName": status.nominated_node_name or "",
        }

    def row(self, obj: core_v1.Pod, now: datetime) -> list[Any]:
        state = Summary(obj)
        restarts = str(state.restarts)
        if state.restarts and state.last_restart:
            restarts = f"{restarts} ({times.age(state.last_restart, now)} ago)"
        status = obj.status
        ip = status.pod_ips[0].ip if status.pod_ips else ""
        return [
            printing.name(obj.metadata),
            f"{state.ready}/{state.total}",
            state.reason,
            restarts,
            printing.age(obj.metadata, now),
            ip or printing.NONE,
            obj.spec.node_name or printing.NONE,
            status.nominated_node_name or printing.NONE,
            _readiness_gates(obj),
        ]

    # -- subresources -------------------------------------------------------------------------------------------------

    def prepare_ephemeral_containers(self, new: core_v1.Pod, old: core_v1.Pod, context: Context) -> None:
        """pods/ephemeralcontainers: everything but those goes back to `old`, which is read-only."""
        wanted = new.spec.ephemeral_containers
        new.spec = clone(old.spec)
        new.spec.ephemeral_containers = wanted
        new.status = old.status

    def validate_ephemeral_containers(self, new: core_v1.Pod, old: core_v1.Pod) -> Findings:
        return updates.ephemeral_containers(new, old)

    def prepare_resize(self, new: core_v1.Pod, old: core_v1.Pod, context: Context) -> None:
        """pods/resize: everything but resources and resize policies goes back to `old`, which is read-only."""
        updates.keep_all_but_resources(new, old)

    def validate_resize(self, new: core_v1.Pod, old: core_v1.Pod) -> Findings:
        return updates.resize(new, old)

    def validate_binding(self, binding: core_v1.Binding) -> Findings:
        target = Path("target")
        found: Findings = []
        if binding.target.kind and binding.target.kind != "Node":
            found.append(not_supported(target.child("kind"), binding.target.kind, ("Node", "<empty>")))
        if not binding.target.name:
            found.append(required(target.child("name")))
        return found

    def bind(self, pod: core_v1.Pod, binding: core_v1.Binding, context: Context) -> None:
        """pods/binding: puts the pod on a node, with what else the binding says. Raises StatusError 409."""
        name = pod.metadata.name or ""

        def conflict(why: str) -> errors.StatusError:
            return errors.conflict("pods/binding", "", name, why)

        meta = binding.metadata
        if meta.uid and meta.uid != pod.metadata.uid:
            found = f"Precondition failed: UID in precondition: {meta.uid}, UID in object meta: {pod.metadata.uid}"
            raise conflict(found)
        if pod.metadata.deletion_timestamp:
            raise conflict(f"pod {name} is being deleted, cannot be assigned to a host")
        if pod.spec.node_name:
            raise conflict(f'pod {name} is already assigned to node "{pod.spec.node_name}"')
        if pod.spec.scheduling_gates:
            raise conflict(f"pod {name} has non-empty .spec.schedulingGates")
        pod.spec.node_name = binding.target.name
        if meta.annotations:
            pod.metadata.annotations = {**(pod.metadata.annotations or {}), **meta.annotations}
        for key, value in (meta.labels or {}).items():
            if key.startswith("topology.kubernetes.io/"):
                pod.metadata.labels = {key: value, **(pod.metadata.labels or {})}
        _scheduled(pod, times.format(context.now))


def _scheduled(pod: core_v1.Pod, now: str) -> None:
    kept = [c for c in pod.status.conditions or () if c.type != "PodScheduled"]
    pod.status.conditions = [
        *kept, core_v1.PodCondition(type="PodScheduled", status="True", last_transition_time=now)
    ]  # fmt: skip


def _keep_observed_generations(new: core_v1.PodStatus, old: core_v1.PodStatus) -> None:
    """A client that does not know the field must not clear it."""
    new.observed_generation = new.observed_generation or old.observed_generation
    before = {c.type: c.observed_generation for c in old.conditions or ()}
    for condition in new.conditions or ():
        condition.observed_generation = condition.observed_generation or before.get(condition.type)


def _apply_label_keys(pod: core_v1.Pod) -> None:
    """matchLabelKeys and mismatchLabelKeys become expressions with the pod's own label values."""
    affinity = pod.spec.affinity
    for group in (affinity.pod_affinity, affinity.pod_anti_affinity) if affinity else ():
        if group is None:
            continue
        terms = list(group.required_during_scheduling_ignored_during_execution or ())
        terms += [w.pod_affinity_term for w in group.preferred_during_scheduling_ignored_during_execution or ()]
        for term in terms:
            _extend(term.label_selector, term.match_label_keys, "In", pod.metadata.labels)
            _extend(term.label_selector, term.mismatch_label_keys, "NotIn", pod.metadata.labels)


def _extend(
    selector: meta_v1.LabelSelector | None, keys: list[str] | None, operator: str, labels: dict[str, str] | None
) -> None:
    if selector is None:
        return
    for key in keys or ():
        if key in (labels or {}):
            expression = meta_v1.LabelSelectorRequirement(key=key, operator=operator, values=[(labels or {})[key]])
            selector.match_expressions = [*(selector.match_expressions or ()), expression]


def _readiness_gates(pod: core_v1.Pod) -> str:
    gates = pod.spec.readiness_gates
    if not gates:
        return printing.NONE
    first: dict[str, str] = {}
    for condition in pod.status.conditions or ():
        first.setdefault(condition.type, condition.status)
    return f"{sum(first.get(g.condition_type) == 'True' for g in gates)}/{len(gates)}"


class Summary:
    """What `kubectl get pods` says: `ready` of `total` containers, `reason` (the STATUS column), `restarts`."""

    def __init__(self, pod: core_v1.Pod) -> None:
        status = pod.status
        self.total = len(pod.spec.containers)
        self.ready = 0
        self.restarts = 0
        self.last_restart = ""
        self.reason = status.reason or status.phase or ""
        conditions = status.conditions or []
        if any(c.type == "PodScheduled" and c.reason == "SchedulingGated" for c in conditions):
            self.reason = "SchedulingGated"
        self._sidecars = {c.name for c in pod.spec.init_containers or () if c.restart_policy == "Always"}
        self.total += len(self._sidecars)
        initializing = self._init_containers(pod)
        if not initializing or any(c.type == "Initialized" and c.status == "True" for c in conditions):
            self._containers(pod)
        if pod.metadata.deletion_timestamp:
            if status.reason == "NodeLost":
                self.reason = "Unknown"
            elif status.phase not in ("Failed", "Succeeded"):
                self.reason = "Terminating"

    def _count(self, status: core_v1.ContainerStatus) -> None:
        self.restarts += status.restart_count
        ended = status.last_state.terminated if status.last_state else None
        if ended is not None and (ended.finished_at or "") > self.last_restart:
            self.last_restart = ended.finished_at or ""

    def _init_containers(self, pod: core_v1.Pod) -> bool:
        """Whether one of them is still at work, or failed."""
        for index, status in enumerate(pod.status.init_container_statuses or ()):
            self._count(status)
            state = status.state or core_v1.ContainerState()
            if state.terminated is not None and state.terminated.exit_code == 0:
                continue
            if status.name in self._sidecars and status.started:
                self.ready += status.ready
                continue
            if state.terminated is not None:
                self.reason = f"Init:{_ended(state.terminated)}"
            elif state.waiting is not None and state.waiting.reason and state.waiting.reason != "PodInitializing":
                self.reason = f"Init:{state.waiting.reason}"
            else:
                self.reason = f"Init:{index}/{len(pod.spec.init_containers or ())}"
            return True
        return False

    def _containers(self, pod: core_v1.Pod) -> None:
        # From here on only what can still restart counts.
        self.restarts, self.last_restart = 0, ""
        for status in pod.status.init_container_statuses or ():
            if status.name in self._sidecars:
                self._count(status)
        running = False
        for status in reversed(pod.status.container_statuses or ()):
            self._count(status)
            state = status.state or core_v1.ContainerState()
            if state.waiting is not None and state.waiting.reason:
                self.reason = state.waiting.reason
            elif state.terminated is not None:
                self.reason = _ended(state.terminated)
            elif status.ready and state.running is not None:
                running = True
                self.ready += 1
        if self.reason == "Completed" and running:
            ready = any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions or ())
            self.reason = "Running" if ready else "NotReady"


def _ended(state: core_v1.ContainerStateTerminated) -> str:
    if state.reason:
        return state.reason
    return f"Signal:{state.signal}" if state.signal else f"ExitCode:{state.exit_code}"
