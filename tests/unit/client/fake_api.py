"""A small API server in memory: enough of storage and watches to test what follows and writes objects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from podling.api import errors, meta_v1, registry
from podling.api.request import Event, Request, Response
from podling.api.struct import clone, from_dict, to_dict


class FakeApi:
    """A Transport. `fail` holds errors that the next requests meet; `requests` what was asked."""

    def __init__(self) -> None:
        self.revision = 100
        self.oldest = 0
        self.objects: dict[tuple[str, str, str], Any] = {}
        self.history: list[tuple[int, str, str, Any]] = []
        self.changed = asyncio.Condition()
        self.fail: list[errors.StatusError] = []
        self.requests: list[Request] = []
        self.page = 0
        self.watches = 0
        self.end_watches = 0

    async def close(self) -> None:
        pass

    async def send(self, request: Request) -> Response:
        await asyncio.sleep(0)
        self.requests.append(request)
        if self.fail:
            raise self.fail.pop(0)
        parts = request.path.strip("/").split("/")
        group, version, rest = ("", parts[1], parts[2:]) if parts[0] == "api" else (parts[1], parts[2], parts[3:])
        namespace = ""
        if rest[0] == "namespaces" and len(rest) > 2:
            namespace, rest = rest[1], rest[2:]
        resource = registry.by_name(group, version, rest[0])
        if resource is None:
            raise errors.path_not_found()
        name = rest[1] if len(rest) > 1 else ""
        if request.method == "GET" and not name:
            if request.query.get("watch"):
                return Response(
                    events=self._watch(resource.qualified, namespace, int(request.query["resourceVersion"]))
                )
            return self._list(resource.qualified, namespace, request)
        return Response(obj=await self._one(resource, namespace, name, request))

    async def _one(self, resource: registry.Resource, namespace: str, name: str, request: Request) -> Any:
        if request.method == "POST":
            obj = request.obj
            return await self._store("ADDED", resource.qualified, namespace, obj.metadata.name, obj)
        key = (resource.qualified, namespace, name)
        old = self.objects.get(key)
        if old is None:
            raise errors.not_found(resource.name, resource.group, name)
        if request.method == "GET":
            return old
        if request.method == "DELETE":
            return await self._store("DELETED", *key, clone(old))
        if request.method == "PATCH":
            return await self._store("MODIFIED", *key, from_dict(_merge(to_dict(old), request.obj), type(old)))
        new = request.obj
        if new.metadata.resource_version not in (None, old.metadata.resource_version):
            raise errors.conflict(resource.name, resource.group, name, "the object has been modified")
        return await self._store("MODIFIED", *key, new)

    async def _store(self, event: str, resource: str, namespace: str, name: str, obj: Any) -> Any:
        key = (resource, namespace, name)
        if event == "ADDED" and key in self.objects:
            raise errors.already_exists(resource, "", name)
        self.revision += 1
        obj.metadata.resource_version = str(self.revision)
        if namespace:
            obj.metadata.namespace = namespace
        if event == "ADDED":
            obj.metadata.uid = f"uid-{self.revision}"
        if event == "DELETED":
            del self.objects[key]
        else:
            self.objects[key] = obj
        self.history.append((self.revision, resource, event, obj))
        async with self.changed:
            self.changed.notify_all()
        return obj

    def _list(self, resource: str, namespace: str, request: Request) -> Response:
        found = [o for (r, n, _), o in self.objects.items() if r == resource and namespace in ("", n)]
        start = int(request.query.get("continue", "0"))
        meta = meta_v1.ListMeta(resource_version=str(self.revision))
        if self.page and len(found) > start + self.page:
            meta.continue_ = str(start + self.page)
            found = found[start : start + self.page]
        return Response(objects=found[start:] if not meta.continue_ else found, metadata=meta)

    async def bookmark(self) -> None:
        self.revision += 1
        self.history.append((self.revision, "", "BOOKMARK", None))
        async with self.changed:
            self.changed.notify_all()

    async def break_watches(self) -> None:
        """End all watches that run now."""
        self.end_watches = self.watches
        async with self.changed:
            self.changed.notify_all()

    async def _watch(self, resource: str, namespace: str, since: int) -> AsyncIterator[Event]:
        self.watches += 1
        number = self.watches
        if since < self.oldest:
            yield Event("ERROR", errors.expired("too old resource version").status)
            return
        at = 0
        while number > self.end_watches:
            while at < len(self.history):
                revision, of, event, obj = self.history[at]
                at += 1
                if revision <= since:
                    continue
                if event == "BOOKMARK":
                    yield Event(event, meta_v1_pod(str(revision)))
                elif of == resource and namespace in ("", obj.metadata.namespace):
                    yield Event(event, obj)
            if number <= self.end_watches:
                return
            async with self.changed:
                await self.changed.wait()


def meta_v1_pod(revision: str) -> Any:
    from podling.api import core_v1

    return core_v1.Pod(metadata=meta_v1.ObjectMeta(resource_version=revision))


def _merge(old: Any, patch: Any) -> Any:
    if not isinstance(patch, dict) or not isinstance(old, dict):
        return patch
    merged = dict(old)
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = _merge(merged.get(name), value)
    return merged
