"""What admission is asked about: one write, or one connection, before it happens."""

from __future__ import annotations

from typing import Any

import msgspec

from podling.api.registry import Resource
from podling.api.request import User

CREATE, UPDATE, DELETE, CONNECT = "CREATE", "UPDATE", "DELETE", "CONNECT"


class Attributes(msgspec.Struct):
    """What a plugin may know of a write: upstream's admission.Attributes.

    `obj` is what is to be written (None for a DELETE), which mutating plugins change in place; `old` what is there
    (None for a CREATE), read-only. `name` is "" as long as it has not been generated.
    """

    operation: str
    resource: Resource
    subresource: str
    namespace: str
    name: str
    obj: Any
    old: Any
    user: User
    dry_run: bool = False
    #: Warnings for the client.
    warnings: list[str] = []
    #: The DeleteOptions, PodExecOptions, ... of the request, if the handler has them.
    options: Any = None
    #: Wire name of the object's kind if it is not the resource's (Scale, Binding, Eviction).
    kind: str = ""
    #: For the audit log.
    annotations: dict[str, str] = {}
    #: What the plugins changed makes others ask to be called once more; they are, when `again` is set.
    reinvoke: bool = False
    again: bool = False
    #: What plugins note for themselves from the first round to the second.
    notes: dict[str, Any] = {}

    @property
    def qualified(self) -> str:
        """`pods` or `deployments.apps`."""
        return self.resource.qualified
