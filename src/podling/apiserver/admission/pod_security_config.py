"""PodSecurityConfiguration (pod-security.admission.config.k8s.io/v1): what namespaces without labels get, and who is
exempt.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from podling.api import names
from podling.machinery.pod_security import policy
from podling.machinery.pod_security.policy import LevelVersion, Policy
from podling.machinery.validation import Findings, Path, duplicate, invalid


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """Upstream's PodSecurityConfiguration: what namespaces without labels get, and who is exempt from all of it."""

    defaults: Policy = Policy()
    usernames: frozenset[str] = frozenset()
    runtime_classes: frozenset[str] = frozenset()
    namespaces: frozenset[str] = frozenset()


class _Exemptions(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    usernames: list[str] = []
    namespaces: list[str] = []
    runtime_classes: list[str] = []


class _Document(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    api_version: Literal[
        "pod-security.admission.config.k8s.io/v1",
        "pod-security.admission.config.k8s.io/v1beta1",
        "pod-security.admission.config.k8s.io/v1alpha1",
    ]
    kind: Literal["PodSecurityConfiguration"]
    defaults: dict[str, str] = {}
    exemptions: _Exemptions = msgspec.field(default_factory=_Exemptions)


def parse(document: dict[str, Any]) -> Configuration:
    """ValueError (msgspec.ValidationError is one) with all that is wrong."""
    found = msgspec.convert(document, _Document)
    findings: Findings = []
    defaults = _defaults(found.defaults, findings)
    root, exempt = Path("exemptions"), found.exemptions
    _check(exempt.namespaces, root.child("namespaces"), names.dns_label, findings)
    _check(exempt.usernames, root.child("usernames"), _username, findings)
    _check(exempt.runtime_classes, root.child("runtimeClasses"), names.dns_subdomain, findings)
    if findings:
        texts = [str(f) for f in findings]
        raise ValueError(texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]")
    return Configuration(
        defaults=defaults,
        usernames=frozenset(exempt.usernames),
        runtime_classes=frozenset(exempt.runtime_classes),
        namespaces=frozenset(exempt.namespaces),
    )


def _defaults(given: dict[str, str], findings: Findings) -> Policy:
    root = Path("defaults")
    known = {name for mode in policy.MODES for name in (mode, f"{mode}-version")}
    if unknown := sorted(set(given) - known):
        raise ValueError(f"defaults: unknown field {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    modes: dict[str, LevelVersion] = {}
    for mode in policy.MODES:
        level = given.get(mode) or policy.PRIVILEGED
        version = given.get(f"{mode}-version") or "latest"
        if level not in policy.LEVELS:
            findings.append(invalid(root.child(mode), level, f"must be one of {', '.join(policy.LEVELS)}"))
        minor, problem = policy.minor(version)
        if problem:
            findings.append(invalid(root.child(f"{mode}-version"), version, problem))
        modes[mode] = LevelVersion(level, minor)
    return Policy(**modes)


def _check(values: list[str], path: Path, rule: Any, findings: Findings) -> None:
    for index, value in enumerate(values):
        findings += [invalid(path.index(index), value, why) for why in rule(value)]
        if value in values[:index]:
            findings.append(duplicate(path.index(index), value))


def _username(value: str) -> list[str]:
    return [] if value else ["username must not be empty"]
