"""HorizontalPodAutoscalers: every 15 seconds each of them looks at its metrics and sets the size of what it scales.

Nothing is awake while there is no autoscaler, and what computes for them is loaded with the first one. A look that
fails is not repeated sooner than the next is due.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from podling.api import autoscaling_v2, core_v1
from podling.client.informer import key_of
from podling.controllers.base import Context, Controller

if TYPE_CHECKING:
    from podling.controllers.horizontal_pod_autoscaler_sync import Autoscaling


class HorizontalPodAutoscalerController(Controller):
    """See the module."""

    name = "horizontal-pod-autoscaler-controller"
    component = "horizontal-pod-autoscaler"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._autoscalers = self.watch(autoscaling_v2.HorizontalPodAutoscaler)
        self._pods = self.informer(core_v1.Pod)
        self._resources = self.resources()
        self._autoscaling: Autoscaling | None = None

    def enqueue(self, obj: autoscaling_v2.HorizontalPodAutoscaler) -> None:
        """Whatever changes about an autoscaler, its next look is when it is due anyway."""
        self._loaded().seen(key_of(obj))
        self.queue.add_after(key_of(obj), self.context.config.autoscaler_sync_period)

    async def reconcile(self, key: str) -> None:
        autoscaler = self._autoscalers.get(key)
        if autoscaler is None:
            self._loaded().forget(key)
            return
        try:
            await self._loaded().sync(key, autoscaler)
        except Exception as error:
            self._failed(key, error)
        self.queue.add_after(key, self.context.config.autoscaler_sync_period)

    def _loaded(self) -> Autoscaling:
        if self._autoscaling is None:
            from podling.controllers.horizontal_pod_autoscaler_sync import Autoscaling

            self._autoscaling = Autoscaling(
                self.client, self.recorder, self._pods, self._resources, self.context.config
            )
        return self._autoscaling
