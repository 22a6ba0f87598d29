"""Which Pod Security level a namespace wants, in which version, to enforce, to audit and to warn: from its labels."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from podling.machinery.validation import Findings, Path, invalid

PRIVILEGED, BASELINE, RESTRICTED = LEVELS = ("privileged", "baseline", "restricted")
PREFIX = "pod-security.kubernetes.io/"
ENFORCE, AUDIT, WARN = MODES = ("enforce", "audit", "warn")

_VERSION = re.compile(r"v1\.([0-9]|[1-9][0-9]*)", re.ASCII)
_LABELS = Path("metadata").child("labels")


class LevelVersion(msgspec.Struct, frozen=True):
    """A level as version v1.`minor` defines it; None is the latest."""

    level: str = PRIVILEGED
    minor: int | None = None

    def __str__(self) -> str:
        return f"{self.level}:{'latest' if self.minor is None else f'v1.{self.minor}'}"

    def equivalent(self, other: LevelVersion) -> bool:
        return self == other or (self.level == other.level == PRIVILEGED)


class Policy(msgspec.Struct, frozen=True):
    """What is refused, what is written to the audit log, and what the client is warned of."""

    enforce: LevelVersion = LevelVersion()
    audit: LevelVersion = LevelVersion()
    warn: LevelVersion = LevelVersion()

    @property
    def fully_privileged(self) -> bool:
        return self.enforce.level == self.audit.level == self.warn.level == PRIVILEGED

    def equivalent(self, other: Policy) -> bool:
        return all(getattr(self, mode).equivalent(getattr(other, mode)) for mode in MODES)


def stricter(level: str, other: str) -> bool:
    return LEVELS.index(level) > LEVELS.index(other)


def of_labels(labels: Mapping[str, str] | None, default: Policy = Policy()) -> tuple[Policy, Findings]:  # noqa: B008 - immutable
    """The policy of a namespace, and what is wrong with its labels.

    A level that can't be read enforces the strictest, and audits and warns of nothing; a version that can't be read is
    the latest. A level that is enforced is also warned of, unless the labels say otherwise.
    """
    if not labels:
        return default, []
    found: Findings = []
    modes: dict[str, LevelVersion] = {}
    for mode in MODES:
        name = PREFIX + mode
        level, version = getattr(default, mode).level, getattr(default, mode).minor
        if (text := labels.get(name)) is not None:
            level = text
            if text not in LEVELS:
                found.append(invalid(_LABELS.key(name), text, f"must be one of {', '.join(LEVELS)}"))
                level = RESTRICTED if mode == ENFORCE else PRIVILEGED
        if (text := labels.get(f"{name}-version")) is not None:
            version, problem = minor(text)
            if problem:
                found.append(invalid(_LABELS.key(f"{name}-version"), text, problem))
        modes[mode] = LevelVersion(level, version)
    enforce, warn = modes[ENFORCE], modes[WARN]
    if PREFIX + WARN not in labels and labels.get(PREFIX + ENFORCE) in LEVELS and stricter(enforce.level, warn.level):
        chosen = warn.minor if f"{PREFIX}{WARN}-version" in labels else enforce.minor
        modes[WARN] = LevelVersion(enforce.level, chosen)
    return Policy(**modes), found


def minor(text: str) -> tuple[int | None, str]:
    """The minor version of `v1.29` or `latest` (None), and what is wrong with the text."""
    if text == "latest":
        return None, ""
    match = _VERSION.fullmatch(text)
    if match is None:
        return None, 'must be "latest" or "v1.x"'
    return int(match[1]), ""
