"""A definition as resources: what the server serves of it, version by version."""

from __future__ import annotations

import hashlib
from typing import Any

from podling.api.apiextensions_v1 import CustomResourceDefinition, CustomResourceDefinitionVersion
from podling.api.registry import Resource
from podling.api.struct import encode, to_dict
from podling.apiserver.admission.webhooks_client import Caller
from podling.apiserver.cache import prefix_of
from podling.apiserver.core import Core
from podling.apiserver.crd import publish
from podling.apiserver.crd.conversion import VersionView, Webhook
from podling.apiserver.crd.facets import CustomScale
from podling.apiserver.crd.objects import CustomCodec
from podling.apiserver.crd.strategy import CustomStrategy
from podling.apiserver.served import Served
from podling.machinery.version_order import version_order

#: In the order in which discovery shows them.
VERBS = ("delete", "deletecollection", "get", "list", "patch", "create", "update", "watch")


def condition(crd: CustomResourceDefinition, type_: str) -> bool:
    """Whether a condition is there and True."""
    return any(c.type == type_ and c.status == "True" for c in crd.status.conditions or ())


def fingerprint(crd: CustomResourceDefinition) -> tuple[str, bool]:
    """Changes with all that decides what is served; the second part says whether it is to end."""
    return mark(crd), is_terminating(crd)


def mark(crd: CustomResourceDefinition) -> str:
    """Tells states of a definition apart in which its objects look different."""
    digest = hashlib.sha256(encode([crd.spec, crd.status.accepted_names])).hexdigest()
    return f"{crd.metadata.uid}:{digest[:16]}"


def is_terminating(crd: CustomResourceDefinition) -> bool:
    return bool(crd.metadata.deletion_timestamp) or condition(crd, "Terminating")


class Defined:
    """What a definition gives: `versions` are to be served, `storage` is the version that is stored, served or not."""

    def __init__(self, app: Core, caller: Caller, crd: CustomResourceDefinition) -> None:
        self.crd = crd
        self.fingerprint = fingerprint(crd)
        names = crd.status.accepted_names
        assert names is not None
        self.names = names
        spec = crd.spec
        self._stored_codec = CustomCodec(names.kind, "")
        self.cache = app.hub.cache(prefix_of(spec.group, names.plural), self._stored_codec)
        webhook = None
        if spec.conversion is not None and spec.conversion.strategy == "Webhook":
            webhook = Webhook(app, caller, crd)
        self._schemas = {v.name: schema_of(v, crd) for v in spec.versions}
        storage = next(v for v in spec.versions if v.storage)
        storage_strategy = self._strategy(storage)
        self.versions: list[Served] = []
        for version in sorted(spec.versions, key=lambda v: version_order(v.name)):
            if not (version.served or version.storage):
                continue
            strategy = storage_strategy if version is storage else self._strategy(version)
            item = self._served(version, strategy, (storage.name, storage_strategy.node), webhook)
            if version is storage:
                self.storage = item
            if version.served:
                self.versions.append(item)

    def _strategy(self, version: CustomResourceDefinitionVersion) -> CustomStrategy:
        schema = self._schemas[version.name]
        terminating = is_terminating(self.crd)
        strategy = CustomStrategy(self._row(version), version, schema, terminating=terminating)
        if strategy.scale is not None:
            strategy.scale_facet = CustomScale(strategy)
        return strategy

    def _row(self, version: CustomResourceDefinitionVersion) -> Resource:
        names, spec = self.names, self.crd.spec
        subresources: tuple[str, ...] = ()
        if version.subresources is not None:
            parts = (("status", version.subresources.status), ("scale", version.subresources.scale))
            subresources = tuple(name for name, found in parts if found is not None)
        return Resource(
            group=spec.group,
            version=version.name,
            name=names.plural,
            kind=names.kind,
            namespaced=spec.scope == "Namespaced",
            singular=names.singular or names.kind.lower(),
            short_names=tuple(names.short_names or ()),
            categories=tuple(names.categories or ()),
            subresources=subresources,
            verbs=VERBS,
            list_kind=names.list_kind or f"{names.kind}List",
        )

    def _served(
        self, version: CustomResourceDefinitionVersion, strategy: CustomStrategy, storage: tuple[str, Any],
        webhook: Webhook | None,
    ) -> Served:  # fmt: skip
        resource = strategy.resource
        codec = CustomCodec(resource.kind, resource.group_version, strategy.node)
        mark = self.fingerprint[0]
        view = VersionView(
            f"{resource.group_version}/{resource.name}#{mark}", codec, version.name, strategy.node, storage, webhook,
        )  # fmt: skip
        selectable = [f.json_path.removeprefix(".") for f in version.selectable_fields or ()]
        return Served(
            resource,
            lambda: strategy,
            self.cache,
            codec=codec,
            view=view,
            publish=publish.publisher(resource, self._schemas[version.name], selectable),
            fingerprint=mark,
            warnings=tuple(_deprecation(self.crd, version)),
        )


def schema_of(version: CustomResourceDefinitionVersion, crd: CustomResourceDefinition) -> dict[str, Any] | None:
    """A version's schema in wire form; None if nothing is known of its objects."""
    found = version.schema.open_apiv3_schema if version.schema is not None else None
    if found is None:
        return None
    schema = to_dict(found)
    if crd.spec.preserve_unknown_fields:
        schema["x-kubernetes-preserve-unknown-fields"] = True
    return schema


def _deprecation(crd: CustomResourceDefinition, version: CustomResourceDefinitionVersion) -> list[str]:
    if not version.deprecated:
        return []
    if version.deprecation_warning is not None:
        return [version.deprecation_warning]
    group, kind = crd.spec.group, crd.spec.names.kind
    text = f"{group}/{version.name} {kind} is deprecated"
    better = [v.name for v in crd.spec.versions if v.served and not v.deprecated]
    better = [name for name in sorted(better, key=version_order) if version_order(name) < version_order(version.name)]
    return [f"{text}; use {group}/{better[0]} {kind}" if better else text]
