"""PodNodeSelector: pods go to the nodes that their namespace's annotation, or the configuration, chooses for them."""

from __future__ import annotations

from typing import Any

import msgspec

from podling.api import core_v1, errors
from podling.apiserver.admission.base import CREATE, Attributes, Plugin
from podling.apiserver.core import Core

_ANNOTATION = "scheduler.alpha.kubernetes.io/node-selector"
_DEFAULT = "clusterDefaultNodeSelector"


class Configuration(msgspec.Struct, rename="camel"):
    """Selectors (`a=b,c=d`) by namespace: what its pods may ask for; under `clusterDefaultNodeSelector`, what pods of
    namespaces without an annotation get."""

    pod_node_selector_plugin_config: dict[str, str] = {}


class PodNodeSelector(Plugin):
    name = "PodNodeSelector"
    operations = frozenset((CREATE,))
    resources = frozenset(("pods",))
    mutates = True
    validates = True

    def __init__(self, app: Core, configuration: Configuration | None = None) -> None:
        super().__init__(app)
        self._selectors = (configuration or Configuration()).pod_node_selector_plugin_config

    @classmethod
    def parse(cls, document: dict[str, Any]) -> Configuration:
        found = msgspec.convert(document, Configuration)
        for selector in found.pod_node_selector_plugin_config.values():
            labels(selector)
        return found

    async def mutate(self, attributes: Attributes) -> None:
        pod: core_v1.Pod = attributes.obj
        if pod.spec is None:
            return
        wanted = self._of_namespace(attributes.namespace)
        _check_conflict(pod, wanted)
        if wanted:
            pod.spec.node_selector = {**wanted, **(pod.spec.node_selector or {})}

    async def validate(self, attributes: Attributes) -> None:
        pod: core_v1.Pod = attributes.obj
        if pod.spec is None:
            return
        _check_conflict(pod, self._of_namespace(attributes.namespace))
        allowed = labels(self._selectors.get(attributes.namespace, ""))
        if allowed and not (pod.spec.node_selector or {}).items() <= allowed.items():
            why = "pod node label selector labels conflict with its namespace whitelist"
            raise errors.forbidden("pods", "", pod.metadata.name or "", why)

    def _of_namespace(self, name: str) -> dict[str, str]:
        namespace = self.app.get("namespaces", "", name)
        if namespace is None:
            raise errors.not_found("namespaces", "", name)
        annotations = namespace.metadata.annotations or {}
        text = annotations[_ANNOTATION] if _ANNOTATION in annotations else self._selectors.get(_DEFAULT, "")
        try:
            return labels(text)
        except ValueError as error:
            raise errors.internal(str(error)) from None


def _check_conflict(pod: core_v1.Pod, wanted: dict[str, str]) -> None:
    chosen = (pod.spec.node_selector if pod.spec is not None else None) or {}
    if any(chosen.get(key, value) != value for key, value in wanted.items()):
        why = "pod node label selector conflicts with its namespace node label selector"
        raise errors.forbidden("pods", "", pod.metadata.name or "", why)


def labels(selector: str) -> dict[str, str]:
    """`a=b,c=d` as labels. ValueError for anything else."""
    found = {}
    for part in selector.split(",") if selector else ():
        key, equals, value = part.partition("=")
        if not equals or "=" in value:
            raise ValueError(f"invalid selector: {part}")
        found[key.strip()] = value.strip()
    return found
