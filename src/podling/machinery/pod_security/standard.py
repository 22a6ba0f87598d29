"""The levels of the Pod Security Standards: which checks a level has in a version, and what they find in a pod."""

from __future__ import annotations

from functools import cache

from podling.api import core_v1, meta_v1
from podling.machinery.pod_security.check import BASELINE, RESTRICTED, Check, Forbidden, Test
from podling.machinery.pod_security.checks import (
    allow_privilege_escalation,
    app_armor_profile,
    capabilities_baseline,
    capabilities_restricted,
    host_namespaces,
    host_path_volumes,
    host_ports,
    host_probes_and_lifecycle,
    privileged,
    proc_mount_baseline,
    proc_mount_restricted,
    restricted_volumes,
    run_as_non_root,
    run_as_user,
    se_linux_options,
    seccomp_profile_baseline,
    seccomp_profile_restricted,
    sysctls,
    windows_host_process,
)
from podling.machinery.pod_security.policy import PRIVILEGED, LevelVersion

CHECKS: tuple[Check, ...] = (
    allow_privilege_escalation.CHECK,
    app_armor_profile.CHECK,
    capabilities_baseline.CHECK,
    capabilities_restricted.CHECK,
    host_namespaces.CHECK,
    host_path_volumes.CHECK,
    host_ports.CHECK,
    host_probes_and_lifecycle.CHECK,
    privileged.CHECK,
    proc_mount_baseline.CHECK,
    proc_mount_restricted.CHECK,
    restricted_volumes.CHECK,
    run_as_non_root.CHECK,
    run_as_user.CHECK,
    se_linux_options.CHECK,
    seccomp_profile_baseline.CHECK,
    seccomp_profile_restricted.CHECK,
    sysctls.CHECK,
    windows_host_process.CHECK,
)

#: Later versions are as this one: no check changed since.
NEWEST = max(revision.minor for check in CHECKS for revision in check.revisions)


@cache
def tests(level: str, minor: int) -> tuple[Test, ...]:
    """What is tested, in order: baseline checks first, each group by its ids."""
    if level == PRIVILEGED:
        return ()
    revisions = {check.id: revision for check in CHECKS if (revision := check.at(minor)) is not None}
    chosen = sorted(c.id for c in CHECKS if c.level == BASELINE and c.id in revisions)
    if level == RESTRICTED:
        restricted = sorted(c.id for c in CHECKS if c.level == RESTRICTED and c.id in revisions)
        overridden = {name for id in restricted for name in revisions[id].overrides}
        chosen = [id for id in chosen if id not in overridden] + restricted
    return tuple(revisions[id].test for id in chosen)


def evaluate(wanted: LevelVersion, meta: meta_v1.ObjectMeta, spec: core_v1.PodSpec) -> list[Forbidden]:
    """What of a pod, or of a template's, is not allowed."""
    minor = NEWEST if wanted.minor is None else min(wanted.minor, NEWEST)
    return [found for test in tests(wanted.level, minor) if (found := test(meta, spec)) is not None]


def reasons(found: list[Forbidden]) -> str:
    """`host namespaces, privileged`."""
    return ", ".join(f.reason for f in found)


def details(found: list[Forbidden]) -> str:
    """`host namespaces (hostNetwork=true), privileged (container "c" ...)`."""
    return ", ".join(f"{f.reason} ({f.detail})" if f.detail else f.reason for f in found)
