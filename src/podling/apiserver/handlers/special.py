"""Subresources and virtual resources with rules of their own that fit in a few lines each."""

from __future__ import annotations

from typing import Any

from podling.api import authentication_v1, core_v1, errors, meta_v1
from podling.api.errors import FieldError
from podling.api.struct import clone
from podling.apiserver import body
from podling.apiserver.answer import Answer
from podling.apiserver.call import Call
from podling.apiserver.codec import StructCodec
from podling.apiserver.entry import Entry
from podling.apiserver.facet import Facet, Settle
from podling.apiserver.strategy import Context

_TOKEN_REQUEST = StructCodec(authentication_v1.TokenRequest, "authentication.k8s.io/v1")


class Finalize(Facet):
    """namespaces/finalize: spec.finalizers and nothing else."""

    def merge(self, old: Any, shown: Any) -> Any:
        new = clone(old)
        new.metadata.resource_version = shown.metadata.resource_version
        new.metadata.uid = shown.metadata.uid or new.metadata.uid
        new.metadata.finalizers = shown.metadata.finalizers
        new.spec = new.spec or core_v1.NamespaceSpec()
        new.spec.finalizers = shown.spec.finalizers if shown.spec is not None else None
        return new

    def settle(self, call: Call) -> Settle:
        strategy = call.served.strategy

        def settle(new: Any, old: Any, context: Context) -> list[FieldError]:
            strategy.prepare_subresource_update("finalize", new, old, context)
            return strategy.validate_subresource_update("finalize", new, old)

        return settle


class Approval(Facet):
    """certificatesigningrequests/approval: the conditions of the status."""

    def settle(self, call: Call) -> Settle:
        strategy = call.served.strategy

        def settle(new: Any, old: Any, context: Context) -> list[FieldError]:
            conditions = new.status.conditions if new.status is not None else None
            new.spec = old.spec
            new.status = clone(old.status) if old.status is not None else type(new.status)()
            new.status.conditions = conditions
            strategy.prepare_subresource_update("approval", new, old, context)
            return strategy.validate_subresource_update("approval", new, old)

        return settle


async def create_token(call: Call) -> Answer:
    """POST serviceaccounts/<name>/token: a token, made by the server's issuer."""
    issuer = call.app.token_issuer
    if issuer is None:
        raise errors.path_not_found()
    request = body.read_object(call, _TOKEN_REQUEST, "TokenRequest", "authentication.k8s.io/v1")
    await call.app.hub.current()
    return Answer(status=201, obj=issuer(call.info.namespace, call.info.name, request))


async def component_statuses(call: Call) -> Answer:
    """The parts of the control plane, as a deprecated list still shows them."""
    from podling.api.struct import encode

    entries = []
    for name in sorted(call.app.components):
        if call.info.name and name != call.info.name:
            continue
        healthy = await call.app.components[name]()
        condition = core_v1.ComponentCondition(
            type="Healthy", status="True" if healthy is None else "False", message="ok" if healthy is None else healthy
        )
        obj = core_v1.ComponentStatus(metadata=meta_v1.ObjectMeta(name=name), conditions=[condition])
        entries.append(Entry(name, 0, encode(obj), call.served.codec, obj))
    if call.info.verb == "list":
        return Answer(entries=entries, list_meta=meta_v1.ListMeta(), served=call.served)
    if entries:
        return Answer(entry=entries[0], served=call.served)
    raise errors.not_found("componentstatuses", "", call.info.name)


FINALIZE = Finalize()
APPROVAL = Approval()
