"""Which pods a pod is spread from."""

from __future__ import annotations

from typing import Any

from podling import clock
from podling.api import apps_v1, core_v1
from podling.api.struct import from_dict
from podling.apiserver.app import ApiServer
from podling.client.client import ApiClient
from podling.client.informer import Informers
from podling.scheduler.owners import Owners
from podling.store.memory import MemoryStore


def pod(labels: dict[str, str], owner: tuple[str, str] | None = None) -> core_v1.Pod:
    meta: dict[str, Any] = {"name": "p", "namespace": "default", "labels": labels}
    if owner:
        reference = {"apiVersion": "v1", "kind": owner[0], "name": owner[1], "uid": "u", "controller": True}
        meta["ownerReferences"] = [reference]
    return from_dict({"metadata": meta, "spec": {"containers": [{"name": "c", "image": "i"}]}}, core_v1.Pod)


def service(name: str, selector: dict[str, str] | None) -> core_v1.Service:
    return from_dict(
        {"metadata": {"name": name, "namespace": "default"}, "spec": {"selector": selector, "ports": [{"port": 80}]}},
        core_v1.Service,
    )


def replica_set(name: str, labels: dict[str, str]) -> apps_v1.ReplicaSet:
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"selector": {"matchLabels": labels}, "template": template}
    return from_dict({"metadata": {"name": name, "namespace": "default"}, "spec": spec}, apps_v1.ReplicaSet)


def test_what_services_and_controllers_select() -> None:
    async def scenario() -> None:
        store = MemoryStore()
        await store.open()
        app = ApiServer(store)
        await app.start()
        client = ApiClient(app)
        await client.create(from_dict({"metadata": {"name": "default"}}, core_v1.Namespace))
        for obj in (
            service("web", {"app": "web"}),
            service("tier", {"tier": "front"}),
            service("other", {"app": "db"}),
            service("none", None),
            replica_set("rs", {"app": "web", "hash": "1"}),
        ):
            await client.create(obj)
        informers = Informers(client)
        owners = Owners(informers)
        informers.start()
        await informers.wait_synced()

        def selector(*words: Any) -> str | None:
            found = owners.selector(pod(*words))
            return None if found is None else str(found)

        assert selector({"app": "web", "tier": "front"}) == "app=web,tier=front"
        assert selector({"app": "web", "hash": "1"}, ("ReplicaSet", "rs")) == "app=web,app=web,hash=1"
        assert selector({"hash": "1"}, ("ReplicaSet", "gone")) is None
        assert selector({"x": "y"}, ("Job", "rs")) is None
        assert selector({}) is None
        await informers.close()
        await app.close()

    clock.run_virtual(scenario())
