"""How an encryption configuration names resources: `secrets`, `deployments.apps`, `*.`, `*.apps`, `*.*`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from podling.machinery.validation import Findings, Path, invalid

_NOT_SERVED = ("apiserveripinfo", "serviceipallocations", "servicenodeportallocations")
_OVERLAP = (
    "using overlapping resources such as 'secrets' and '*.' in the same resource list is not allowed as they will be "
    "masked"
)


class GroupResource(NamedTuple):
    group: str
    resource: str

    def __str__(self) -> str:
        if not self.group:
            return "*." if self.resource == "*" else self.resource
        return f"{self.resource}.{self.group}"


EVERYTHING = GroupResource("*", "*")


def parse(text: str) -> GroupResource:
    resource, _, group = text.partition(".")
    return GroupResource(group, resource)


def of_key(key: str) -> GroupResource:
    """Whose object is stored at `/registry/<group>/<resource>/...`; of any other key nobody's."""
    parts = key.split("/", 4)
    if len(parts) < 5:
        return GroupResource("", "")
    return GroupResource("" if parts[2] == "core" else parts[2], parts[3])


def validate(resources: Sequence[str], at: Path) -> Findings:
    found = _overlaps(resources, at)
    for index, text in enumerate(resources):
        if why := _problem(text):
            found.append(invalid(at.index(index), text, why))
    return found


def _overlaps(resources: Sequence[str], at: Path) -> Findings:
    parsed = [parse(text) for text in resources]
    found = []
    if len(set(parsed)) < len(parsed):
        found.append(invalid(at, list(resources), "the same resource cannot be specified multiple times"))
    distinct = set(parsed)
    groups = [item.group for item in distinct]
    everything = EVERYTHING in distinct and len(distinct) > 1
    if everything or any(item.resource == "*" and groups.count(item.group) > 1 for item in distinct):
        found.append(invalid(at, list(resources), _OVERLAP))
    return found


def _problem(text: str) -> str:
    item = parse(text)
    if text.lower() != text:
        return "resource name should not contain capital letters"
    if text == "*":
        return "use '*.' to encrypt all the resources from core API group or *.* to encrypt all resources"
    if text in _NOT_SERVED:
        return "resources which do not have REST API/s cannot be encrypted"
    if item.group == "events.k8s.io":
        return (
            "'*.events.k8s.io' objects are stored using the 'events' API group in etcd. Use 'events' instead in the "
            "config file"
        )
    if item.group == "extensions":
        return "'extensions' group has been removed and cannot be used for encryption"
    if item.group == "*" and item.resource != "*":
        return "encrypting the same resource across groups is not supported"
    return ""
