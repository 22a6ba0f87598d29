"""What authentication and streaming handlers read of the cluster, at once, from the watch cache."""

from __future__ import annotations

from typing import Any, Protocol


class Lookup(Protocol):
    """Objects are read-only."""

    def get(self, resource: str, namespace: str, name: str) -> Any | None:
        """A core/v1 object by the plural of its kind (`pods`, `serviceaccounts`); `namespace` is "" for a node."""
