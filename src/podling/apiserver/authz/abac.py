"""Attribute-based access control: one policy a line of a file (`--authorization-policy-file`).

Source: Kubernetes' "Using ABAC Authorization".
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from podling.api.request import User
from podling.apiserver.authz.attributes import Attributes, Decision

_READING = frozenset(("get", "list", "watch"))
_ALLOWED = Decision(True)
_NO_POLICY = Decision(False, "No policy matched.")


class _Spec(msgspec.Struct, frozen=True, rename="camel"):
    user: str = ""
    group: str = ""
    readonly: bool = False
    api_group: str = msgspec.field(default="", name="apiGroup")
    resource: str = ""
    namespace: str = ""
    non_resource_path: str = ""


class Policy(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One line."""

    api_version: Literal["abac.authorization.kubernetes.io/v1beta1"]
    kind: Literal["Policy"]
    spec: _Spec


def load(path: str) -> list[Policy]:
    """The policies of a file. Raises OSError, and ValueError that names the line."""
    found = []
    for number, line in enumerate(Path(path).read_text().splitlines(), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        try:
            found.append(msgspec.json.decode(text, type=Policy))
        except msgspec.DecodeError as error:
            raise ValueError(f"error reading policy file {path}, line {number}: {text}: {error}") from None
    return found


class Abac:
    """Decides by policies."""

    def __init__(self, policies: list[Policy]) -> None:
        self._policies = [p.spec for p in policies]

    def authorize(self, attributes: Attributes) -> Decision:
        reading = attributes.verb in _READING
        for spec in self._policies:
            if (reading or not spec.readonly) and _for_user(spec, attributes.user) and _for_thing(spec, attributes):
                return _ALLOWED
        return _NO_POLICY


def _for_user(spec: _Spec, user: User) -> bool:
    if not spec.user and not spec.group:
        return False
    if spec.user not in ("", "*", user.name):
        return False
    return spec.group in ("", "*") or spec.group in user.groups


def _for_thing(spec: _Spec, asked: Attributes) -> bool:
    if not asked.resource:
        path = spec.non_resource_path
        return path in ("*", asked.path) or (path.endswith("*") and asked.path.startswith(path.rstrip("*")))
    return (
        spec.namespace in ("*", asked.namespace)
        and spec.resource in ("*", asked.resource)
        and spec.api_group in ("*", asked.group)
    )
