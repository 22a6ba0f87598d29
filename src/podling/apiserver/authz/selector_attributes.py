"""The selectors of an access review: as query parameters, as authorizers know them, and what is wrong with them."""

from __future__ import annotations

from podling.api import authorization_v1, meta_v1
from podling.machinery import validation
from podling.machinery.validation import Findings, Path

AnySelector = authorization_v1.FieldSelectorAttributes | authorization_v1.LabelSelectorAttributes
AnyRequirement = meta_v1.FieldSelectorRequirement | meta_v1.LabelSelectorRequirement


def text(selector: AnySelector | None) -> str:
    """The selector as a query parameter; requirements of unknown operators are left out: they only narrow."""
    if selector is None:
        return ""
    if selector.raw_selector:
        return selector.raw_selector
    fields = isinstance(selector, authorization_v1.FieldSelectorAttributes)
    terms = (_field(r) if fields else _label(r) for r in selector.requirements or ())
    return ",".join(term for term in terms if term)


def _field(requirement: AnyRequirement) -> str:
    values = requirement.values or []
    if len(values) != 1:
        return ""
    value = values[0].replace("\\", "\\\\").replace(",", "\\,").replace("=", "\\=")
    return {"In": f"{requirement.key}={value}", "NotIn": f"{requirement.key}!={value}"}.get(requirement.operator, "")


def _label(requirement: AnyRequirement) -> str:
    key, values = requirement.key, requirement.values or []
    if requirement.operator in ("In", "NotIn") and values:
        if len(values) == 1:
            return f"{key}{'=' if requirement.operator == 'In' else '!='}{values[0]}"
        return f"{key} {requirement.operator.lower()} ({','.join(values)})"
    return {"Exists": key, "DoesNotExist": f"!{key}"}.get(requirement.operator, "")


def findings(attributes: authorization_v1.ResourceAttributes | None, path: Path) -> Findings:
    """What is wrong with the selectors of a question."""
    if attributes is None:
        return []
    found = _findings(attributes.field_selector, path.child("fieldSelector"))
    return found + _findings(attributes.label_selector, path.child("labelSelector"))


def _findings(selector: AnySelector | None, path: Path) -> Findings:
    if selector is None:
        return []
    found: Findings = []
    raw = selector.raw_selector
    requirements: list[AnyRequirement] = [*(selector.requirements or ())]
    if raw and requirements:
        why = "may not specified at the same time as requirements"
        found.append(validation.invalid(path.child("rawSelector"), raw, why))
    if not raw and not requirements:
        why = f"when {path} is specified, requirements or rawSelector is required"
        found.append(validation.required(path.child("requirements"), why))
    for index, requirement in enumerate(requirements):
        found += _requirement(requirement, path.child("requirements").index(index))
    return found


def _requirement(requirement: AnyRequirement, path: Path) -> Findings:
    found: Findings = []
    if not requirement.key:
        found.append(validation.required(path.child("key"), "must be specified"))
    values = requirement.values or []
    if requirement.operator in ("In", "NotIn"):
        if not values:
            why = "must be specified when `operator` is 'In' or 'NotIn'"
            found.append(validation.required(path.child("values"), why))
    elif requirement.operator in ("Exists", "DoesNotExist") and values:
        why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
        found.append(validation.forbidden(path.child("values"), why))
    elif not requirement.operator:
        found.append(validation.required(path.child("operator"), "must be specified"))
    return found
