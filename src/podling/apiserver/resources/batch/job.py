"""Jobs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from podling.api import batch_v1, core_v1, meta_v1, names, selectors, times
from podling.api.numbers import is_decimal
from podling.api.struct import clone
from podling.apiserver.resources import printing, workloads
from podling.apiserver.resources.podspec import defaults, warnings
from podling.apiserver.resources.podspec import spec as podspec
from podling.apiserver.resources.workloads import SPEC
from podling.apiserver.strategy import Context, Strategy
from podling.machinery.validation import (
    OMITTED,
    Findings,
    Path,
    duplicate,
    each,
    immutable,
    invalid,
    nonnegative,
    not_supported,
    quote,
    required,
    too_long,
    too_many,
)

UID_LABEL = "batch.kubernetes.io/controller-uid"
NAME_LABEL = "batch.kubernetes.io/job-name"
LEGACY_UID_LABEL = "controller-uid"
LEGACY_NAME_LABEL = "job-name"
_URL_PATH = re.compile(r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+")
_MAX_FAILED_INDEXES = 100_000
_MANY = 100_000
"Completions above which a Job with a backoff limit per index is held to `_LIMIT_WITH_MANY`."
_LIMIT_WITH_MANY = 10_000
_MAX_INDEXES_TEXT = 64 * 1024
_MAX_PARALLELISM = 100_000


class JobStrategy(Strategy[batch_v1.Job]):
    has_status = True
    selectable_fields = ("status.successful",)
    columns = (
        printing.NAME,
        printing.text("Status"),
        printing.text("Completions"),
        printing.text("Duration"),
        printing.AGE,
        printing.CONTAINERS,
        printing.IMAGES,
        printing.SELECTOR,
    )

    def default(self, obj: batch_v1.Job) -> None:
        default_spec(obj.spec)
        labels = workloads.labels_of(obj.spec.template)
        if not obj.metadata.labels and labels:
            obj.metadata.labels = dict(labels)

    def prepare_create(self, obj: batch_v1.Job, context: Context) -> None:
        obj.status = batch_v1.JobStatus()
        _select_own_pods(obj)

    def validate(self, obj: batch_v1.Job) -> Findings:
        found = job_spec(obj.spec, SPEC) + _selector(obj)
        if obj.spec.completion_mode == "Indexed" and (obj.spec.completions or 0) > 0:
            last = f"{obj.metadata.name or ''}-{(obj.spec.completions or 1) - 1}"
            if problems := names.dns_label(last):
                detail = f"will not able to create pod with invalid DNS label name, job name: {problems[0]}"
                found.append(invalid(Path("metadata").child("name"), obj.metadata.name, detail))
        return found

    def validate_update(self, new: batch_v1.Job, old: batch_v1.Job) -> Findings:
        found = job_spec(new.spec, SPEC)
        for name, attribute in (
            ("selector", "selector"),
            ("completionMode", "completion_mode"),
            ("podFailurePolicy", "pod_failure_policy"),
            ("backoffLimitPerIndex", "backoff_limit_per_index"),
            ("managedBy", "managed_by"),
            ("successPolicy", "success_policy"),
        ):
            found += immutable(getattr(new.spec, attribute), getattr(old.spec, attribute), SPEC.child(name))
        found += _completions_change(new.spec, old.spec)
        return found + _template_change(new, old)

    def validate_status_update(self, new: batch_v1.Job, old: batch_v1.Job) -> Findings:
        status = new.status
        found = workloads.counts(
            {
                "active": status.active,
                "succeeded": status.succeeded,
                "failed": status.failed,
                "ready": status.ready,
                "terminating": status.terminating,
            }
        )
        finished = {c.type for c in status.conditions or () if c.status == "True"}
        at = Path("status").child("conditions")
        if {"Complete", "Failed"} <= finished:
            found.append(invalid(at, "", "cannot set Complete=True and Failed=true conditions"))
        before = {c.type for c in old.status.conditions or () if c.status == "True"}
        for kind in ("Complete", "Failed"):
            if kind in before and kind not in finished:
                found.append(invalid(at, "", f"cannot disable the terminal {kind}=True condition"))
        return found

    def fields(self, obj: batch_v1.Job) -> dict[str, str]:
        return {"status.successful": str(obj.status.succeeded or 0)}

    def warnings(self, new: batch_v1.Job, old: batch_v1.Job | None) -> list[str]:
        return warnings.template(new.spec.template, old.spec.template if old else None)

    def row(self, obj: batch_v1.Job, now: datetime) -> list[Any]:
        status = obj.status
        duration = ""
        if status.start_time:
            end = times.parse(status.completion_time) if status.completion_time else now
            duration = times.human_duration(end - times.parse(status.start_time))
        return [
            printing.name(obj.metadata),
            _phase(obj),
            _completions(obj),
            duration,
            printing.age(obj.metadata, now),
            *printing.containers_and_images(obj.spec.template),
            printing.label_selector(obj.spec.selector) if obj.spec.selector else printing.NONE,
        ]


def default_spec(spec: batch_v1.JobSpec) -> None:
    """Of a Job or of a CronJob's template."""
    if spec.completions is None and spec.parallelism is None:
        spec.completions = spec.parallelism = 1
    if spec.parallelism is None:
        spec.parallelism = 1
    if spec.backoff_limit is None:
        spec.backoff_limit = 6 if spec.backoff_limit_per_index is None else 2**31 - 1
    spec.completion_mode = spec.completion_mode or "NonIndexed"
    if spec.suspend is None:
        spec.suspend = False
    if spec.pod_failure_policy is not None:
        for rule in spec.pod_failure_policy.rules:
            for pattern in rule.on_pod_conditions or ():
                pattern.status = pattern.status or "True"
    if spec.pod_replacement_policy is None:
        spec.pod_replacement_policy = "Failed" if spec.pod_failure_policy is not None else "TerminatingOrFailed"
    if spec.manual_selector is None:
        spec.manual_selector = False
    defaults.template(spec.template)


def _select_own_pods(job: batch_v1.Job) -> None:
    """Unless told otherwise, a Job marks its pods with its own UID and selects by that."""
    if job.spec.manual_selector:
        return
    template = job.spec.template
    if template.metadata is None:
        template.metadata = meta_v1.ObjectMeta()
    uid, name = job.metadata.uid or "", job.metadata.name or ""
    marks = {LEGACY_NAME_LABEL: name, LEGACY_UID_LABEL: uid, NAME_LABEL: name, UID_LABEL: uid}
    template.metadata.labels = {**marks, **(template.metadata.labels or {})}
    if job.spec.selector is None:
        job.spec.selector = meta_v1.LabelSelector(match_labels={})
    job.spec.selector.match_labels = {UID_LABEL: uid, **(job.spec.selector.match_labels or {})}


def _selector(job: batch_v1.Job) -> Findings:
    at = SPEC.child("selector")
    if job.spec.selector is None:
        return [required(at)]
    try:
        parsed = selectors.from_label_selector(job.spec.selector)
    except selectors.SelectorError:
        return [invalid(at, job.spec.selector, "invalid label selector")]
    labels = workloads.labels_of(job.spec.template)
    if not parsed.matches(labels):
        path = SPEC.child("template", "metadata", "labels")
        return [invalid(path, labels, "`selector` does not match template `labels`")]
    if not job.spec.manual_selector and parsed.exact(UID_LABEL) != job.metadata.uid:
        return [invalid(at, job.spec.selector, "`selector` not auto-generated")]
    return []


def job_spec(spec: batch_v1.JobSpec, path: Path) -> Findings:
    """Of a Job or of a CronJob's template."""
    found: Findings = []
    for name, value in (
        ("parallelism", spec.parallelism),
        ("completions", spec.completions),
        ("activeDeadlineSeconds", spec.active_deadline_seconds),
        ("backoffLimit", spec.backoff_limit),
        ("ttlSecondsAfterFinished", spec.ttl_seconds_after_finished),
        ("backoffLimitPerIndex", spec.backoff_limit_per_index),
        ("maxFailedIndexes", spec.max_failed_indexes),
    ):
        found += nonnegative(value, path.child(name))
    if spec.max_failed_indexes is not None and spec.backoff_limit_per_index is None:
        found.append(required(path.child("backoffLimitPerIndex"), "when maxFailedIndexes is specified"))
    if spec.managed_by is not None:
        at = path.child("managedBy")
        found += domain_prefixed_path(spec.managed_by, at)
        if len(spec.managed_by) > 63:
            found.append(too_long(at, 63))
    found += _completion_mode(spec, path) + _failure_policy(spec, path) + _success_policy(spec, path)
    found += _replacement_policy(spec, path.child("podReplacementPolicy"))
    found += podspec.template(spec.template, path.child("template"))
    return found + _restart_policy(spec, path.child("template", "spec", "restartPolicy"))


def domain_prefixed_path(value: str, path: Path) -> Findings:
    """The name of a controller: `example.com/name`."""
    if not value:
        return [required(path)]
    host, _, rest = value.partition("/")
    if not host or not rest:
        return [invalid(path, value, 'must be a domain-prefixed path (such as "acme.io/foo")')]
    found = each(path, host, names.dns_subdomain(host))
    if not _URL_PATH.fullmatch(rest):
        detail = f"Invalid path (regex used for validation is '{_URL_PATH.pattern}')"
        found.append(invalid(path, rest, detail))
    return found


def _replacement_policy(spec: batch_v1.JobSpec, path: Path) -> Findings:
    policy = spec.pod_replacement_policy
    allowed = ("Failed",) if spec.pod_failure_policy is not None else ("Failed", "TerminatingOrFailed")
    return [] if policy is None or policy in allowed else [not_supported(path, policy, allowed)]


def _completion_mode(spec: batch_v1.JobSpec, path: Path) -> Findings:
    mode = spec.completion_mode
    if mode == "Indexed":
        return _indexed(spec, path)
    found: Findings = []
    if mode not in (None, "NonIndexed"):
        found.append(not_supported(path.child("completionMode"), mode, ("NonIndexed", "Indexed")))
        return found
    for name, value in (
        ("backoffLimitPerIndex", spec.backoff_limit_per_index),
        ("maxFailedIndexes", spec.max_failed_indexes),
    ):
        if value is not None:
            found.append(invalid(path.child(name), value, "requires indexed completion mode"))
    return found


def _indexed(spec: batch_v1.JobSpec, path: Path) -> Findings:
    """The status of an indexed Job lists its indexes: their number is bounded."""
    found: Findings = []
    completions, parallelism, failed = spec.completions, spec.parallelism or 0, spec.max_failed_indexes
    parallel_at, failed_at = path.child("parallelism"), path.child("maxFailedIndexes")
    if completions is None:
        found.append(required(path.child("completions"), "when completion mode is Indexed"))
    if parallelism > _MAX_PARALLELISM:
        detail = f"must be less than or equal to {_MAX_PARALLELISM} when completion mode is Indexed"
        found.append(invalid(parallel_at, parallelism, detail))
    if failed is not None and completions is not None and failed > completions:
        found.append(invalid(failed_at, failed, "must be less than or equal to completions"))
    if failed is not None and failed > _MAX_FAILED_INDEXES:
        found.append(invalid(failed_at, failed, f"must be less than or equal to {_MAX_FAILED_INDEXES}"))
    if (completions or 0) <= _MANY or spec.backoff_limit_per_index is None:
        return found
    if failed is None:
        found.append(required(failed_at, f"must be specified when completions is above {_MANY}"))
    for at, value in ((parallel_at, parallelism), (failed_at, failed or 0)):
        if value > _LIMIT_WITH_MANY:
            detail = (
                f"must be less than or equal to {_LIMIT_WITH_MANY} when completions are above {_MANY} "
                "and used with backoff limit per index"
            )
            found.append(invalid(at, value, detail))
    return found


def _success_policy(spec: batch_v1.JobSpec, path: Path) -> Findings:
    policy = spec.success_policy
    if policy is None:
        return []
    at = path.child("successPolicy")
    if spec.completion_mode != "Indexed":
        return [invalid(at, policy, "requires indexed completion mode")]
    found: Findings = []
    rules = at.child("rules")
    if not policy.rules:
        found.append(required(rules, "at least one rules must be specified when the successPolicy is specified"))
    if len(policy.rules) > 20:
        found.append(too_many(rules, len(policy.rules), 20))
    for index, rule in enumerate(policy.rules):
        found += _success_rule(rule, spec.completions or 0, rules.index(index))
    return found


def _success_rule(rule: batch_v1.SuccessPolicyRule, completions: int, path: Path) -> Findings:
    found: Findings = []
    count, indexes = rule.succeeded_count, rule.succeeded_indexes
    if count is None and indexes is None:
        found.append(required(path, "at least one of succeededCount or succeededIndexes must be specified"))
    total = 0
    if indexes is not None:
        at = path.child("succeededIndexes")
        if len(indexes) > _MAX_INDEXES_TEXT:
            found.append(too_long(at, _MAX_INDEXES_TEXT))
        try:
            total = count_indexes(indexes, completions)
        except ValueError as error:
            found.append(invalid(at, indexes, f"error parsing succeededIndexes: {error}"))
    if count is not None:
        at = path.child("succeededCount")
        found += nonnegative(count, at)
        if count > completions:
            detail = f"must be less than or equal to {completions} (the number of specified completions)"
            found.append(invalid(at, count, detail))
        if indexes is not None and count > total:
            where = "the number of indexes in the specified succeededIndexes field"
            found.append(invalid(at, count, f"must be less than or equal to {total} ({where})"))
    return found


def count_indexes(text: str, completions: int) -> int:
    """How many indexes `0,2-4` names, in rising order and each below `completions`; else ValueError."""
    total, last = 0, -1
    for interval in text.split(",") if text else ():
        parts = interval.split("-")
        if len(parts) > 2:
            rule = "an index interval can have at most two parts separated by '-'"
            raise ValueError(f"the fragment {quote(interval)} violates the requirement that {rule}")
        first = before = last
        for position, part in enumerate(parts):
            if not is_decimal(part):
                raise ValueError(f"cannot convert string to integer for index: {quote(part)}")
            if int(part) >= completions:
                raise ValueError(f"too large index: {quote(part)}")
            if int(part) <= before:
                raise ValueError(f"non-increasing order, previous: {before}, current: {int(part)}")
            before = int(part)
            first = first if position else before
        last = before
        total += last - first + 1
    return total


def _restart_policy(spec: batch_v1.JobSpec, path: Path) -> Findings:
    policy = (spec.template.spec.restart_policy if spec.template.spec else None) or ""
    if policy in ("", "Always"):
        return [required(path, 'valid values: "OnFailure", "Never"')]
    if policy not in ("OnFailure", "Never"):
        return [not_supported(path, policy, ("OnFailure", "Never"))]
    if spec.pod_failure_policy is not None and policy != "Never":
        return [invalid(path, policy, 'only "Never" is supported when podFailurePolicy is specified')]
    return []


def _failure_policy(spec: batch_v1.JobSpec, path: Path) -> Findings:
    policy = spec.pod_failure_policy
    if policy is None:
        return []
    found: Findings = []
    at = path.child("podFailurePolicy", "rules")
    if len(policy.rules) > 20:
        found.append(too_many(at, len(policy.rules), 20))
    containers = {c.name for c in _all_containers(spec.template)}
    for index, rule in enumerate(policy.rules):
        found += _failure_rule(rule, spec, containers, at.index(index))
    return found


def _all_containers(template: core_v1.PodTemplateSpec) -> Sequence[core_v1.Container]:
    inner = template.spec
    return [] if inner is None else [*inner.containers, *(inner.init_containers or ())]


def _failure_rule(
    rule: batch_v1.PodFailurePolicyRule, spec: batch_v1.JobSpec, containers: set[str], path: Path
) -> Findings:
    found: Findings = []
    actions = ("Count", "FailIndex", "FailJob", "Ignore")
    if not rule.action:
        found.append(required(path.child("action"), 'valid values: ["Count" "FailIndex" "FailJob" "Ignore"]'))
    elif rule.action not in actions:
        found.append(not_supported(path.child("action"), rule.action, actions))
    elif rule.action == "FailIndex" and spec.backoff_limit_per_index is None:
        found.append(invalid(path.child("action"), rule.action, "requires the backoffLimitPerIndex to be set"))
    codes = rule.on_exit_codes
    if codes is not None:
        at = path.child("onExitCodes")
        if not codes.operator:
            found.append(required(at.child("operator"), 'valid values: ["In" "NotIn"]'))
        elif codes.operator not in ("In", "NotIn"):
            found.append(not_supported(at.child("operator"), codes.operator, ("In", "NotIn")))
        if codes.container_name is not None and codes.container_name not in containers:
            detail = "must be one of the container or initContainer names in the pod template"
            found.append(invalid(at.child("containerName"), codes.container_name, detail))
        if not codes.values:
            found.append(invalid(at.child("values"), codes.values, "at least one value is required"))
        if len(codes.values) > 255:
            found.append(too_many(at.child("values"), len(codes.values), 255))
        if codes.operator == "In" and 0 in codes.values:
            at = at.child("values").index(codes.values.index(0))
            found.append(invalid(at, 0, "must not be 0 for the In operator"))
        for index, value in enumerate(codes.values):
            if value in codes.values[:index]:
                found.append(duplicate(path.child("onExitCodes", "values").index(index), value))
        if codes.values != sorted(codes.values):
            found.append(invalid(path.child("onExitCodes", "values"), codes.values, "must be ordered"))
    if codes is not None and rule.on_pod_conditions:
        detail = "specifying both OnExitCodes and OnPodConditions is not supported"
        found.append(invalid(path, OMITTED, detail))
    if codes is None and not rule.on_pod_conditions:
        found.append(invalid(path, OMITTED, "specifying one of OnExitCodes and OnPodConditions is required"))
    for index, pattern in enumerate(rule.on_pod_conditions or ()):
        at = path.child("onPodConditions").index(index)
        found += each(at.child("type"), pattern.type, names.qualified_name(pattern.type))
        if not pattern.status:
            found.append(required(at.child("status"), 'valid values: ["False" "True" "Unknown"]'))
        elif pattern.status not in ("True", "False", "Unknown"):
            found.append(not_supported(at.child("status"), pattern.status or "", ("False", "True", "Unknown")))
    return found


def _completions_change(new: batch_v1.JobSpec, old: batch_v1.JobSpec) -> Findings:
    """Only an indexed Job may be resized, and only together with its parallelism."""
    at = SPEC.child("completions")
    if new.completions == old.completions:
        return []
    if new.completion_mode != "Indexed" or new.completions is None or old.completions is None:
        return immutable(new.completions, old.completions, at)
    if new.completions != new.parallelism:
        return [invalid(at, new.completions, f"can only be modified in tandem with {SPEC.child('parallelism')}")]
    return []


def _template_change(new: batch_v1.Job, old: batch_v1.Job) -> Findings:
    """While it is suspended and has not begun, where its pods may run can still be said."""
    at = SPEC.child("template")
    if new.spec.template == old.spec.template:
        return []
    if not (old.spec.suspend and (old.status.start_time is None)) or new.spec.template.spec is None:
        return [invalid(at, new.spec.template, "field is immutable")]
    changed = clone(new.spec.template)
    before = old.spec.template
    assert changed.spec is not None
    if before.spec is not None:
        for field in ("node_selector", "tolerations", "scheduling_gates"):
            setattr(changed.spec, field, getattr(before.spec, field))
        affinity = before.spec.affinity.node_affinity if before.spec.affinity else None
        if changed.spec.affinity is not None:
            changed.spec.affinity.node_affinity = affinity
            if changed.spec.affinity == core_v1.Affinity():
                changed.spec.affinity = before.spec.affinity
        elif affinity is not None:
            changed.spec.affinity = core_v1.Affinity(node_affinity=affinity)
    changed.metadata = before.metadata
    return [] if changed == before else [invalid(at, new.spec.template, "field is immutable")]


def _phase(job: batch_v1.Job) -> str:
    true = {c.type for c in job.status.conditions or () if c.status == "True"}
    for kind, word in (("Complete", "Complete"), ("Failed", "Failed")):
        if kind in true:
            return word
    if job.metadata.deletion_timestamp:
        return "Terminating"
    return next((k for k in ("Suspended", "FailureTarget", "SuccessCriteriaMet") if k in true), "Running")


def _completions(job: batch_v1.Job) -> str:
    succeeded = job.status.succeeded or 0
    if job.spec.completions is not None:
        return f"{succeeded}/{job.spec.completions}"
    parallelism = job.spec.parallelism or 0
    return f"{succeeded}/1 of {parallelism}" if parallelism > 1 else f"{succeeded}/1"
