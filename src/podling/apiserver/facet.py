"""A facet: what a subresource shows of an object, and how a change of that becomes a change of the object.

The object itself is a facet (`WHOLE`), /status is the object with another rule of what may change, /scale is another
kind altogether.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from podling.api import meta_v1
from podling.api.errors import FieldError
from podling.apiserver.answer import Answer
from podling.apiserver.call import Call
from podling.apiserver.codec import Codec
from podling.apiserver.strategy import Context

if TYPE_CHECKING:
    from podling.apiserver.entry import Entry

#: (new, old, context) -> findings; changes `new` so that only what the facet covers differs from `old`.
Settle = Callable[[Any, Any, Context], list[FieldError]]


class Facet:
    """The whole object; subclasses are parts of it."""

    #: (kind, apiVersion) if it is not the resource's own.
    kind: tuple[str, str] | None = None

    def codec_of(self, call: Call) -> Codec:
        """Of what is shown."""
        return call.served.codec

    def show(self, obj: Any) -> Any:
        """What a read gives. `obj` is read-only."""
        return obj

    def merge(self, old: Any, shown: Any) -> Any:
        """A new object, of the old one and the changed part. `old` is read-only."""
        return shown

    def settle(self, call: Call) -> Settle:
        """What may change: everything but the status."""
        strategy = call.served.strategy

        def settle(new: Any, old: Any, context: Context) -> list[FieldError]:
            if strategy.has_status:
                new.status = old.status
            strategy.prepare_update(new, old, context)
            return strategy.validate_update(new, old)

        return settle

    def entries(self, call: Call, old: Any) -> list[meta_v1.ManagedFieldsEntry] | None:
        """Who owns what of the facet, in terms of what it shows. `old` is read-only."""
        found: list[meta_v1.ManagedFieldsEntry] | None = old.metadata.managed_fields
        return found

    def own_entries(
        self, call: Call, old: Any, entries: list[meta_v1.ManagedFieldsEntry] | None
    ) -> list[meta_v1.ManagedFieldsEntry] | None:
        """The reverse: who then owns what of the object."""
        return entries

    def answer(self, answer: Answer) -> Answer:
        """The answer to a read or write of the object as one of the facet."""
        return answer


class Status(Facet):
    """/status: everything else stays, but for metadata's labels and annotations, which most kinds let change."""

    def settle(self, call: Call) -> Settle:
        strategy = call.served.strategy

        def settle(new: Any, old: Any, context: Context) -> list[FieldError]:
            for field in new.__struct_fields__:
                if field not in ("metadata", "status"):
                    setattr(new, field, getattr(old, field))
            for field in strategy.kept_by_status:
                setattr(new.metadata, field, getattr(old.metadata, field))
            strategy.prepare_status_update(new, old, context)
            return strategy.validate_status_update(new, old)

        return settle


class Part(Facet):
    """A facet of another kind; `answer` shows the object that was written or read as that kind."""

    def answer(self, answer: Answer) -> Answer:
        entry: Entry | None = answer.entry
        if entry is None:
            return answer
        view = answer.served.view if answer.served is not None else None
        return Answer(status=answer.status, obj=self.show(entry.shown(view)[0]))


WHOLE = Facet()
STATUS = Status()
