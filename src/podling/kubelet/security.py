"""securityContext of pod and container as one: what the container's says wins."""

from __future__ import annotations

import os.path
from typing import Any

from podling.api import core_v1
from podling.api.numbers import is_decimal
from podling.images.base import ImageConfig
from podling.kubelet import pods
from podling.kubelet.env import ConfigError
from podling.kubelet.pods import AnyContainer
from podling.runtime.base import SeccompKind, SecurityContext


def _effective(pod: core_v1.Pod, container: AnyContainer, field: str) -> Any:
    own = getattr(container.security_context, field, None)
    return own if own is not None else getattr(pod.spec.security_context, field, None)


def image_user(config: ImageConfig) -> tuple[int | None, str]:
    """The image's user as (uid, "") or (None, name); without any, root."""
    user = config.user.partition(":")[0]
    if not user:
        return 0, ""
    return (int(user), "") if is_decimal(user) else (None, user)


def verify_non_root(pod: core_v1.Pod, container: AnyContainer, config: ImageConfig) -> None:
    """runAsNonRoot: raises ConfigError if the container would run as root, or if that cannot be known."""
    if not _effective(pod, container, "run_as_non_root"):
        return
    where = f'(pod: "{pods.described(pod)}", container: {container.name})'
    wanted = _effective(pod, container, "run_as_user")
    if wanted is not None:
        if wanted == 0:
            raise ConfigError(f"container's runAsUser breaks non-root policy {where}")
        return
    uid, username = image_user(config)
    if uid == 0:
        raise ConfigError(f"container has runAsNonRoot and image will run as root {where}")
    if uid is None:
        raise ConfigError(
            f"container has runAsNonRoot and image has non-numeric user ({username}), "
            f"cannot verify user is non-root {where}"
        )


def security_context(
    pod: core_v1.Pod, container: AnyContainer, config: ImageConfig, *, seccomp_root: str
) -> SecurityContext:
    """What the runtime is to enforce. `seccomp_root` is the folder of Localhost profiles. Raises ConfigError."""
    verify_non_root(pod, container, config)
    own = container.security_context or core_v1.SecurityContext()
    general = pod.spec.security_context or core_v1.PodSecurityContext()
    capabilities = own.capabilities or core_v1.Capabilities()
    groups = list(general.supplemental_groups or ())
    if general.fs_group is not None:
        groups.append(general.fs_group)
    seccomp, localhost = _seccomp(pod, container, seccomp_root)
    unmasked = own.proc_mount == "Unmasked"
    return SecurityContext(
        # Without one, the runtime takes the image's user.
        run_as_user=_effective(pod, container, "run_as_user"),
        run_as_group=_effective(pod, container, "run_as_group"),
        supplemental_groups=tuple(dict.fromkeys(groups)),
        supplemental_groups_strict=general.supplemental_groups_policy == "Strict",
        privileged=bool(own.privileged),
        readonly_rootfs=bool(own.read_only_root_filesystem),
        no_new_privs=own.allow_privilege_escalation is False,
        add_capabilities=tuple(capabilities.add or ()),
        drop_capabilities=tuple(capabilities.drop or ()),
        seccomp=seccomp,
        seccomp_localhost=localhost,
        apparmor_profile=_apparmor(pod, container),
        masked_paths=() if unmasked else None,
        readonly_paths=() if unmasked else None,
    )


def _seccomp(pod: core_v1.Pod, container: AnyContainer, root: str) -> tuple[SeccompKind, str]:
    profile: core_v1.SeccompProfile | None = _effective(pod, container, "seccomp_profile")
    if profile is None:
        return SeccompKind.UNCONFINED, ""
    if profile.type == "Localhost":
        if not profile.localhost_profile:
            raise ConfigError("localhostProfile must be set if seccompProfile type is Localhost.")
        return SeccompKind.LOCALHOST, os.path.join(root, profile.localhost_profile)
    return SeccompKind(profile.type), ""


def _apparmor(pod: core_v1.Pod, container: AnyContainer) -> str:
    profile: core_v1.AppArmorProfile | None = _effective(pod, container, "app_armor_profile")
    match profile.type if profile else None:
        case "RuntimeDefault":
            return "runtime/default"
        case "Unconfined":
            return "unconfined"
        case "Localhost" if profile is not None:
            return f"localhost/{profile.localhost_profile or ''}"
    return ""
