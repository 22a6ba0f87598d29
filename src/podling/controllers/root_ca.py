"""Every namespace has a ConfigMap `kube-root-ca.crt`: what pods verify the API server with.

Put back when somebody changes or deletes it.
"""

from __future__ import annotations

from podling.api import core_v1, errors
from podling.api.meta_v1 import ObjectMeta
from podling.api.struct import clone
from podling.client.informer import Informer
from podling.controllers.base import Context, Controller, namespace_terminating

CONFIG_MAP = "kube-root-ca.crt"
DESCRIPTION_KEY = "kubernetes.io/description"
DESCRIPTION = (
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the "
    "internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes "
    "clusters."
)


class RootCaController(Controller):
    """See the module."""

    name = "root-ca-certificate-publisher-controller"
    workers = 1

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._data = {"ca.crt": context.config.root_ca}
        self._namespaces = self.watch(core_v1.Namespace)
        self._maps: Informer[core_v1.ConfigMap] = context.informers.of(
            core_v1.ConfigMap, field_selector=f"metadata.name={CONFIG_MAP}"
        )
        self._watched.append(self._maps)
        self._maps.add_handler(on_update=lambda _, new: self._changed(new), on_delete=self._changed)

    def _changed(self, config_map: core_v1.ConfigMap) -> None:
        self.queue.add(config_map.metadata.namespace or "")

    async def reconcile(self, key: str) -> None:
        namespace = self._namespaces.get(key)
        if namespace is None or namespace.status.phase == "Terminating":
            return
        there = self._maps.lookup(CONFIG_MAP, key)
        if there is None:
            meta = ObjectMeta(name=CONFIG_MAP, namespace=key, annotations={DESCRIPTION_KEY: DESCRIPTION})
            try:
                await self.client.create(core_v1.ConfigMap(metadata=meta, data=dict(self._data)))
            except errors.StatusError as error:
                if not (errors.is_already_exists(error) or namespace_terminating(error) or errors.is_not_found(error)):
                    raise
            return
        if there.data == self._data and (there.metadata.annotations or {}).get(DESCRIPTION_KEY):
            return
        changed = clone(there)
        changed.data = dict(self._data)
        changed.metadata.annotations = {**(changed.metadata.annotations or {}), DESCRIPTION_KEY: DESCRIPTION}
        await self.client.update(changed)
