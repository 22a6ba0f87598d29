from __future__ import annotations

from typing import Any

import pytest

from podling.apiserver.resources.batch.cronjob import schedule_problem
from tests.unit.apiserver.resources.kinds import Kind, changed

CRON = Kind("batch/v1", "CronJob")
HELLO: dict[str, Any] = {
    "metadata": {"name": "hello", "namespace": "default"},
    "spec": {
        "schedule": "*/5 * * * *",
        "jobTemplate": {
            "spec": {
                "template": {
                    "spec": {"restartPolicy": "OnFailure", "containers": [{"name": "c", "image": "busybox"}]},
                }
            }
        },
    },
}


def test_defaults() -> None:
    spec = CRON.defaulted(HELLO)["spec"]
    expected = {
        "concurrencyPolicy": "Allow",
        "suspend": False,
        "successfulJobsHistoryLimit": 3,
        "failedJobsHistoryLimit": 1,
    }
    assert expected.items() <= spec.items()
    # The Job gets its own defaults when it is made.
    assert set(spec["jobTemplate"]["spec"]) == {"template"}


NO_ZONE = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"


@pytest.mark.parametrize(
    ("changes", "findings"),
    [
        ({}, []),
        ({"metadata__name": "h" * 53}, [
            f'metadata.name: Invalid value: "{"h" * 53}": must be no more than 52 characters'
        ]),
        ({"spec__schedule": ""}, ["spec.schedule: Required value"]),
        ({"spec__schedule": "* * * *"}, [
            'spec.schedule: Invalid value: "* * * *": expected exactly 5 fields, found 4: [* * * *]'
        ]),
        ({"spec__schedule": "TZ=UTC 0 0 * * *"}, [f'spec.schedule: Invalid value: "TZ=UTC 0 0 * * *": {NO_ZONE}']),
        ({"spec__timeZone": ""}, ['spec.timeZone: Invalid value: "": timeZone must be nil or non-empty string']),
        ({"spec__timeZone": "Mars/Base"}, ['spec.timeZone: Invalid value: "Mars/Base": unknown time zone Mars/Base']),
        ({"spec__timeZone": "Local"}, [
            'spec.timeZone: Invalid value: "Local": timeZone must be an explicit time zone as defined in '
            "https://www.iana.org/time-zones"
        ]),
        ({"spec__concurrencyPolicy": "Perhaps"}, [
            'spec.concurrencyPolicy: Unsupported value: "Perhaps": supported values: "Allow", "Forbid", "Replace"'
        ]),
        ({"spec__startingDeadlineSeconds": -1}, [
            "spec.startingDeadlineSeconds: Invalid value: -1: must be greater than or equal to 0"
        ]),
        ({"spec__jobTemplate__spec__manualSelector": True}, [
            'spec.jobTemplate.spec.manualSelector: Unsupported value: true: supported values: "nil", "false"'
        ]),
        ({"spec__jobTemplate__spec__selector": {"matchLabels": {"a": "b"}}}, [
            'spec.jobTemplate.spec.selector: Invalid value: {"matchLabels":{"a":"b"}}: `selector` will be '
            'auto-generated'
        ]),
        ({"spec__jobTemplate__spec__template__spec__restartPolicy": "Always"}, [
            'spec.jobTemplate.spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"'
        ]),
    ],
)  # fmt: skip
def test_create(changes: dict[str, Any], findings: list[str]) -> None:
    assert CRON.create(changed(HELLO, **changes)) == findings


def test_what_was_wrong_before_may_stay() -> None:
    old = changed(HELLO, metadata__name="h" * 53, spec__schedule="TZ=UTC 0 0 * * *", spec__timeZone="Mars/Base")
    assert CRON.update(changed(old, spec__suspend=True), old) == [
        'spec.schedule: Invalid value: "TZ=UTC 0 0 * * *": cannot use both timeZone field and TZ or CRON_TZ in schedule'
    ]
    alone = changed(HELLO, spec__schedule="TZ=UTC 0 0 * * *")
    assert CRON.update(alone, alone) == []
    assert CRON.update(alone, HELLO) == [f'spec.schedule: Invalid value: "TZ=UTC 0 0 * * *": {NO_ZONE}']


NINES = "9" * 5000


@pytest.mark.parametrize(
    ("schedule", "problem"),
    [
        ("@hourly", ""),
        ("@every 1h30m", ""),
        ("@every 1x", 'failed to parse duration @every 1x: time: invalid duration "1x"'),
        ("@every 3000000h", 'failed to parse duration @every 3000000h: time: invalid duration "3000000h"'),
        ("0,30 8-18/2 ? JAN-MAR MON-FRI", ""),
        ("@never", "unrecognized descriptor: @never"),
        ("60 * * * *", "end of range (60) above maximum (59): 60"),
        ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
        ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
        ("*/0 * * * *", "step of range should be a positive number: */0"),
        ("a * * * *", 'failed to parse int from a: strconv.Atoi: parsing "a": invalid syntax'),
        ("*/\u0663 * * * *", 'failed to parse int from \u0663: strconv.Atoi: parsing "\u0663": invalid syntax'),
        (f"{NINES} * * * *", f'failed to parse int from {NINES}: strconv.Atoi: parsing "{NINES}": value out of range'),
    ],
)
def test_schedules(schedule: str, problem: str) -> None:
    assert schedule_problem(schedule) == problem


def test_row() -> None:
    ran = changed(HELLO, status={"lastScheduleTime": "2026-01-01T11:58:00Z", "active": [{"name": "hello-1"}]})
    assert CRON.row(ran) == {
        "Name": "hello",
        "Schedule": "*/5 * * * *",
        "Timezone": "<none>",
        "Suspend": "False",
        "Active": 1,
        "Last Schedule": "2m",
        "Age": "<unknown>",
        "Containers": "c",
        "Images": "busybox",
        "Selector": "<none>",
    }
