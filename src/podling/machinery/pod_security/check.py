"""A check of the Pod Security Standards: a function for each version from which it changed, and its words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec

from podling.api import core_v1, meta_v1

BASELINE, RESTRICTED = "baseline", "restricted"

AnyContainer = core_v1.Container | core_v1.EphemeralContainer


class Forbidden(msgspec.Struct, frozen=True):
    """What a pod may not be: `reason` in a few words, `detail` with names and values."""

    reason: str
    detail: str


Test = Callable[[meta_v1.ObjectMeta, core_v1.PodSpec], Forbidden | None]


class Revision(msgspec.Struct, frozen=True):
    """How a check is done from v1.`minor` on. `overrides`: baseline checks that it makes superfluous."""

    minor: int
    test: Test
    overrides: tuple[str, ...] = ()


class Check(msgspec.Struct, frozen=True):
    """`id` decides the order of findings; `revisions` have rising minors."""

    id: str
    level: str
    revisions: tuple[Revision, ...]

    def at(self, minor: int) -> Revision | None:
        """The revision that v1.`minor` has, None if that had no such check yet."""
        return next((r for r in reversed(self.revisions) if r.minor <= minor), None)


def containers(spec: core_v1.PodSpec) -> Iterable[AnyContainer]:
    """Init containers, containers and ephemeral ones, in this order."""
    yield from spec.init_containers or ()
    yield from spec.containers
    yield from spec.ephemeral_containers or ()


def in_user_namespace(spec: core_v1.PodSpec) -> bool:
    """Root in such a pod is nobody on the node."""
    return spec.host_users is False


def on_windows(spec: core_v1.PodSpec) -> bool:
    """Such a pod can't have what Linux containers must set."""
    return spec.os is not None and spec.os.name == "windows"


def quoted(items: Iterable[str]) -> str:
    """`"a", "b"`."""
    return ", ".join(f'"{item}"' for item in items)


def plural(one: str, many: str, count: int) -> str:
    return one if count == 1 else many


def named(kind: str, names: Sequence[str]) -> str:
    """`container "a"`, `containers "a", "b"`."""
    return f"{plural(kind, kind + 's', len(names))} {quoted(names)}"


def setters(pod: bool, bad: Sequence[str]) -> str:
    """Who sets what may not be set: `pod`, `containers "a", "b"`, or both with `and`. "" if nobody does."""
    return " and ".join(["pod"] * pod + ([named("container", bad)] if bad else []))
