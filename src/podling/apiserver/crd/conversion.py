"""From one version of a custom resource to another.

With the strategy None only the name of the version changes. With Webhook, a server that the definition names converts
objects; it is asked for all objects of an answer at once, and what it said of an object is kept with the object in the
cache, so it is asked once for each version of each object.

The handlers read objects without waiting. So what a webhook has to convert is converted before they look at it
(`Served.ready`); a watch holds its events back until they are converted, in their order (`ConvertingWatch`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from podling import clock, log
from podling.api import meta_v1
from podling.api.apiextensions_v1 import CustomResourceDefinition
from podling.api.errors import StatusError
from podling.apiserver import metadata
from podling.apiserver.admission.webhooks_client import Caller, CallFailure
from podling.apiserver.core import Core
from podling.apiserver.crd import metrics
from podling.apiserver.crd.objects import CustomCodec, CustomObject
from podling.apiserver.crd.structural import Node, settled
from podling.apiserver.entry import Change, Entry, View
from podling.apiserver.watch import Watch
from podling.machinery import schema, validation

LOG = log.get(__name__)

REVIEWS = ("v1", "v1beta1")
#: Seconds that a webhook may take.
TIMEOUT = 30.0


def failed(message: str) -> StatusError:
    """500 without a reason: what upstream makes of a conversion that fails."""
    return StatusError(meta_v1.Status(status="Failure", code=500, message=message))


class Webhook:
    """The conversion webhook of a definition."""

    def __init__(self, app: Core, caller: Caller, definition: CustomResourceDefinition) -> None:
        self._app = app
        self._caller = caller
        conversion = definition.spec.conversion
        assert conversion is not None and conversion.webhook is not None
        self._config: Any = conversion.webhook.client_config
        self._reviews = conversion.webhook.conversion_review_versions
        self._group = definition.spec.group
        self._definition = definition.metadata.name or ""

    async def convert(self, given: Sequence[tuple[CustomObject, bytes]], version: str) -> list[CustomObject]:
        """Objects (with their bytes) in another version. StatusError 500."""
        desired = f"{self._group}/{version}"
        first = given[0][0]
        name = f"conversion webhook for {first.api_version}, Kind={first.kind}{'List' if len(given) > 1 else ''}"
        review = next((v for v in self._reviews if v in REVIEWS), "")
        if not review:
            raise failed("no supported conversion review versions")
        uid = metadata.new_uid()
        objects = [msgspec.Raw(wire) for _, wire in given]
        body = msgspec.json.encode(
            {
                "kind": "ConversionReview",
                "apiVersion": f"apiextensions.k8s.io/{review}",
                "request": {"uid": uid, "desiredAPIVersion": desired, "objects": objects},
            }
        )
        began = clock.real_seconds()

        def count(failure: str = "") -> None:
            old = first.api_version.rpartition("/")[2]
            metrics.converted(self._definition, old, version, clock.real_seconds() - began, failure)

        try:
            answer = await self._caller.call(self._config, body, TIMEOUT)
            converted = read_answer(answer, uid, review)
        except (CallFailure, ValueError) as error:
            count(metrics.CALL if isinstance(error, CallFailure) else metrics.MALFORMED)
            raise failed(f"{name} failed: {error}") from None
        if len(converted) != len(given):
            count(metrics.PARTIAL)
            raise failed(f"{name} returned {len(converted)} objects, expected {len(given)}")
        found = []
        for index, ((old, _), raw) in enumerate(zip(given, converted, strict=True)):
            try:
                found.append(checked(old, raw, desired))
            except ValueError as error:
                count(metrics.INVALID)
                what = f"object at index {index}" if len(given) == 1 else f"converted object at index {index}"
                raise failed(f"{name} returned invalid {what}: {error}") from None
        count()
        return found


def read_answer(data: bytes, uid: str, review: str) -> list[Any]:
    """The objects of a ConversionReview. ValueError in upstream's words."""
    try:
        found = schema.parse(data)
    except schema.DecodeError as error:
        raise ValueError(str(error)) from None
    if not isinstance(found, dict):
        raise ValueError("no response provided")
    if review == "v1":
        group, _, version = str(found.get("apiVersion") or "").rpartition("/")
        if (group, version, found.get("kind")) != ("apiextensions.k8s.io", "v1", "ConversionReview"):
            got = f"{group}/{version}, Kind={found.get('kind') or ''}"
            raise ValueError(f"expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got {got}")
    response = found.get("response")
    if not isinstance(response, dict):
        raise ValueError("no response provided")
    if review == "v1" and response.get("uid") != uid:
        raise ValueError(f'expected response.uid="{uid}", got "{response.get("uid") or ""}"')
    result = response.get("result") or {}
    if result.get("status") != "Success":
        message = result.get("message")
        raise ValueError(message or f"response.result.status was '{result.get('status') or ''}', not 'Success'")
    objects: list[Any] = response.get("convertedObjects") or []
    return objects


def checked(old: CustomObject, raw: Any, desired: str) -> CustomObject:
    """A converted object, with the metadata that a webhook may not change. ValueError in upstream's words."""
    if not isinstance(raw, dict):
        raise ValueError("unexpected type")
    if raw.get("apiVersion") != desired:
        raise ValueError(f"invalid groupVersion (expected {desired}, received {raw.get('apiVersion') or ''})")
    if raw.get("kind") != old.kind:
        raise ValueError(f"invalid kind (expected {old.kind}, received {raw.get('kind') or ''})")
    said, meta = raw.get("metadata"), old.metadata
    if said is None:
        raise ValueError("missing metadata in converted object")
    if not isinstance(said, dict):
        raise ValueError(f"invalid metadata of type {type(said).__name__} in converted object")
    for words, key, was in (("name", "name", meta.name), ("namespace", "namespace", meta.namespace)):
        if (said.get(key) or "") != (was or ""):
            raise ValueError(f"must have the same {words}: {was or ''} != {said.get(key) or ''}")
    if (said.get("uid") or "") != (meta.uid or ""):
        raise ValueError(f"must have the same UID: {meta.uid or ''} != {said.get('uid') or ''}")
    kept = msgspec.structs.replace(meta, labels=_texts(said, "labels"), annotations=_texts(said, "annotations"))
    changed = []
    if kept.labels != meta.labels:
        changed += validation.labels(kept.labels, validation.Path("metadata.labels"))
    if kept.annotations != meta.annotations:
        changed += validation.annotations_(kept.annotations, validation.Path("metadata.annotation"))
    if changed:
        raise ValueError(str(changed[0]))
    return CustomObject({**raw, "metadata": kept})


def _texts(said: dict[str, Any], key: str) -> dict[str, str] | None:
    values = said.get(key)
    if values is None:
        return None
    if not isinstance(values, dict):
        raise ValueError(f"invalid metadata.{key} of type {type(values).__name__} in converted object")
    for name, value in values.items():
        if not isinstance(value, str):
            raise ValueError(
                f"metadata.{key}[{name}] must be a string, but is {type(value).__name__} in converted object"
            )
    return values or None


class VersionView(View):
    """Stored objects, shown in one version and as its schema has them: pruned, and with defaults.

    `deferred`: a webhook has to convert, so objects of other versions must be made `ready` before they are shown.
    """

    def __init__(
        self, name: str, codec: CustomCodec, version: str, node: Node | None, storage: tuple[str, Node | None],
        webhook: Webhook | None,
    ) -> None:  # fmt: skip
        super().__init__(name, codec, self._show, self._store)
        self.version = version
        self._api_version = codec.api_version
        self._node = node
        self._storage, self._storage_node = storage
        self._webhook = webhook
        self.deferred = webhook is not None
        if self.deferred:
            self.watch = ConvertingWatch

    def _show(self, stored: CustomObject) -> CustomObject:
        if stored.api_version == self._api_version:
            return shaped(stored, self._node)
        if self._webhook is not None:
            raise failed(f"the object must be converted from {stored.api_version} by a webhook first")
        return shaped(_renamed(stored, self._api_version), self._node)

    def _store(self, obj: CustomObject) -> CustomObject:
        group, _, version = obj.api_version.rpartition("/")
        if version == self._storage:
            return shaped(obj, self._storage_node)
        if self._webhook is not None:
            raise failed(f"the object must be converted from {obj.api_version} by a webhook first")
        return shaped(_renamed(obj, f"{group}/{self._storage}"), self._storage_node)

    async def ready(self, entries: Iterable[Entry]) -> bool:
        """Have the webhook convert what is not converted yet; whether there was anything. StatusError 500."""
        missing = [e for e in entries if not e.has(self) and e.object.api_version != self._api_version]
        if self._webhook is None or not missing:
            return False
        converted = await self._webhook.convert([(e.object, e.wire) for e in missing], self.version)
        for entry, obj in zip(missing, converted, strict=True):
            done = shaped(obj, self._node)
            entry.keep(self, done, self.codec.encode(done))
        return True

    async def stored(self, obj: CustomObject) -> CustomObject:
        """The object as it is to be stored. StatusError 500."""
        if self._webhook is None or self.version == self._storage:
            return self._store(obj)
        (converted,) = await self._webhook.convert([(obj, self.codec.encode(obj))], self._storage)
        return shaped(converted, self._storage_node)


def shaped(obj: CustomObject, node: Node | None) -> CustomObject:
    """The object as a schema has it; itself if it is that already."""
    if node is None:
        return obj
    found = settled(obj, node, root=True)
    return obj if found is obj else CustomObject(found)


def _renamed(obj: CustomObject, api_version: str) -> CustomObject:
    twin = CustomObject(obj)
    twin["apiVersion"] = api_version
    return twin


class ConvertingWatch(Watch):
    """A watch whose events wait until their objects are converted; it ends if that fails."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._waiting: asyncio.Queue[Change | tuple[int, bool]] = asyncio.Queue()
        self._converter: asyncio.Task[None] | None = None

    def notify(self, change: Change) -> None:
        if change.revision > self.since:
            self._later(change)

    def bookmark(self, revision: int, *, initial_events_end: bool = False) -> None:
        if self._converter is None:
            super().bookmark(revision, initial_events_end=initial_events_end)
        else:
            self._later((revision, initial_events_end))

    def _later(self, what: Change | tuple[int, bool]) -> None:
        if self.ended:
            return
        if self._converter is None:
            self._converter = asyncio.get_running_loop().create_task(self._convert())
        self._waiting.put_nowait(what)

    async def _convert(self) -> None:
        view = self.view
        assert isinstance(view, VersionView)
        try:
            while True:
                what = await self._waiting.get()
                if not isinstance(what, Change):
                    super().bookmark(what[0], initial_events_end=what[1])
                    continue
                needed = [e for e in (what.old, what.new) if e is not None]
                if what.new is None or self.matches is not None:
                    needed.append(what.gone) if what.old is not None else None
                await view.ready(needed)
                super().notify(what)
                what.frames = {}
        except StatusError as error:
            LOG.warning("a watch ends: %s", error)
            self.fail(error.status)

    def end(self) -> None:
        super().end()
        if self._converter is not None and self._converter is not asyncio.current_task():
            self._converter.cancel()
