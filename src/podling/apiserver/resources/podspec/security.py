"""Security contexts of pods and containers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from podling.api import core_v1, names
from podling.apiserver.resources.podspec.env import descending_path
from podling.machinery.validation import (
    Findings,
    Path,
    duplicate,
    each,
    forbidden,
    invalid,
    not_supported,
    one_of,
    required,
    too_long,
)

AnyContainer = core_v1.Container | core_v1.EphemeralContainer

_PROFILES = ("Localhost", "RuntimeDefault", "Unconfined")
_SYSCTL = "([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_sysctl = re.compile(_SYSCTL)
_IPC_SYSCTLS = ("kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue.")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NETBIOS = re.compile(r'[^\\/:*?"<>|.][^\\/:*?"<>|]{0,14}')
_WINDOWS_DNS = re.compile(
    r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*"
)


def containers_of(spec: core_v1.PodSpec, path: Path) -> Iterator[tuple[AnyContainer, Path]]:
    """Init, regular and ephemeral containers with their paths, in upstream's order."""
    groups: tuple[tuple[str, Sequence[AnyContainer] | None], ...] = (
        ("initContainers", spec.init_containers),
        ("containers", spec.containers),
        ("ephemeralContainers", spec.ephemeral_containers),
    )
    for name, containers in groups:
        for index, container in enumerate(containers or ()):
            yield container, path.child(name).index(index)


def pod(spec: core_v1.PodSpec, path: Path) -> Findings:
    """spec.securityContext, and what of the spec depends on it. `path` is the spec's."""
    context = spec.security_context
    found: Findings = []
    if context is not None:
        found += _pod_context(context, spec, path.child("securityContext"))
    if spec.share_process_namespace and spec.host_pid:
        at = path.child("securityContext", "shareProcessNamespace")
        found.append(invalid(at, True, "ShareProcessNamespace and HostPID cannot both be enabled"))
    return found


def _pod_context(context: core_v1.PodSecurityContext, spec: core_v1.PodSpec, path: Path) -> Findings:
    found: Findings = []
    for name, value in (
        ("fsGroup", context.fs_group),
        ("runAsUser", context.run_as_user),
        ("runAsGroup", context.run_as_group),
    ):
        if value is not None:
            found += each(path.child(name), value, names.user_id(value))
    for index, group in enumerate(context.supplemental_groups or ()):
        found += each(path.child("supplementalGroups").index(index), group, names.group_id(group))
    if context.sysctls:
        found += _sysctls(context.sysctls, spec, path.child("sysctls"))
    for name, choice, supported in (
        ("fsGroupChangePolicy", context.fs_group_change_policy, ("Always", "OnRootMismatch")),
        ("supplementalGroupsPolicy", context.supplemental_groups_policy, ("Merge", "Strict")),
        ("seLinuxChangePolicy", context.se_linux_change_policy, ("MountOption", "Recursive")),
    ):
        found += one_of(path.child(name), choice, supported)
    return found + _profiles(context, path)


def _profiles(context: core_v1.PodSecurityContext | core_v1.SecurityContext, path: Path) -> Findings:
    found: Findings = []
    if context.seccomp_profile is not None:
        found += _seccomp(context.seccomp_profile, path.child("seccompProfile"))
    if context.windows_options is not None:
        found += _windows_options(context.windows_options, path.child("windowsOptions"))
    if context.app_armor_profile is not None:
        found += _app_armor(context.app_armor_profile, path.child("appArmorProfile"))
    return found


def container(context: core_v1.SecurityContext | None, path: Path, *, host_users: bool) -> Findings:
    """A container's securityContext."""
    if context is None:
        return []
    found: Findings = []
    for name, value in (("runAsUser", context.run_as_user), ("runAsGroup", context.run_as_group)):
        if value is not None:
            found += each(path.child(name), value, names.user_id(value))
    if context.proc_mount is not None:
        at = path.child("procMount")
        if context.proc_mount not in ("Default", "Unmasked"):
            found.append(not_supported(at, context.proc_mount, ("Default", "Unmasked")))
        if host_users and context.proc_mount == "Unmasked":
            found.append(invalid(at, context.proc_mount, "`hostUsers` must be false to use `Unmasked`"))
    if context.allow_privilege_escalation is False:
        if context.privileged:
            detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
            found.append(invalid(path, context, detail))
        if context.capabilities is not None and "CAP_SYS_ADMIN" in (context.capabilities.add or ()):
            detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"
            found.append(invalid(path, context, detail))
    return found + _profiles(context, path)


def _seccomp(profile: core_v1.SeccompProfile, path: Path) -> Findings:
    found: Findings = []
    if not profile.type:
        found.append(required(path.child("type"), "type is required when seccompProfile is set"))
    elif profile.type not in _PROFILES:
        found.append(not_supported(path.child("type"), profile.type, _PROFILES))
    at = path.child("localhostProfile")
    if profile.type == "Localhost":
        if profile.localhost_profile is None:
            found.append(required(at, "must be set when seccomp type is Localhost"))
        else:
            found += descending_path(profile.localhost_profile, at)
    elif profile.localhost_profile is not None:
        found.append(invalid(at, profile, "can only be set when seccomp type is Localhost"))
    return found


def _app_armor(profile: core_v1.AppArmorProfile, path: Path) -> Findings:
    at = path.child("localhostProfile")
    value = profile.localhost_profile
    if profile.type == "Localhost":
        needed = required(at, "must be set when AppArmor type is Localhost")
        if not value:
            return [needed]
        found: Findings = []
        if value.strip() != value:
            found.append(invalid(at, value, "must not be padded with whitespace"))
        if len(value.encode()) > 4095:
            found.append(too_long(at, 4095))
        return found
    if profile.type in _PROFILES:
        if value is not None:
            return [invalid(at, value, "can only be set when AppArmor type is Localhost")]
        return []
    if not profile.type:
        return [required(path.child("type"), "type is required when appArmorProfile is set")]
    return [not_supported(path.child("type"), profile.type, _PROFILES)]


def _sysctls(sysctls: list[core_v1.Sysctl], spec: core_v1.PodSpec, path: Path) -> Findings:
    found: Findings = []
    seen: set[str] = set()
    for index, sysctl in enumerate(sysctls):
        at = path.index(index).child("name")
        if not sysctl.name:
            found.append(required(at))
        elif len(sysctl.name) > 253 or not _sysctl.fullmatch(sysctl.name):
            detail = f"must have at most 253 characters and match regex ^{_SYSCTL}$"
            found.append(invalid(at, sysctl.name, detail))
        elif sysctl.name in seen:
            found.append(duplicate(at, sysctl.name))
        seen.add(sysctl.name)
        name = sysctl.name.replace("/", ".")
        if spec.host_network and name.startswith("net."):
            found.append(invalid(at, sysctl.name, "may not be specified when 'hostNetwork' is true"))
        elif spec.host_ipc and name.startswith(_IPC_SYSCTLS):
            found.append(invalid(at, sysctl.name, "may not be specified when 'hostIPC' is true"))
    return found


def _windows_options(options: core_v1.WindowsSecurityContextOptions, path: Path) -> Findings:
    found: Findings = []
    if (name := options.gmsa_credential_spec_name) is not None:
        found += each(path.child("gmsaCredentialSpecName"), name, names.dns_subdomain(name))
    if (spec := options.gmsa_credential_spec) is not None:
        at = path.child("gmsaCredentialSpec")
        if not spec:
            found.append(invalid(at, spec, "gmsaCredentialSpec cannot be an empty string"))
        elif len(spec.encode()) > 64 * 1024:
            found.append(invalid(at, spec, "gmsaCredentialSpec size must be under 64 KiB"))
    if (user := options.run_as_user_name) is not None:
        at = path.child("runAsUserName")
        found += [invalid(at, user, f"runAsUserName{problem}") for problem in _windows_user(user)]
    return found


def _windows_user(name: str) -> list[str]:
    if not name:
        return [" cannot be an empty string"]
    if _CONTROL.search(name):
        return [" cannot contain control characters"]
    if name.count("\\") > 1:
        return [" cannot contain more than one backslash"]
    domain, slash, user = name.rpartition("\\")
    problems: list[str] = []
    if len(domain) >= 256:
        problems.append("'s Domain length must be under 256 characters")
    if slash and not _NETBIOS.fullmatch(domain) and not _WINDOWS_DNS.fullmatch(domain):
        problems.append("'s Domain doesn't match the NetBios nor the DNS format")
    if not user:
        problems.append("'s User cannot be empty")
    elif len(user) > 104:
        problems.append("'s User length must not be longer than 104 characters")
    if re.fullmatch("[. ]+", user):
        problems.append("'s User cannot contain only periods or spaces")
    if re.search(r'["/\\:;|=,+*?<>@\[\]]', user):
        problems.append("'s User cannot contain the following characters: \"/\\:;|=,+*?<>@[]")
    return problems


def host_users(spec: core_v1.PodSpec, path: Path) -> Findings:
    """A pod with users of its own can't share the node's other namespaces."""
    if spec.host_users is not False:
        return []
    found: Findings = []
    detail = "when `pod.Spec.HostUsers` is false"
    for name, value in (("hostNetwork", spec.host_network), ("HostPID", spec.host_pid), ("HostIPC", spec.host_ipc)):
        if value:
            found.append(forbidden(path.child(name), detail))
    return found


def host_process(spec: core_v1.PodSpec, path: Path) -> Findings:
    """Windows host process containers: all or none, and with the host's network."""
    pod_value = _host_process(spec.security_context)
    found: Findings = []
    total = count = 0
    for container, at in containers_of(spec, path):
        total += 1
        value = _host_process(container.security_context)
        if pod_value is not None and value is not None and value != pod_value:
            shown = str(pod_value).lower()
            detail = f"pod hostProcess value must be identical if both are specified, was {shown}"
            found.append(invalid(at.child("securityContext", "windowsOptions", "hostProcess"), value, detail))
        count += bool(pod_value if value is None else value)
    if count and count != total:
        detail = "If pod contains any hostProcess containers then all containers must be HostProcess containers"
        found.append(invalid(path, "", detail))
    if count and not spec.host_network:
        detail = "hostNetwork must be true if pod contains any hostProcess containers"
        found.append(invalid(path.child("hostNetwork"), False, detail))
    return found


def _host_process(context: core_v1.PodSecurityContext | core_v1.SecurityContext | None) -> bool | None:
    return context.windows_options.host_process if context is not None and context.windows_options else None


_NOT_ON_WINDOWS_POD = (
    "app_armor_profile", "se_linux_options", "seccomp_profile", "fs_group", "fs_group_change_policy", "sysctls",
    "run_as_user", "run_as_group", "supplemental_groups", "supplemental_groups_policy", "se_linux_change_policy",
)  # fmt: skip
_NOT_ON_WINDOWS_CONTAINER = (
    "app_armor_profile", "se_linux_options", "seccomp_profile", "capabilities", "read_only_root_filesystem",
    "privileged", "allow_privilege_escalation", "proc_mount", "run_as_user", "run_as_group",
)  # fmt: skip


def operating_system(spec: core_v1.PodSpec, path: Path) -> Findings:
    """spec.os, and what the other operating system's security contexts must not have."""
    if spec.os is None:
        return []
    name = spec.os.name
    if not name:
        return [required(path.child("os", "name"), "cannot be empty")]
    if name not in ("linux", "windows"):
        return [not_supported(path.child("os"), name, ("linux", "windows"))]
    found: Findings = []
    if name == "linux":
        detail = "windows options cannot be set for a linux pod"
        unwanted: tuple[tuple[str, ...], tuple[str, ...]] = (("windows_options",), ("windows_options",))
    else:
        detail = "cannot be set for a windows pod"
        unwanted = (_NOT_ON_WINDOWS_POD, _NOT_ON_WINDOWS_CONTAINER)
        for field, value in (
            ("hostUsers", spec.host_users is not None),
            ("hostPID", spec.host_pid),
            ("hostIPC", spec.host_ipc),
            ("shareProcessNamespace", spec.share_process_namespace is not None),
        ):
            if value:
                found.append(forbidden(path.child(field), detail))
    found += _unwanted(spec.security_context, unwanted[0], path, detail)
    for container, at in containers_of(spec, path):
        found += _unwanted(container.security_context, unwanted[1], at, detail)
    return found


def _unwanted(context: Any, fields: tuple[str, ...], path: Path, detail: str) -> Findings:
    if context is None:
        return []
    wire = dict(zip(context.__struct_fields__, context.__struct_encode_fields__, strict=True))
    return [
        forbidden(path.child("securityContext", wire[f]), detail)
        for f in fields
        if getattr(context, f) is not None and getattr(context, f) != []
    ]
