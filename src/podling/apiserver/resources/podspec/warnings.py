"""What is allowed in a pod spec but surely not meant (upstream: pkg/api/pod/warnings.go)."""

from __future__ import annotations

from collections.abc import Sequence

from podling.api import core_v1, quantity
from podling.apiserver.resources.podspec import security
from podling.machinery.validation import Path

_DEPRECATED_LABELS = {
    "beta.kubernetes.io/arch": 'deprecated since v1.14; use "kubernetes.io/arch" instead',
    "beta.kubernetes.io/os": 'deprecated since v1.14; use "kubernetes.io/os" instead',
    "failure-domain.beta.kubernetes.io/region": 'deprecated since v1.17; use "topology.kubernetes.io/region" instead',
    "failure-domain.beta.kubernetes.io/zone": 'deprecated since v1.17; use "topology.kubernetes.io/zone" instead',
    "beta.kubernetes.io/instance-type": 'deprecated since v1.17; use "node.kubernetes.io/instance-type" instead',
}
_DEPRECATED_VOLUMES = (
    ("photon_persistent_disk", "photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("git_repo", "gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    ("scale_io", "scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "storageOS", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "rbd", "deprecated in v1.28, non-functional in v1.31+"),
)

_TEMPLATE = Path("spec").child("template")


def pod_spec(spec: core_v1.PodSpec, path: Path) -> list[str]:
    """Warnings for a spec at `path`."""
    found: list[str] = []
    for key in spec.node_selector or ():
        if key in _DEPRECATED_LABELS:
            found.append(f"{path.child('nodeSelector').key(key)}: {_DEPRECATED_LABELS[key]}")
    for index, volume in enumerate(spec.volumes or ()):
        for attribute, name, text in _DEPRECATED_VOLUMES:
            if getattr(volume, attribute) is not None:
                found.append(f"{path.child('volumes').index(index).child(name)}: {text}")
    found += _duplicates("hostAliases", "ip", [a.ip for a in spec.host_aliases or ()], path)
    secrets = [s.name or "" for s in spec.image_pull_secrets or ()]
    for index, name in enumerate(secrets):
        if not name:
            found.append(f'{path.child("imagePullSecrets").index(index)}: invalid empty name ""')
    found += _duplicates("imagePullSecrets", "name", [s for s in secrets if s], path)
    grace = spec.termination_grace_period_seconds
    if grace is not None and grace < 0:
        at = path.child("terminationGracePeriodSeconds")
        found.append(f"{at}: must be >= 0; negative values are invalid and will be treated as 1")
    for container, at in security.containers_of(spec, path):
        found += _container(container, at)
    return found + _ports(spec, path)


def template(
    new: core_v1.PodTemplateSpec | None, old: core_v1.PodTemplateSpec | None, path: Path = _TEMPLATE
) -> list[str]:
    """Warnings for a template at `path` that is new, or not what it was."""
    if new is None or new.spec is None or new == old:
        return []
    return pod_spec(new.spec, path.child("spec"))


def _duplicates(name: str, key: str, values: Sequence[str], path: Path) -> list[str]:
    found: list[str] = []
    seen: set[str] = set()
    for index, value in enumerate(values):
        if value in seen:
            what = f'duplicate {key} "{value}"' if key == "ip" else f'duplicate name "{value}"'
            found.append(f"{path.child(name).index(index).child(key)}: {what}")
        seen.add(value)
    return found


def _container(container: core_v1.Container | core_v1.EphemeralContainer, path: Path) -> list[str]:
    found: list[str] = []
    resources = container.resources or core_v1.ResourceRequirements()
    for kind, amounts in (("limits", resources.limits), ("requests", resources.requests)):
        for name, value in (amounts or {}).items():
            if name in ("memory", "ephemeral-storage") and quantity.parse(value).nano % 10**9:
                at = path.child("resources", kind).key(name)
                found.append(f'{at}: fractional byte value "{value}" is invalid, must be an integer')
    variables = container.env or []
    seen: dict[str, int] = {}
    for index, variable in enumerate(variables):
        if variable.name in seen and f"$({variable.name})" not in (variable.value or ""):
            at = path.child("env").index(index)
            what = f'hides previous definition of "{variable.name}", which may be dropped when using apply'
            found.append(f"{at}: {what}")
        seen[variable.name] = index
    return found


def _ports(spec: core_v1.PodSpec, path: Path) -> list[str]:
    found: list[str] = []
    seen: dict[tuple[int, int, str, str], Path] = {}
    for container, at in security.containers_of(spec, path):
        for index, port in enumerate(container.ports or ()):
            key = (port.container_port, port.host_port or 0, port.protocol or "", port.host_ip or "")
            here = at.child("ports").index(index)
            if key in seen:
                found.append(f"{here}: duplicate port definition with {seen[key]}")
            else:
                seen[key] = here
    return found
