"""What is special about each kind: one file a kind, `<group>/<kind>.py` with a class `<Kind>Strategy`.

`podspec` holds what pods and all kinds with a pod template share, `printing` what table columns share.
"""

from __future__ import annotations

import importlib
from typing import Any

from podling.api.registry import Resource
from podling.apiserver.strategy import PlainStrategy, Strategy


def strategy_for(resource: Resource) -> Strategy[Any]:
    """The strategy of a built-in resource: of its own file, loaded now, or the plain one if it has none."""
    group = resource.group.split(".")[0] or "core"
    if group == "internal":
        group = "flowcontrol"
    name = f"{__name__}.{group}.{resource.kind.lower()}"
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not name.startswith(error.name):
            raise
        return PlainStrategy(resource)
    strategy: type[Strategy[Any]] = getattr(module, f"{resource.kind}Strategy")
    return strategy(resource)
