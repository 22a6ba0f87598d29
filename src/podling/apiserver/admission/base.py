"""The plugin interface of admission, and the chain that asks the plugins in order.

All that change come first, in their order; then the object is defaulted and prepared; then all that only judge.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from podling import clock
from podling.api.errors import StatusError
from podling.apiserver.admission.attributes import CONNECT, CREATE, DELETE, UPDATE, Attributes
from podling.apiserver.admission.metrics import ADMIT, VALIDATE, Phase
from podling.apiserver.audit.trail import current as audit_trail
from podling.apiserver.core import Core

__all__ = ["CONNECT", "CREATE", "DELETE", "UPDATE", "Attributes", "Chain", "Plugin"]


class Plugin:
    """One admission plugin. `resources` names the qualified resources that it wants to see, None for all.

    A refusal is a raised StatusError. Both methods may wait, but should not: lookups come from the watch cache.
    """

    name = ""
    operations: frozenset[str] = frozenset((CREATE, UPDATE))
    resources: frozenset[str] | None = None
    #: Subresources that it wants to see besides the object itself; None for all.
    subresources: frozenset[str] | None = frozenset(("",))
    mutates = False
    validates = False
    #: False as long as there is nothing that it could do: then it costs nothing.
    active = True

    def __init__(self, app: Core) -> None:
        self.app = app

    @classmethod
    def parse(cls, document: dict[str, Any]) -> Any:
        """The plugin's own configuration, a second argument of its class. ValueError if it can't be used."""
        raise ValueError("the plugin takes no configuration")

    def handles(self, attributes: Attributes) -> bool:
        return (
            attributes.operation in self.operations
            and (self.resources is None or attributes.resource.qualified in self.resources)
            and (self.subresources is None or attributes.subresource in self.subresources)
        )

    async def mutate(self, attributes: Attributes) -> None:
        """Change `attributes.obj` in place."""

    async def validate(self, attributes: Attributes) -> None:
        """Raise StatusError to refuse."""

    async def close(self) -> None:
        """Let go of what it holds."""


class Chain:
    """The plugins that a server asks."""

    def __init__(self, plugins: Sequence[Plugin] = ()) -> None:
        self.plugins = list(plugins)
        self._chosen: dict[tuple[str, str, str], tuple[Phase[Plugin], Phase[Plugin]]] = {}

    def add(self, plugin: Plugin) -> None:
        self.plugins.append(plugin)
        self._chosen.clear()

    async def mutate(self, attributes: Attributes) -> bool:
        """Ask all that change; whether there were any. They are asked once more if one of them wants it."""
        phase = self._for(attributes)[0]
        began = at = clock.real_seconds()
        name, asked = "", False
        try:
            for _ in range(2):
                for plugin, series in phase.plugins:
                    if plugin.active:
                        name = plugin.name
                        await plugin.mutate(attributes)
                        asked = True
                        before, at = at, clock.real_seconds()
                        series.observe(at - before)
                if not attributes.reinvoke:
                    break
                attributes.again = True
        except StatusError:
            now = clock.real_seconds()
            phase.rejected(name, now - at, now - began)
            raise
        finally:
            if attributes.annotations:
                _record(attributes)
        phase.passed.observe(at - began)
        return asked

    async def validate(self, attributes: Attributes) -> None:
        phase = self._for(attributes)[1]
        began = at = clock.real_seconds()
        name = ""
        try:
            for plugin, series in phase.plugins:
                if plugin.active:
                    name = plugin.name
                    await plugin.validate(attributes)
                    before, at = at, clock.real_seconds()
                    series.observe(at - before)
        except StatusError:
            now = clock.real_seconds()
            phase.rejected(name, now - at, now - began)
            raise
        finally:
            if attributes.annotations:
                _record(attributes)
        phase.passed.observe(at - began)

    async def close(self) -> None:
        for plugin in self.plugins:
            await plugin.close()

    def _for(self, attributes: Attributes) -> tuple[Phase[Plugin], Phase[Plugin]]:
        operation = attributes.operation
        key = (operation, attributes.resource.qualified, attributes.subresource)
        chosen = self._chosen.get(key)
        if chosen is None:
            handling = [p for p in self.plugins if p.handles(attributes)]
            chosen = self._chosen[key] = (
                Phase(ADMIT, operation, [p for p in handling if p.mutates]),
                Phase(VALIDATE, operation, [p for p in handling if p.validates]),
            )
        return chosen


def _record(attributes: Attributes) -> None:
    """What the plugins noted for the audit log goes there, also when they refuse."""
    trail = audit_trail()
    if trail is not None:
        trail.annotate(attributes.annotations)
