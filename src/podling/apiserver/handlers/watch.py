"""watch: where it starts, and what it is told at first."""

from __future__ import annotations

import random

from podling.api.errors import StatusError
from podling.apiserver import listing
from podling.apiserver.answer import Answer
from podling.apiserver.call import Call
from podling.apiserver.entry import Change
from podling.apiserver.watch import Watch


async def watch(call: Call) -> Answer:
    """Events from now, from what there is now, or from a version on."""
    options = listing.parse(call.request.query, watch=True)
    selection = listing.selection_of(call)
    hub, cache = call.app.hub, call.served.cache
    version = options.resource_version
    if version:
        initial = bool(options.send_initial_events)
    else:
        initial = options.send_initial_events is not False
    if initial and version:
        await hub.reach(version)
    else:
        await hub.current()
    if initial:
        while await call.served.ready(selection.candidates()):
            pass
    view = call.served.view
    watch_ = ((view and view.watch) or Watch)(
        cache,
        selection.scope,
        selection.matches,
        since=version if version and not initial else hub.revision,
        bookmarks=options.bookmarks,
        view=view,
        codec=cache.codec,
    )
    if initial:
        for entry in selection.entries():
            watch_.initial(entry)
        if options.send_initial_events and options.bookmarks:
            watch_.bookmark(hub.revision, initial_events_end=True)
    elif version:
        try:
            changes = cache.changes_after(version)
        except StatusError as error:
            # As an event: whoever watches has one place where it hears what becomes of its watch.
            watch_.fail(error.status)
            return Answer(watch=watch_, served=call.served)
        for change in changes:
            if _in_scope(call, selection, change.key, change):
                watch_.notify(change)
    cache.register(watch_)
    if options.bookmarks:
        hub.want_bookmarks()
    seconds = options.timeout if options.timeout else call.app.min_request_timeout * (1 + random.random())
    watch_.end_after(seconds, lambda: hub.revision)
    return Answer(watch=watch_, served=call.served)


def _in_scope(call: Call, selection: listing.Selection, key: str, change: Change) -> bool:
    """The cache only asks watches that a change can concern; a replay has to ask the same."""
    scope = selection.scope
    if scope.key:
        return key == scope.key
    if scope.namespace:
        return key.startswith(scope.namespace + "/")
    if scope.value is not None:
        strategy = call.served.strategy
        field = call.served.indexed_field
        return any(e and strategy.fields(e.object).get(field, "") == scope.value for e in (change.old, change.new))
    return True
