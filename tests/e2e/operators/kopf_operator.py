"""An operator as people write them with kopf: each Shelf gets a ConfigMap, a status, an event and a finalizer."""

from __future__ import annotations

from typing import Any

import kopf
from kubernetes import client, config


@kopf.on.startup()
def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
    config.load_kube_config()
    settings.persistence.finalizer = "shop.example.com/kopf"
    settings.posting.level = 20
    settings.watching.server_timeout = 60


@kopf.on.create("shop.example.com", "v1", "shelves")
def created(body: kopf.Body, spec: kopf.Spec, name: str, namespace: str, **_: Any) -> dict[str, str]:
    content = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"{name}-books"}}
    content["data"] = {"books": ",".join(spec.get("books", []))}  # type: ignore[assignment]
    kopf.adopt(content)
    client.CoreV1Api().create_namespaced_config_map(namespace, content)
    kopf.info(body, reason="Filled", message=f"filled with {len(spec['books'])} books")
    return {"map": f"{name}-books"}


@kopf.on.field("shop.example.com", "v1", "shelves", field="spec.books")
def changed(old: Any, new: Any, name: str, namespace: str, patch: kopf.Patch, **_: Any) -> None:
    if old is not None:
        body = {"data": {"books": ",".join(new)}}
        client.CoreV1Api().patch_namespaced_config_map(f"{name}-books", namespace, body)
    patch.status["count"] = len(new)


@kopf.on.delete("shop.example.com", "v1", "shelves")
def deleted(name: str, namespace: str, **_: Any) -> None:
    done = client.V1ConfigMap(metadata=client.V1ObjectMeta(name=f"{name}-cleared"))
    client.CoreV1Api().create_namespaced_config_map(namespace, done)


@kopf.timer("shop.example.com", "v1", "shelves", interval=1.0)
def counted(status: kopf.Status, patch: kopf.Patch, **_: Any) -> None:
    patch.status["ticks"] = status.get("ticks", 0) + 1


@kopf.on.event("", "v1", "configmaps", labels={"watched": "yes"})
def seen(event: Any, name: str, namespace: str, **_: Any) -> None:
    if event["type"] is None or event["type"] == "ADDED":
        body = {"metadata": {"annotations": {"seen": "yes"}}}
        client.CoreV1Api().patch_namespaced_config_map(name, namespace, body)
