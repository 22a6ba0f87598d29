"""Custom resources of a server, loaded with its first definition: schemas and their expression language take a tenth of
what the API server loads, and a cluster starts without any."""

from __future__ import annotations

from typing import TYPE_CHECKING

from podling.api.apiextensions_v1 import CustomResourceDefinition
from podling.apiserver.admission.webhooks_client import Caller

if TYPE_CHECKING:
    from podling.apiserver.app import ApiServer
    from podling.apiserver.crd.controller import Controller

_ROW = ("apiextensions.k8s.io", "v1", "customresourcedefinitions")


class CustomResources:
    """Make it before the server starts; `close` before the server closes. `caller` asks conversion webhooks."""

    def __init__(self, app: ApiServer, caller: Caller | None = None) -> None:
        self._app = app
        self._caller = caller or Caller(app)
        self._cache = app.served[_ROW].cache
        self._controller: Controller | None = None
        self._cache.observers.append(self._changed)

    def _changed(self, event: str, crd: CustomResourceDefinition) -> None:
        if self._controller is None:
            from podling.apiserver.crd.controller import Controller

            self._controller = Controller(self._app, self._cache, self._caller)
        self._controller.changed(event, crd)

    async def close(self) -> None:
        if self._controller is not None:
            await self._controller.close()
        await self._caller.close()
