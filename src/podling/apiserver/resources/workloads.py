"""What all kinds with a pod template and a selector share: ReplicaSets, Deployments, StatefulSets, DaemonSets, Jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from podling.api import core_v1, intstr, meta_v1, names, selectors
from podling.api.scalars import IntOrString
from podling.apiserver.resources.podspec import spec as podspec
from podling.machinery.validation import (
    Findings,
    Path,
    each,
    forbidden,
    invalid,
    label_selector,
    nonnegative,
    not_supported,
    required,
)

SPEC = Path("spec")
STATUS = Path("status")
_MISMATCH = "`selector` does not match template `labels`"


def selected_template(
    selector: meta_v1.LabelSelector | None,
    template: core_v1.PodTemplateSpec | None,
    *,
    no_deadline: str = "",
    path: Path = SPEC,
) -> Findings:
    """spec.selector and spec.template, and that the one selects the other.

    `no_deadline` is how activeDeadlineSeconds is refused (upstream's kinds differ); "" allows it.
    """
    found: Findings = []
    at = path.child("selector")
    if selector == meta_v1.LabelSelector():
        selector = None  # A field that is required can't be told from one that was left out.
    if selector is None:
        found.append(required(at))
    else:
        found += label_selector(selector, at)
    try:
        parsed = selectors.from_label_selector(selector)
    except selectors.SelectorError:
        return [*found, invalid(at, selector, "invalid label selector")]
    if template is None:
        return [*found, required(path.child("template"))]
    return found + pod_template(template, parsed, no_deadline=no_deadline, path=path.child("template"))


def pod_template(
    template: core_v1.PodTemplateSpec, selector: selectors.LabelSelector, *, no_deadline: str, path: Path
) -> Findings:
    """A template whose pods run for ever."""
    found: Findings = []
    labels = (template.metadata.labels if template.metadata else None) or {}
    if not selector.empty and not selector.matches(labels):
        found.append(invalid(path.child("metadata", "labels"), labels, _MISMATCH))
    found += podspec.template(template, path)
    inner = template.spec or core_v1.PodSpec()
    if inner.restart_policy and inner.restart_policy != "Always":
        at = path.child("spec", "restartPolicy")
        found.append(not_supported(at, inner.restart_policy, ("Always",)))
    if inner.active_deadline_seconds is not None and no_deadline:
        found.append(forbidden(path.child("spec", "activeDeadlineSeconds"), no_deadline))
    return found


def int_or_percent(value: IntOrString | None, path: Path) -> Findings:
    """A number that is not negative, or a percentage."""
    if value is None:
        return []
    if isinstance(value, int):
        return nonnegative(value, path)
    return each(path, value, names.percent(value))


def at_most_all(value: IntOrString | None, path: Path) -> Findings:
    share = intstr.percent(value) if value is not None else None
    return [invalid(path, value, "must not be greater than 100%")] if share is not None and share > 100 else []


def amount(value: IntOrString | None) -> int:
    """The number, or the number before the percent sign; 0 if there is none."""
    if value is None:
        return 0
    share = intstr.percent(value)
    return share if share is not None else intstr.integer(value)


def counts(values: Mapping[str, int | None], path: Path = STATUS) -> Findings:
    """None of them negative."""
    found: Findings = []
    for name, value in values.items():
        found += nonnegative(value, path.child(name))
    return found


def at_most(values: Mapping[str, int | None], limit: int | None, what: str, path: Path = STATUS) -> Findings:
    """None of them above `limit`, which is called `what`."""
    return [
        invalid(path.child(name), value, f"cannot be greater than {what}")
        for name, value in values.items()
        if (value or 0) > (limit or 0)
    ]


def not_decremented(new: int | None, old: int | None) -> Findings:
    """status.collisionCount only grows."""
    if old is not None and (new is None or new < old):
        return [invalid(STATUS.child("collisionCount"), new or 0, "cannot be decremented")]
    return []


def labels_of(template: core_v1.PodTemplateSpec | None) -> dict[str, str]:
    return (template.metadata.labels if template is not None and template.metadata else None) or {}


def images(template: core_v1.PodTemplateSpec | None) -> Sequence[str]:
    return [c.image or "" for c in (template.spec.containers if template is not None and template.spec else [])]
