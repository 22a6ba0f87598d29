"""Policy rules: when one covers another, and how they are written in messages. Pure functions.

The algebra of RBAC's escalation check: rules are broken down to their smallest parts, and each part must be covered by
a rule that is held.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import product

from podling.api import rbac_v1
from podling.api.struct import clone
from podling.apiserver.authz.attributes import quoted

PolicyRule = rbac_v1.PolicyRule


def uncovered(held: Sequence[PolicyRule], wanted: Iterable[PolicyRule]) -> list[PolicyRule]:
    """The smallest parts of `wanted` that no rule of `held` covers."""
    return [part for rule in wanted for part in parts(rule) if not any(covers(h, part) for h in held)]


def parts(rule: PolicyRule) -> Iterator[PolicyRule]:
    """`rule` as rules of one verb on one resource of one group (and one name), or on one URL."""
    for group, resource, verb in product(rule.api_groups or (), rule.resources or (), rule.verbs):
        if rule.resource_names:
            for name in rule.resource_names:
                yield PolicyRule(verbs=[verb], api_groups=[group], resources=[resource], resource_names=[name])
        else:
            yield PolicyRule(verbs=[verb], api_groups=[group], resources=[resource])
    for url, verb in product(rule.non_resource_urls or (), rule.verbs):
        yield PolicyRule(verbs=[verb], non_resource_urls=[url])


def covers(held: PolicyRule, part: PolicyRule) -> bool:
    """Whether `held` allows all that `part` (of `parts`) allows."""
    if not _has_all(held.verbs, part.verbs):
        return False
    if part.non_resource_urls:
        return all(any(url_matches(h, url) for h in held.non_resource_urls or ()) for url in part.non_resource_urls)
    if not _has_all(held.api_groups or (), part.api_groups or ()):
        return False
    if not _resources_cover(held.resources or (), part.resources or ()):
        return False
    if not held.resource_names:
        return True
    return bool(part.resource_names) and set(part.resource_names or ()) <= set(held.resource_names)


def _has_all(held: Sequence[str], wanted: Sequence[str]) -> bool:
    return "*" in held or set(wanted) <= set(held)


def _resources_cover(held: Sequence[str], wanted: Sequence[str]) -> bool:
    if "*" in held:
        return True
    return all(r in held or ("/" in r and f"*/{r.split('/', 1)[1]}" in held) for r in wanted)


def url_matches(pattern: str, url: str) -> bool:
    """`*` matches all, `/healthz/*` all that begins so, anything else itself."""
    return pattern in ("*", url) or (pattern.endswith("*") and url.startswith(pattern.rstrip("*")))


def compact(rules: Iterable[PolicyRule]) -> list[PolicyRule]:
    """Rules that differ by verb alone become one."""
    result: dict[object, PolicyRule] = {}
    for index, rule in enumerate(rules):
        simple = (
            not rule.non_resource_urls
            and len(rule.api_groups or ()) == 1
            and len(rule.resources or ()) == 1
            and len(rule.resource_names or ()) <= 1
        )
        key: object = (
            (*(rule.api_groups or ()), *(rule.resources or ()), *(rule.resource_names or ())) if simple else index
        )
        if key in result:
            result[key].verbs.extend(rule.verbs)
        else:
            result[key] = clone(rule)
    return list(result.values())


def describe(rule: PolicyRule) -> str:
    """`{APIGroups:["apps"], Resources:["deployments"], Verbs:["get" "list"]}`, as upstream's messages show a rule."""
    fields = (
        ("APIGroups", rule.api_groups),
        ("Resources", rule.resources),
        ("NonResourceURLs", rule.non_resource_urls),
        ("ResourceNames", rule.resource_names),
        ("Verbs", rule.verbs),
    )
    return "{" + ", ".join(f"{name}:{quoted_list(values)}" for name, values in fields if values) + "}"


def quoted_list(values: Iterable[str]) -> str:
    """`["a" "b"]`, as Go's %q prints a list."""
    return f"[{' '.join(quoted(v) for v in values)}]"
