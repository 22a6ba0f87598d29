"""What the cache holds: one version of one object, as wire bytes and decoded, and a change from one to the next."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

from podling.apiserver.codec import Codec, splice, unsplice


class View:
    """Stored objects of one kind, shown as another (core's events as events.k8s.io's).

    `show` makes the shown object of a stored one, `store` the reverse; neither changes what it is given.
    """

    def __init__(self, name: str, codec: Codec, show: Callable[[Any], Any], store: Callable[[Any], Any]) -> None:
        self.name = name
        self.codec = codec
        self.show = show
        self.store = store

    #: Whether objects must be made ready (`ready`) before they can be shown: a webhook may have to convert them.
    deferred = False
    #: The class of the watch of a client that sees this view, if it is not `watch.Watch`.
    watch: Any = None

    async def ready(self, entries: Iterable[Entry]) -> bool:
        """Make it possible to show these; whether that took anything."""
        return False

    async def stored(self, obj: Any) -> Any:
        """As `store`, which only works where nothing is deferred."""
        return self.store(obj)


class Entry:
    """One version of one object. `key` is `namespace/name`, or `name` if it is cluster-scoped.

    `object` is decoded when first asked for, and read-only. `wire` has the resourceVersion in it.
    """

    __slots__ = ("_forms", "_object", "_shown", "codec", "key", "name", "namespace", "revision", "wire")

    def __init__(self, key: str, revision: int, wire: bytes, codec: Codec, obj: Any = None) -> None:
        self.key = key
        self.namespace, _, self.name = key.rpartition("/")
        self.revision = revision
        self.wire = wire
        self.codec = codec
        self._object = obj
        self._shown: dict[str, tuple[Any, bytes]] | None = None
        self._forms: dict[tuple[str, str], bytes] | None = None

    @property
    def object(self) -> Any:
        if self._object is None:
            self._object = self.codec.decode(self.wire)
        return self._object

    @property
    def stored(self) -> bytes:
        return unsplice(self.wire, self.revision)

    def shown(self, view: View | None) -> tuple[Any, bytes]:
        """The object and its wire bytes, as `view` shows them."""
        if view is None:
            return self.object, self.wire
        cache = self._shown
        if cache is None:
            cache = self._shown = {}
        pair = cache.get(view.name)
        if pair is None:
            obj = view.show(self.object)
            wire = self.wire if obj is self._object else view.codec.encode(obj)
            pair = cache[view.name] = obj, wire
        return pair

    def form(self, name: str, view: View | None, make: Callable[[Any], bytes]) -> bytes:
        """The object, as `view` shows it, in a form besides JSON, which is made once."""
        key = name, view.name if view is not None else ""
        forms = self._forms
        if forms is None:
            forms = self._forms = {}
        made = forms.get(key)
        if made is None:
            made = forms[key] = make(self.shown(view)[0])
        return made

    def has_form(self, name: str, view: View | None) -> bool:
        """Whether that form has been made."""
        return self._forms is not None and (name, view.name if view is not None else "") in self._forms

    def has(self, view: View) -> bool:
        """Whether it is known how `view` shows the object."""
        return self._shown is not None and view.name in self._shown

    def keep(self, view: View, obj: Any, wire: bytes) -> None:
        """This is how `view` shows the object."""
        if self._shown is None:
            self._shown = {}
        self._shown[view.name] = obj, wire

    def forget(self) -> None:
        """Views have changed."""
        self._shown = self._forms = None

    def at(self, revision: int) -> Entry:
        """The same content at another revision: what a deletion shows."""
        obj = copy.copy(self.object)
        obj.metadata = copy.copy(obj.metadata)
        obj.metadata.resource_version = str(revision)
        return Entry(self.key, revision, splice(self.stored, revision), self.codec, obj)


def bookmark(codec: Codec, revision: int, annotations: dict[str, str] | None = None) -> Entry:
    """An object of which only the resourceVersion (and annotations) count."""
    obj = codec.empty()
    obj.metadata.annotations = annotations
    obj.metadata.resource_version = str(revision)
    return Entry("", revision, codec.encode(obj), codec, obj)


class Change:
    """From `old` to `new`; one of them may be None. `revision` is the commit's.

    While it is being handed out, `frames` holds its encoded watch events, so that each is made once for all watchers.
    """

    __slots__ = ("_gone", "frames", "key", "new", "old", "revision", "type")

    def __init__(self, revision: int, key: str, old: Entry | None, new: Entry | None) -> None:
        self.revision = revision
        self.key = key
        self.old = old
        self.new = new
        self.type = "ADDED" if old is None else "DELETED" if new is None else "MODIFIED"
        self.frames: dict[Any, bytes] = {}
        self._gone: Entry | None = None

    @property
    def gone(self) -> Entry:
        """The old state at the new revision, for who no longer sees the object."""
        if self._gone is None:
            assert self.old is not None
            self._gone = self.old.at(self.revision)
        return self._gone
