"""CronJobs."""

from __future__ import annotations

import zoneinfo
from datetime import datetime
from typing import Any

from podling.api import batch_v1, core_v1, names, times
from podling.api.numbers import NumberError, atoi
from podling.apiserver.resources import printing
from podling.apiserver.resources.batch import job
from podling.apiserver.resources.podspec import warnings
from podling.apiserver.resources.workloads import SPEC
from podling.apiserver.strategy import Context, Strategy
from podling.machinery.validation import Findings, Path, invalid, nonnegative, not_supported, required

_POLICIES = ("Allow", "Forbid", "Replace")
_MACROS = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
#: (name, first, last, names) of the five fields.
_FIELDS = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of month", 1, 31, ()),
    ("month", 1, 12, _MONTHS),
    ("day of week", 0, 6, _DAYS),
)


def _pods(obj: batch_v1.CronJob | None) -> core_v1.PodTemplateSpec | None:
    job_spec = obj.spec.job_template.spec if obj is not None else None
    return job_spec.template if job_spec is not None else None


class CronJobStrategy(Strategy[batch_v1.CronJob]):
    has_status = True
    columns = (
        printing.NAME,
        printing.text("Schedule"),
        printing.text("Timezone"),
        printing.text("Suspend"),
        printing.number("Active"),
        printing.text("Last Schedule"),
        printing.AGE,
        printing.CONTAINERS,
        printing.IMAGES,
        printing.SELECTOR,
    )

    def default(self, obj: batch_v1.CronJob) -> None:
        spec = obj.spec
        spec.concurrency_policy = spec.concurrency_policy or "Allow"
        if spec.suspend is None:
            spec.suspend = False
        if spec.successful_jobs_history_limit is None:
            spec.successful_jobs_history_limit = 3
        if spec.failed_jobs_history_limit is None:
            spec.failed_jobs_history_limit = 1
        if spec.job_template.spec is not None:
            template = spec.job_template.spec
            # What a Job gets when it is made stays open here.
            kept = (template.completions, template.parallelism, template.backoff_limit, template.suspend)
            kept_rest = (template.completion_mode, template.pod_replacement_policy, template.manual_selector)
            job.default_spec(template)
            template.completions, template.parallelism, template.backoff_limit, template.suspend = kept
            template.completion_mode, template.pod_replacement_policy, template.manual_selector = kept_rest

    def prepare_create(self, obj: batch_v1.CronJob, context: Context) -> None:
        obj.status = batch_v1.CronJobStatus()

    def validate(self, obj: batch_v1.CronJob) -> Findings:
        found = _spec(obj.spec, None)
        if len(obj.metadata.name or "") > 52:
            # The jobs' names are eleven characters longer.
            at = Path("metadata").child("name")
            found.append(invalid(at, obj.metadata.name, "must be no more than 52 characters"))
        return found

    def validate_update(self, new: batch_v1.CronJob, old: batch_v1.CronJob) -> Findings:
        return _spec(new.spec, old.spec)

    def validate_name(self, name: str, *, prefix: bool) -> list[str]:
        return names.dns_subdomain(name, prefix=prefix)

    def warnings(self, new: batch_v1.CronJob, old: batch_v1.CronJob | None) -> list[str]:
        return warnings.template(_pods(new), _pods(old), SPEC.child("jobTemplate", "spec", "template"))

    def row(self, obj: batch_v1.CronJob, now: datetime) -> list[Any]:
        last = obj.status.last_schedule_time
        template = obj.spec.job_template.spec
        selector = template.selector if template else None
        return [
            printing.name(obj.metadata),
            obj.spec.schedule,
            obj.spec.time_zone or printing.NONE,
            {None: printing.UNSET, True: "True", False: "False"}[obj.spec.suspend],
            len(obj.status.active or ()),
            times.age(last, now) if last else printing.NONE,
            printing.age(obj.metadata, now),
            *printing.containers_and_images(template.template if template else None),
            printing.label_selector(selector) if selector else printing.NONE,
        ]


def _spec(spec: batch_v1.CronJobSpec, old: batch_v1.CronJobSpec | None) -> Findings:
    """`old` is None for a new object; what is wrong with an old zone or schedule already may stay so."""
    found = _schedule(spec, old is not None and "TZ" in old.schedule, SPEC.child("schedule"))
    found += nonnegative(spec.starting_deadline_seconds, SPEC.child("startingDeadlineSeconds"))
    if old is None or old.time_zone != spec.time_zone:
        found += _time_zone(spec.time_zone, SPEC.child("timeZone"))
    policy = spec.concurrency_policy
    if policy not in _POLICIES:
        at = SPEC.child("concurrencyPolicy")
        found.append(not_supported(at, policy, _POLICIES) if policy else required(at))
    template = spec.job_template.spec or batch_v1.JobSpec()
    found += _job_template(template, SPEC.child("jobTemplate", "spec"))
    found += nonnegative(spec.successful_jobs_history_limit, SPEC.child("successfulJobsHistoryLimit"))
    return found + nonnegative(spec.failed_jobs_history_limit, SPEC.child("failedJobsHistoryLimit"))


def _schedule(spec: batch_v1.CronJobSpec, zone_allowed: bool, path: Path) -> Findings:
    schedule = spec.schedule
    if not schedule:
        return [required(path)]
    found: Findings = []
    if problem := schedule_problem(schedule):
        found.append(invalid(path, schedule, problem))
    if "TZ" not in schedule:
        return found
    if not zone_allowed:
        detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
        found.append(invalid(path, schedule, detail))
    elif spec.time_zone is not None:
        found.append(invalid(path, schedule, "cannot use both timeZone field and TZ or CRON_TZ in schedule"))
    return found


def _job_template(spec: batch_v1.JobSpec, path: Path) -> Findings:
    """As a Job's, with what its defaults will add."""
    from podling.api.struct import clone

    filled = clone(spec)
    job.default_spec(filled)
    found = job.job_spec(filled, path)
    if spec.selector is not None:
        found.append(invalid(path.child("selector"), spec.selector, "`selector` will be auto-generated"))
    if spec.manual_selector:
        found.append(not_supported(path.child("manualSelector"), True, ("nil", "false")))
    return found


def _time_zone(zone: str | None, path: Path) -> Findings:
    if zone is None:
        return []
    if not zone:
        return [invalid(path, zone, "timeZone must be nil or non-empty string")]
    if zone.lower() == "local":
        return [
            invalid(path, zone, "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones")
        ]
    try:
        zoneinfo.ZoneInfo(zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return [invalid(path, zone, f"unknown time zone {zone}")]
    return []


def schedule_problem(schedule: str) -> str:
    """Why a cron expression can't be read; "" if it can."""
    if schedule.startswith(("TZ=", "CRON_TZ=")):
        schedule = schedule.partition(" ")[2]
    if schedule.startswith("@"):
        if schedule in _MACROS:
            return ""
        if schedule.startswith("@every "):
            try:
                times.parse_duration(schedule.removeprefix("@every "))
            except ValueError as error:
                return f"failed to parse duration {schedule}: {error}"
            return ""
        return f"unrecognized descriptor: {schedule}"
    parts = schedule.split()
    if len(parts) != 5:
        return f"expected exactly 5 fields, found {len(parts)}: [{' '.join(parts)}]"
    for part, (_, first, last, words) in zip(parts, _FIELDS, strict=True):
        for item in part.split(","):
            if problem := _item_problem(item, first, last, words):
                return problem
    return ""


def _item_problem(item: str, first: int, last: int, words: tuple[str, ...]) -> str:
    span, slash, step = item.partition("/")
    if slash:
        try:
            if atoi(step) == 0:
                return f"step of range should be a positive number: {item}"
        except NumberError as error:
            return f"failed to parse int from {step}: {error}"
    if span in ("*", "?"):
        return ""
    low, dash, high = span.partition("-")
    numbers: list[int] = []
    for text in (low, high) if dash else (low,):
        if text.lower() in words:
            numbers.append(words.index(text.lower()) + first)
        else:
            try:
                numbers.append(atoi(text))
            except NumberError as error:
                return f"failed to parse int from {text}: {error}"
    if numbers[0] < first:
        return f"beginning of range ({numbers[0]}) below minimum ({first}): {item}"
    if numbers[-1] > last:
        return f"end of range ({numbers[-1]}) above maximum ({last}): {item}"
    if numbers[0] > numbers[-1]:
        return f"beginning of range ({numbers[0]}) beyond end of range ({numbers[-1]}): {item}"
    return ""
