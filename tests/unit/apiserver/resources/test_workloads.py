"""Deployments, ReplicaSets, StatefulSets, DaemonSets, Jobs, CronJobs, ReplicationControllers."""

from typing import Any

import pytest

from apiserver.resources.make import created, findings, load, row, strategy, update_findings
from podling.api.struct import to_dict
from podling.apiserver.resources.batch.cronjob import schedule_problem

TEMPLATE = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "a", "image": "nginx"}]}}
GROUPS = {"Deployment": "apps/v1", "ReplicaSet": "apps/v1", "StatefulSet": "apps/v1", "DaemonSet": "apps/v1"}


def workload(kind: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": GROUPS[kind],
        "kind": kind,
        "metadata": {"name": "web"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": TEMPLATE, **spec},
    }


def job(**spec: Any) -> dict[str, Any]:
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "nginx"}]}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"}, "spec": {"template": template, **spec}}


@pytest.mark.parametrize("kind", GROUPS)
def test_minimal_ones_are_valid(kind: str) -> None:
    assert findings(workload(kind)) == []


def test_deployment_defaults() -> None:
    spec = to_dict(created(workload("Deployment")))["spec"]
    del spec["template"], spec["selector"]
    assert spec == {
        "progressDeadlineSeconds": 600,
        "replicas": 1,
        "revisionHistoryLimit": 10,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
    }


def test_stateful_and_daemon_set_defaults() -> None:
    spec = to_dict(created(workload("StatefulSet")))["spec"]
    assert spec["podManagementPolicy"] == "OrderedReady"
    assert spec["updateStrategy"] == {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}
    assert spec["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    spec = to_dict(created(workload("DaemonSet")))["spec"]
    assert spec["updateStrategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}


@pytest.mark.parametrize("kind", GROUPS)
def test_templates_get_defaults_and_are_checked(kind: str) -> None:
    obj = created(workload(kind))
    assert obj.spec.template.spec.restart_policy == "Always"
    assert obj.spec.template.spec.containers[0].termination_message_path == "/dev/termination-log"
    bad = {"metadata": TEMPLATE["metadata"], "spec": {"containers": []}}
    assert findings(workload(kind, template=bad)) == ["spec.template.spec.containers: Required value"]


@pytest.mark.parametrize("kind", GROUPS)
def test_the_selector_selects_the_template(kind: str) -> None:
    assert findings(workload(kind, selector={"matchLabels": {"app": "x"}})) == [
        'spec.template.metadata.labels: Invalid value: {"app":"web"}: `selector` does not match template `labels`'
    ]
    assert findings(workload(kind, selector=None)) == [
        "spec.selector: Required value",
        'spec.template.metadata.labels: Invalid value: {"app":"web"}: `selector` does not match template `labels`',
    ]


@pytest.mark.parametrize("kind", GROUPS)
def test_pods_run_for_ever(kind: str) -> None:
    once = {"metadata": TEMPLATE["metadata"], "spec": {**TEMPLATE["spec"], "restartPolicy": "Never"}}
    assert findings(workload(kind, template=once)) == [
        'spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"'
    ]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"replicas": -1}, ["spec.replicas: Invalid value: -1: must be greater than or equal to 0"]),
        (
            {"strategy": {"type": "X"}},
            ['spec.strategy.type: Unsupported value: "X": supported values: "Recreate", "RollingUpdate"'],
        ),
        (
            {"strategy": {"type": "Recreate", "rollingUpdate": {"maxSurge": 1}}},
            ["spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"],
        ),
        (
            {"strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}},
            ["spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0"],
        ),
        (
            {"strategy": {"rollingUpdate": {"maxUnavailable": "150%"}}},
            ['spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "150%": must not be greater than 100%'],
        ),
        (
            {"strategy": {"rollingUpdate": {"maxSurge": "x"}}},
            [
                'spec.strategy.rollingUpdate.maxSurge: Invalid value: "x": a valid percent string must be a numeric '
                "string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')"
            ],
        ),
        (
            {"minReadySeconds": 700},
            ["spec.progressDeadlineSeconds: Invalid value: 600: must be greater than minReadySeconds"],
        ),
    ],
)
def test_deployment_validation(spec: dict[str, Any], expected: list[str]) -> None:
    assert findings(workload("Deployment", **spec)) == expected


def test_selectors_never_change() -> None:
    other = workload("Deployment", selector={"matchLabels": {"app": "x"}})
    other["spec"]["template"] = {**TEMPLATE, "metadata": {"labels": {"app": "x"}}}
    assert update_findings(workload("Deployment"), other) == [
        'spec.selector: Invalid value: {"matchLabels":{"app":"x"}}: field is immutable'
    ]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"replicas": 3}, []),
        ({"updateStrategy": {"type": "OnDelete"}}, []),
        (
            {"serviceName": "other"},
            [
                "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', "
                "'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and "
                "'minReadySeconds' are forbidden"
            ],
        ),
    ],
)
def test_stateful_set_updates(change: dict[str, Any], expected: list[str]) -> None:
    assert update_findings(workload("StatefulSet"), workload("StatefulSet", **change)) == expected


def test_stateful_set_templates_may_mount_claims() -> None:
    container = {"name": "a", "image": "x", "volumeMounts": [{"name": "data", "mountPath": "/d"}]}
    template = {"metadata": TEMPLATE["metadata"], "spec": {"containers": [container]}}
    claim = {"metadata": {"name": "data"}, "spec": {}}
    assert findings(workload("StatefulSet", template=template, volumeClaimTemplates=[claim])) == []
    assert findings(workload("StatefulSet", template=template)) == [
        'spec.template.spec.containers[0].volumeMounts[0].name: Not found: "data"'
    ]


def test_daemon_set_strategies() -> None:
    both = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}}
    assert findings(workload("DaemonSet", updateStrategy=both)) == [
        "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero"
    ]


def test_status_counts() -> None:
    found, obj = load({**workload("Deployment"), "status": {"replicas": 1, "readyReplicas": 2}})
    assert [str(f) for f in found.validate_status_update(obj, obj)] == [
        "status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas"
    ]


@pytest.mark.parametrize(
    ("kind", "spec", "status", "expected"),
    [
        (
            "Deployment",
            {"replicas": 3},
            {"replicas": 3, "readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 1},
            {"Ready": "2/3", "Up-to-date": 3, "Available": 1},
        ),
        ("ReplicaSet", {"replicas": 3}, {"replicas": 2, "readyReplicas": 1}, {"Desired": 3, "Current": 2, "Ready": 1}),
        ("StatefulSet", {"replicas": 3}, {"replicas": 3, "readyReplicas": 2}, {"Ready": "2/3"}),
        (
            "DaemonSet",
            {},
            {"desiredNumberScheduled": 2, "currentNumberScheduled": 1, "numberReady": 1},
            {"Desired": 2, "Current": 1, "Ready": 1, "Up-to-date": 0, "Available": 0, "Node Selector": "<none>"},
        ),
    ],
)
def test_rows(kind: str, spec: dict[str, Any], status: dict[str, Any], expected: dict[str, Any]) -> None:
    cells = row({**workload(kind, **spec), "status": status})
    assert {k: cells[k] for k in expected} == expected
    assert (cells["Containers"], cells["Images"]) == ("a", "nginx")
    if kind != "StatefulSet":
        assert cells["Selector"] == "app=web"


# -- jobs -------------------------------------------------------------------------------------------------------------


def test_jobs_select_their_own_pods() -> None:
    obj = created(job())
    uid = "batch.kubernetes.io/controller-uid"
    assert obj.spec.selector.match_labels == {uid: "uid-1"}
    assert obj.spec.template.metadata.labels == {
        "controller-uid": "uid-1", uid: "uid-1", "job-name": "j", "batch.kubernetes.io/job-name": "j",
    }  # fmt: skip
    assert (obj.spec.completions, obj.spec.parallelism, obj.spec.backoff_limit) == (1, 1, 6)
    assert (obj.spec.completion_mode, obj.spec.suspend) == ("NonIndexed", False)


ALWAYS = {"spec": {"restartPolicy": "Always", "containers": [{"name": "a", "image": "x"}]}}
RULE = {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [0]}}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, []),
        ({"parallelism": -1}, ["spec.parallelism: Invalid value: -1: must be greater than or equal to 0"]),
        (
            {"template": ALWAYS},
            ['spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"'],
        ),
        (
            {"completionMode": "Indexed", "parallelism": 1},
            ["spec.completions: Required value: when completion mode is Indexed"],
        ),
        (
            {"backoffLimitPerIndex": 1},
            ["spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode"],
        ),
        (
            {"completionMode": "Indexed", "completions": 2, "maxFailedIndexes": 3, "backoffLimitPerIndex": 1},
            ["spec.maxFailedIndexes: Invalid value: 3: must be less than or equal to completions"],
        ),
        (
            {"managedBy": "me"},
            ['spec.managedBy: Invalid value: "me": must be a domain-prefixed path (such as "acme.io/foo")'],
        ),
        (
            {"podFailurePolicy": {"rules": [{"action": ""}]}},
            [
                "spec.podFailurePolicy.rules[0].action: Required value: "
                'valid values: ["Count" "FailIndex" "FailJob" "Ignore"]',
                "spec.podFailurePolicy.rules[0]: Invalid value: "
                "specifying one of OnExitCodes and OnPodConditions is required",
            ],
        ),
        (
            {
                "completionMode": "Indexed",
                "completions": 3,
                "successPolicy": {
                    "rules": [{"succeededIndexes": "0,2-5"}, {"succeededIndexes": "0-1", "succeededCount": 3}]
                },
            },
            [
                'spec.successPolicy.rules[0].succeededIndexes: Invalid value: "0,2-5": '
                'error parsing succeededIndexes: too large index: "5"',
                "spec.successPolicy.rules[1].succeededCount: Invalid value: 3: must be less than or equal to 2 "
                "(the number of indexes in the specified succeededIndexes field)",
            ],
        ),
        (
            {"podFailurePolicy": {"rules": [RULE]}},
            [
                "spec.podFailurePolicy.rules[0].onExitCodes.values[0]: Invalid value: 0: "
                "must not be 0 for the In operator"
            ],
        ),
    ],
)
def test_job_validation(spec: dict[str, Any], expected: list[str]) -> None:
    assert findings(job(**spec)) == expected


def test_job_templates_never_change() -> None:
    old = created(job())
    new = created(job(parallelism=2, completions=1))
    jobs = strategy("batch/v1", "Job")
    assert jobs.validate_update(new, old) == []
    new.spec.template.spec.containers[0].image = "other"
    (finding,) = jobs.validate_update(new, old)
    assert finding.field == "spec.template" and finding.body.endswith(": field is immutable")


@pytest.mark.parametrize(
    ("spec", "status", "expected"),
    [
        ({"completions": 3}, {"succeeded": 1}, ("Running", "1/3", "")),
        (
            {"completions": 1},
            {
                "succeeded": 1,
                "startTime": "2026-01-01T11:00:00Z",
                "completionTime": "2026-01-01T11:00:07Z",
                "conditions": [{"type": "Complete", "status": "True"}],
            },
            ("Complete", "1/1", "7s"),
        ),
        ({"parallelism": 4}, {"startTime": "2026-01-01T11:59:00Z"}, ("Running", "0/1 of 4", "60s")),
        ({}, {"conditions": [{"type": "Suspended", "status": "True"}]}, ("Suspended", "0/1", "")),
        ({}, {"conditions": [{"type": "Failed", "status": "True"}]}, ("Failed", "0/1", "")),
    ],
)
def test_job_rows(spec: dict[str, Any], status: dict[str, Any], expected: tuple[str, ...]) -> None:
    cells = row({**job(**spec), "status": status})
    assert (cells["Status"], cells["Completions"], cells["Duration"]) == expected


def cron(**spec: Any) -> dict[str, Any]:
    template = {"spec": {"template": job()["spec"]["template"]}}
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "c"},
        "spec": {"schedule": "*/5 * * * *", "jobTemplate": template, **spec},
    }


def test_cron_job() -> None:
    assert findings(cron()) == []
    spec = created(cron()).spec
    assert (spec.concurrency_policy, spec.suspend) == ("Allow", False)
    assert (spec.successful_jobs_history_limit, spec.failed_jobs_history_limit) == (3, 1)
    assert findings(cron(schedule="x", timeZone="Mars/Base", concurrencyPolicy="X")) == [
        'spec.schedule: Invalid value: "x": expected exactly 5 fields, found 1: [x]',
        'spec.timeZone: Invalid value: "Mars/Base": unknown time zone Mars/Base',
        'spec.concurrencyPolicy: Unsupported value: "X": supported values: "Allow", "Forbid", "Replace"',
    ]
    cells = row({**cron(suspend=False), "status": {"lastScheduleTime": "2026-01-01T11:58:00Z"}})
    assert (cells["Schedule"], cells["Timezone"], cells["Suspend"], cells["Active"], cells["Last Schedule"]) == (
        "*/5 * * * *", "<none>", "False", 0, "2m",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("schedule", "problem"),
    [
        ("0 0 1 jan mon-fri", ""),
        ("@daily", ""),
        ("@every 1h30m", ""),
        ("@sometimes", "unrecognized descriptor: @sometimes"),
        ("60 * * * *", "end of range (60) above maximum (59): 60"),
        ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
        ("5-3 * * * *", "beginning of range (5) beyond end of range (3): 5-3"),
        ("*/0 * * * *", "step of range should be a positive number: */0"),
        ("a * * * *", 'failed to parse int from a: strconv.Atoi: parsing "a": invalid syntax'),
    ],
)
def test_schedules(schedule: str, problem: str) -> None:
    assert schedule_problem(schedule) == problem


def test_replication_controllers_take_their_selector_from_the_template() -> None:
    text = {
        "apiVersion": "v1",
        "kind": "ReplicationController",
        "metadata": {"name": "web"},
        "spec": {"template": TEMPLATE},
    }
    obj = created(text)
    assert obj.spec.selector == {"app": "web"} == obj.metadata.labels and obj.spec.replicas == 1
    assert findings(text) == []
