"""A controller on the official client, as its examples do it: leader election, list and watch, status, finalizers,
owner references. It keeps `spec.copies` ConfigMaps for each Shelf and says on stdout what it is."""

from __future__ import annotations

import sys
from typing import Any

from kubernetes import client, config, watch
from kubernetes.leaderelection import electionconfig, leaderelection
from kubernetes.leaderelection.resourcelock.configmaplock import ConfigMapLock

GROUP, VERSION, PLURAL = "shop.example.com", "v1", "shelves"
FINALIZER = "shop.example.com/leader"


def reconcile(shelf: dict[str, Any]) -> None:
    meta = shelf["metadata"]
    core, custom = client.CoreV1Api(), client.CustomObjectsApi()
    place = (GROUP, VERSION, meta["namespace"], PLURAL, meta["name"])
    if meta.get("deletionTimestamp"):
        if FINALIZER in meta.get("finalizers", []):
            rest = [f for f in meta["finalizers"] if f != FINALIZER]
            custom.patch_namespaced_custom_object(*place, {"metadata": {"finalizers": rest}})
        return
    if FINALIZER not in meta.get("finalizers", []):
        body = {"metadata": {"finalizers": [*meta.get("finalizers", []), FINALIZER]}}
        shelf = custom.patch_namespaced_custom_object(*place, body)
    owner = client.V1OwnerReference(
        api_version=f"{GROUP}/{VERSION}", kind="Shelf", name=meta["name"], uid=meta["uid"], controller=True
    )
    for index in range(shelf["spec"].get("copies", 0)):
        wanted = client.V1ObjectMeta(
            name=f"{meta['name']}-{index}", owner_references=[owner], labels={"of": meta["name"]}
        )
        try:
            core.create_namespaced_config_map(meta["namespace"], client.V1ConfigMap(metadata=wanted))
        except client.ApiException as error:
            if error.status != 409:
                raise
    made = core.list_namespaced_config_map(meta["namespace"], label_selector=f"of={meta['name']}").items
    if shelf.get("status", {}).get("made") != len(made):
        custom.patch_namespaced_custom_object_status(*place, {"status": {"made": len(made)}})


def lead(namespace: str, name: str) -> None:
    print(f"{name} leads", flush=True)
    custom = client.CustomObjectsApi()
    found = custom.list_namespaced_custom_object(GROUP, VERSION, namespace, PLURAL)
    for shelf in found["items"]:
        reconcile(shelf)
    version = found["metadata"]["resourceVersion"]
    arguments = (GROUP, VERSION, namespace, PLURAL)
    for event in watch.Watch().stream(
        custom.list_namespaced_custom_object, *arguments, resource_version=version, allow_watch_bookmarks=True
    ):
        if event["type"] in ("ADDED", "MODIFIED"):
            reconcile(event["object"])


def main(namespace: str, name: str) -> None:
    config.load_kube_config()
    lock = ConfigMapLock("shelf-leader", namespace, name)
    leaderelection.LeaderElection(
        electionconfig.Config(
            lock, lease_duration=5, renew_deadline=4, retry_period=2,
            onstarted_leading=lambda: lead(namespace, name), onstopped_leading=lambda: print("stopped", flush=True),
        )
    ).run()  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
