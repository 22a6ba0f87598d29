"""get and list."""

from __future__ import annotations

from itertools import islice

from podling.api import errors, meta_v1
from podling.apiserver import continuation, listing, read_metrics
from podling.apiserver.answer import Answer
from podling.apiserver.cache import too_large
from podling.apiserver.call import Call
from podling.apiserver.codec import splice
from podling.apiserver.entry import Entry
from podling.apiserver.listing import ListOptions, Selection
from podling.store.base import Compacted


async def get(call: Call) -> Answer:
    """One object, as the cache holds it."""
    info, served = call.info, call.served
    hub = call.app.hub
    query = call.request.query
    version = query.get("resourceVersion") if query else None
    if version:
        await hub.reach(listing.version_of(version))
    elif hub.store.revision > hub.revision:
        await hub.current()
    cache = served.cache
    entry = cache.entries.get(f"{info.namespace}/{info.name}" if served.resource.namespaced else info.name)
    if entry is None:
        raise errors.not_found(info.resource, info.group, info.name)
    return Answer(entry=entry, served=served)


async def list_(call: Call) -> Answer:
    """Objects in order; in pages, if a limit is given."""
    options = listing.parse(call.request.query, watch=False)
    selection = listing.selection_of(call)
    hub = call.app.hub
    start, revision = "", 0
    if options.continue_:
        start, revision = continuation.decode(options.continue_)
        if options.resource_version:
            raise errors.bad_request("specifying resource version is not allowed when using continue")
    elif options.match == "Exact" or (options.match == "" and options.limit and (options.resource_version or 0) > 0):
        revision = options.resource_version or 0
    elif options.resource_version:
        await hub.reach(options.resource_version)
    if revision <= 0:
        if options.resource_version is None:
            await hub.current()
            read_metrics.consistent(call.served.resource)
        await _show(call, selection)
        return _now(call, selection, start, 0 if options.resource_version == 0 else options.limit)
    await hub.current()
    if revision > hub.revision:
        raise too_large(revision, hub.revision)
    await _show(call, selection)
    # What nothing has changed since is still here, but revisions end for all kinds alike.
    if revision >= max(call.served.cache.changed, hub.store.compacted):
        return _now(call, selection, start, options.limit, revision)
    return await _then(call, selection, start, options, revision)


async def _show(call: Call, selection: Selection) -> None:
    """What a field selector looks at has to be there before it looks."""
    while selection.matches is not None and await call.served.ready(selection.candidates()):
        pass


def _now(call: Call, selection: Selection, start: str, limit: int, revision: int = 0) -> Answer:
    """From the cache: the newest state, which is also that of `revision` if one is given."""
    found = selection.candidates()
    if start:
        found = [e for e in found if e.key >= start]
    at = revision or call.app.hub.revision
    meta = meta_v1.ListMeta(resource_version=str(at))
    matches = selection.matches
    if limit <= 0:
        return _page(call, found if matches is None else [e for e in found if matches(e)], meta, len(found))
    if matches is None:
        chosen = found[:limit]
        if len(found) > limit:
            meta.continue_ = continuation.encode(chosen[-1].key + "\0", at)
            meta.remaining_item_count = len(found) - limit if not selection.selective else None
        return _page(call, chosen, meta, len(chosen))
    # One more than wanted shows whether there is another page.
    chosen = list(islice((e for e in found if matches(e)), limit + 1))
    if len(chosen) > limit:
        chosen.pop()
        meta.continue_ = continuation.encode(chosen[-1].key + "\0", at)
    return _page(call, chosen, meta, len(found))


async def _then(call: Call, selection: Selection, start: str, options: ListOptions, revision: int) -> Answer:
    """From the store's log: the state at `revision`, which has since changed."""
    cache, hub = call.served.cache, call.app.hub
    prefix = cache.prefix + (f"{selection.namespace}/" if selection.namespace else "")
    chosen: list[Entry] = []
    meta = meta_v1.ListMeta(resource_version=str(revision))
    position = cache.prefix + start if start else None
    wanted, read = options.limit, 0
    while True:
        try:
            page = await hub.store.list(prefix, start=position, limit=wanted or None, revision=revision)
        except Compacted:
            raise (continuation.expired(start) if start else continuation.list_expired()) from None
        for kv in page.items:
            read += 1
            entry = Entry(kv.key[len(cache.prefix) :], kv.mod_revision, splice(kv.value, kv.mod_revision), cache.codec)
            if selection.matches is not None:
                await call.served.ready((entry,))
            if _meant(selection, entry):
                chosen.append(entry)
                if wanted and len(chosen) == wanted:
                    break
        more = page.remaining or (page.items and kv.key != page.items[-1].key)
        if not more or (wanted and len(chosen) == wanted):
            break
        position = page.items[-1].key + "\0"
    if more:
        meta.continue_ = continuation.encode(chosen[-1].key + "\0", revision)
        meta.remaining_item_count = page.remaining if not selection.selective else None
    return _page(call, chosen, meta, read, read_metrics.STORE)


def _meant(selection: Selection, entry: Entry) -> bool:
    scope, served = selection.scope, selection.served
    if scope.key and entry.key != scope.key:
        return False
    if scope.value is not None:
        field = served.indexed_field
        if served.strategy.fields(entry.object).get(field, "") != scope.value:
            return False
    return selection.matches is None or selection.matches(entry)


def _page(
    call: Call, entries: list[Entry], meta: meta_v1.ListMeta, fetched: int, storage: str = read_metrics.CACHE
) -> Answer:
    read_metrics.listed(call.served.resource, storage, fetched=fetched, evaluated=fetched, returned=len(entries))
    return Answer(entries=entries, list_meta=meta, served=call.served)
