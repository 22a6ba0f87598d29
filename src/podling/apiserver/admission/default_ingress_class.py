"""DefaultIngressClass: an Ingress that names no class gets the cluster's default."""

from __future__ import annotations

from podling.apiserver.admission.base import CREATE, Attributes, Plugin

_DEFAULT = "ingressclass.kubernetes.io/is-default-class"
_LEGACY = "kubernetes.io/ingress.class"


class DefaultIngressClass(Plugin):
    name = "DefaultIngressClass"
    operations = frozenset((CREATE,))
    resources = frozenset(("ingresses.networking.k8s.io",))
    mutates = True

    async def mutate(self, attributes: Attributes) -> None:
        ingress = attributes.obj
        if ingress.spec.ingress_class_name is not None or _LEGACY in (ingress.metadata.annotations or {}):
            return
        served = self.app.lookup("networking.k8s.io", "ingressclasses")
        classes = [e.object for e in served.cache.all()] if served is not None else []
        defaults = [c for c in classes if (c.metadata.annotations or {}).get(_DEFAULT) == "true"]
        if defaults:
            # Of several defaults the newest counts; of equally new ones the first by name.
            newest = max(c.metadata.creation_timestamp or "" for c in defaults)
            ingress.spec.ingress_class_name = min(
                c.metadata.name for c in defaults if (c.metadata.creation_timestamp or "") == newest
            )
