"""The Pod Security Standards: each check's findings in upstream's words, from the versions on that have them."""

from __future__ import annotations

from typing import Any

import pytest

from podling.api import core_v1, meta_v1, struct
from podling.machinery.pod_security import policy, standard
from podling.machinery.pod_security.policy import LevelVersion, Policy

#: A pod that the newest restricted level allows.
GOOD = {
    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    "containers": [
        {"name": "a", "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}}
    ],
}


def spec(**fields: Any) -> core_v1.PodSpec:
    return struct.from_dict({"containers": [{"name": "a"}], **fields}, core_v1.PodSpec)


def context(**fields: Any) -> dict[str, Any]:
    """A pod whose one container has this security context."""
    return {"containers": [{"name": "a", "securityContext": fields}]}


def found(level: str, pod: core_v1.PodSpec, annotations: dict[str, str] | None = None) -> str:
    name, _, version = level.partition(":v1.")
    wanted = LevelVersion(name, int(version) if version else None)
    return standard.details(standard.evaluate(wanted, meta_v1.ObjectMeta(annotations=annotations), pod))


def test_a_good_pod_is_allowed_at_every_level_in_every_version() -> None:
    pod = spec(**GOOD)
    for level in policy.LEVELS:
        for minor in (None, *range(60)):
            assert not standard.evaluate(LevelVersion(level, minor), meta_v1.ObjectMeta(), pod)


def test_a_plain_pod_is_allowed_by_the_baseline_and_not_by_the_newest_restricted_level() -> None:
    assert found("baseline", spec()) == ""
    assert found("restricted", spec()) == (
        'allowPrivilegeEscalation != false (container "a" must set securityContext.allowPrivilegeEscalation=false), '
        'unrestricted capabilities (container "a" must set securityContext.capabilities.drop=["ALL"]), '
        'runAsNonRoot != true (pod or container "a" must set securityContext.runAsNonRoot=true), '
        'seccompProfile (pod or container "a" must set securityContext.seccompProfile.type to "RuntimeDefault" or '
        '"Localhost")'
    )
    two = spec(containers=[{"name": "a"}, {"name": "b"}], initContainers=[{"name": "i"}])
    assert found("restricted:v1.8", two) == (
        'allowPrivilegeEscalation != false (containers "i", "a", "b" must set '
        "securityContext.allowPrivilegeEscalation=false), "
        'runAsNonRoot != true (pod or containers "i", "a", "b" must set securityContext.runAsNonRoot=true)'
    )


APPARMOR = "container.apparmor.security.beta.kubernetes.io/a"
SECCOMP = "seccomp.security.alpha.kubernetes.io/pod"
TYPES = {"securityContext": {"seLinuxOptions": {"type": "x_t", "user": "u"}}}


@pytest.mark.parametrize(
    ("level", "fields", "expected"),
    [
        ("baseline", {"hostNetwork": True, "hostIPC": True}, "host namespaces (hostNetwork=true, hostIPC=true)"),
        ("baseline", {"hostPID": True, "hostIPC": False}, "host namespaces (hostPID=true)"),
        (
            "baseline",
            {"volumes": [{"name": "v", "hostPath": {"path": "/"}}, {"name": "w", "hostPath": {"path": "/"}}]},
            'hostPath volumes (volumes "v", "w")',
        ),
        (
            "baseline",
            {
                "containers": [
                    {"name": "a", "ports": [{"containerPort": 80, "hostPort": 80}, {"containerPort": 1}]},
                    {"name": "b", "ports": [{"containerPort": 8080, "hostPort": 8080}]},
                ]
            },
            'hostPort (containers "a", "b" use hostPorts 80, 8080)',
        ),
        (
            "baseline",
            {"containers": [{"name": "a", "ports": [{"containerPort": 80, "hostPort": 80}]}]},
            'hostPort (container "a" uses hostPort 80)',
        ),
        (
            "baseline",
            context(privileged=True),
            'privileged (container "a" must not set securityContext.privileged=true)',
        ),
        ("baseline", context(privileged=False), ""),
        (
            "baseline",
            {"ephemeralContainers": [{"name": "e", "securityContext": {"privileged": True}}]},
            'privileged (container "e" must not set securityContext.privileged=true)',
        ),
        (
            "baseline",
            context(capabilities={"add": ["NET_RAW", "CHOWN", "AUDIT_READ"]}),
            'non-default capabilities (container "a" must not include "AUDIT_READ", "NET_RAW" in '
            "securityContext.capabilities.add)",
        ),
        ("baseline", context(capabilities={"add": ["CHOWN", "SYS_CHROOT"]}), ""),
        (
            "baseline",
            context(procMount="Unmasked"),
            'procMount (container "a" must not set securityContext.procMount to "Unmasked")',
        ),
        ("baseline", {**context(procMount="Unmasked"), "hostUsers": False}, ""),
        (
            "baseline:v1.34",
            {**context(procMount="Unmasked"), "hostUsers": False},
            'procMount (container "a" must not set securityContext.procMount to "Unmasked")',
        ),
        (
            "baseline",
            {**TYPES, **context(seLinuxOptions={"role": "r", "type": "y_t"})},
            'seLinuxOptions (pod and container "a" set forbidden securityContext.seLinuxOptions: types "x_t", "y_t"; '
            "user may not be set; role may not be set)",
        ),
        ("baseline", context(seLinuxOptions={"type": "container_engine_t", "level": "s0"}), ""),
        (
            "baseline:v1.30",
            context(seLinuxOptions={"type": "container_engine_t"}),
            'seLinuxOptions (container "a" set forbidden securityContext.seLinuxOptions: type "container_engine_t")',
        ),
        (
            "baseline",
            {"securityContext": {"seccompProfile": {"type": "Unconfined"}}},
            'seccompProfile (pod must not set securityContext.seccompProfile.type to "Unconfined")',
        ),
        ("baseline:v1.18", {"securityContext": {"seccompProfile": {"type": "Unconfined"}}}, ""),
        (
            "baseline",
            {"securityContext": {"sysctls": [{"name": "kernel.sem", "value": "1"}, {"name": "a", "value": "1"}]}},
            "forbidden sysctls (kernel.sem, a)",
        ),
        ("baseline", {"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_rmem", "value": "1"}]}}, ""),
        (
            "baseline:v1.31",
            {"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_rmem", "value": "1"}]}},
            "forbidden sysctls (net.ipv4.tcp_rmem)",
        ),
        (
            "baseline",
            {
                "securityContext": {"windowsOptions": {"hostProcess": True}},
                **context(windowsOptions={"hostProcess": True}),
            },
            'hostProcess (pod and container "a" must not set securityContext.windowsOptions.hostProcess=true)',
        ),
        (
            "baseline",
            {"containers": [{"name": "a", "livenessProbe": {"httpGet": {"host": "1.2.3.4", "port": 1}}}]},
            'probe or lifecycle host (container "a" uses probe or lifecycle host "1.2.3.4")',
        ),
        (
            "baseline",
            {
                "containers": [
                    {"name": "b", "lifecycle": {"preStop": {"tcpSocket": {"host": "x", "port": 1}}}},
                    {"name": "a", "startupProbe": {"tcpSocket": {"host": "y", "port": 1}}},
                ]
            },
            'probe or lifecycle host (containers "a", "b" use probe or lifecycle hosts "x", "y")',
        ),
        ("baseline:v1.33", {"containers": [{"name": "a", "livenessProbe": {"httpGet": {"host": "h", "port": 1}}}]}, ""),
        (
            "baseline",
            {"securityContext": {"appArmorProfile": {"type": "Unconfined"}}},
            'forbidden AppArmor profile (pod must not set AppArmor profile type to "Unconfined")',
        ),
        (
            "restricted",
            {
                **GOOD,
                "volumes": [
                    {"name": "h", "hostPath": {"path": "/"}},
                    {"name": "n", "nfs": {"server": "s", "path": "/"}},
                ],
            },
            'restricted volume types (volumes "h", "n" use restricted volume types "hostPath", "nfs")',
        ),
        (
            "restricted",
            {**GOOD, "volumes": [{"name": "e", "emptyDir": {}}, {"name": "g", "gcePersistentDisk": {"pdName": "x"}}]},
            'restricted volume types (volume "g" uses restricted volume type "gcePersistentDisk")',
        ),
        (
            "restricted",
            {**GOOD, "securityContext": {"seccompProfile": {"type": "Localhost"}, "runAsNonRoot": False}},
            "runAsNonRoot != true (pod must not set securityContext.runAsNonRoot=false)",
        ),
        ("restricted:v1.22", {**GOOD, "securityContext": {**GOOD["securityContext"], "runAsUser": 0}}, ""),  # type: ignore[dict-item]
        (
            "restricted",
            {**GOOD, "securityContext": {**GOOD["securityContext"], "runAsUser": 0}},  # type: ignore[dict-item]
            "runAsUser=0 (pod must not set runAsUser=0)",
        ),
        (
            "restricted",
            {
                **GOOD,
                "hostUsers": False,
                "securityContext": {
                    "seccompProfile": {"type": "RuntimeDefault"},
                    "runAsUser": 0,
                    "runAsNonRoot": False,
                },
            },
            "",
        ),
        (
            "restricted",
            {
                **GOOD,
                **context(
                    allowPrivilegeEscalation=False, capabilities={"drop": ["all"], "add": ["CHOWN", "NET_BIND_SERVICE"]}
                ),
            },
            'unrestricted capabilities (container "a" must set securityContext.capabilities.drop=["ALL"]; '
            'container "a" must not include "CHOWN" in securityContext.capabilities.add)',
        ),
        (
            "restricted",
            {**GOOD, "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "Unconfined"}}},
            'seccompProfile (pod must not set securityContext.seccompProfile.type to "Unconfined")',
        ),
        (
            "restricted",
            {
                **GOOD,
                "hostUsers": False,
                **context(procMount="Unmasked", allowPrivilegeEscalation=False, capabilities={"drop": ["ALL"]}),
            },
            'procMount (container "a" must not set securityContext.procMount to "Unmasked")',
        ),
        ("restricted", {"os": {"name": "windows"}, "securityContext": {"runAsNonRoot": True}}, ""),
    ],
)
def test_checks(level: str, fields: dict[str, Any], expected: str) -> None:
    assert found(level, spec(**fields)) == expected


@pytest.mark.parametrize(
    ("level", "annotations", "expected"),
    [
        ("baseline", {APPARMOR: "runtime/default"}, ""),
        (
            "baseline",
            {APPARMOR: "unconfined"},
            f'forbidden AppArmor profile (annotation must not set AppArmor profile type to "{APPARMOR}="unconfined"")',
        ),
        ("baseline:v1.18", {SECCOMP: "unconfined"}, f'seccompProfile (forbidden annotation {SECCOMP}="unconfined")'),
        ("baseline:v1.18", {SECCOMP: "docker/default"}, ""),
        ("baseline:v1.19", {SECCOMP: "unconfined"}, ""),
    ],
)
def test_annotations(level: str, annotations: dict[str, str], expected: str) -> None:
    assert found(level, spec(), annotations) == expected


def test_baseline_findings_come_first_and_each_group_by_its_ids() -> None:
    pod = spec(hostNetwork=True, **context(privileged=True, runAsUser=0, capabilities={"add": ["NET_RAW"]}))
    reasons = standard.reasons(standard.evaluate(LevelVersion("restricted"), meta_v1.ObjectMeta(), pod))
    assert reasons == (
        "host namespaces, privileged, allowPrivilegeEscalation != false, unrestricted capabilities, "
        "runAsNonRoot != true, runAsUser=0, seccompProfile"
    )


def label(**labels: str) -> dict[str, str]:
    return {policy.PREFIX + key.replace("_", "-"): value for key, value in labels.items()}


@pytest.mark.parametrize(
    ("labels", "shown", "problems"),
    [
        ({}, "privileged:latest privileged:latest privileged:latest", []),
        ({"a": "b"}, "privileged:latest privileged:latest privileged:latest", []),
        (label(enforce="baseline"), "baseline:latest privileged:latest baseline:latest", []),
        (
            label(enforce="restricted", enforce_version="v1.20", warn="privileged"),
            "restricted:v1.20 privileged:latest privileged:latest",
            [],
        ),
        (
            label(enforce="restricted", enforce_version="v1.20", warn_version="v1.30"),
            "restricted:v1.20 privileged:latest restricted:v1.30",
            [],
        ),
        (label(enforce="baseline", enforce_version="v1.20"), "baseline:v1.20 privileged:latest baseline:v1.20", []),
        (
            label(enforce="x", audit="y", warn_version="v2.0"),
            "restricted:latest privileged:latest privileged:latest",
            [
                'metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: "x": must be one of privileged, '
                "baseline, restricted",
                'metadata.labels[pod-security.kubernetes.io/audit]: Invalid value: "y": must be one of privileged, '
                "baseline, restricted",
                'metadata.labels[pod-security.kubernetes.io/warn-version]: Invalid value: "v2.0": must be "latest" or '
                '"v1.x"',
            ],
        ),
        (
            label(audit_version="v1.01"),
            "privileged:latest privileged:latest privileged:latest",
            [
                'metadata.labels[pod-security.kubernetes.io/audit-version]: Invalid value: "v1.01": must be "latest" '
                'or "v1.x"'
            ],
        ),
    ],
)
def test_labels(labels: dict[str, str], shown: str, problems: list[str]) -> None:
    found, findings = policy.of_labels(labels)
    assert " ".join(str(getattr(found, mode)) for mode in policy.MODES) == shown
    assert [str(f) for f in findings] == problems


def test_labels_stand_above_defaults() -> None:
    default = Policy(enforce=LevelVersion("baseline", 25), warn=LevelVersion("restricted"))
    assert policy.of_labels(None, default)[0] == default
    found, _ = policy.of_labels(label(enforce="privileged"), default)
    assert (str(found.enforce), str(found.warn)) == ("privileged:v1.25", "restricted:latest")
