"""Discovery: which groups, versions and resources are served, in the two-step form and in the aggregated one.

Documents are made when they are first asked for and kept until what is served changes.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any, NamedTuple

from podling.api import apiregistration_v1, errors
from podling.api.registry import Resource
from podling.api.request import Request, User
from podling.api.struct import encode
from podling.apiserver.aggregation import priorities
from podling.apiserver.aggregation.priorities import Ranked
from podling.apiserver.answer import Answer
from podling.apiserver.core import Core
from podling.apiserver.negotiate import JSON, PROTOBUF, Media, as_it_is, choose, not_acceptable, supported, wants_pretty
from podling.apiserver.present import formatted
from podling.apiserver.request_info import RequestInfo

_AGGREGATED = "apidiscovery.k8s.io/v2"
_GUP = ("get", "patch", "update")
_CONNECT = ("create", "get")
_PROXY = ("create", "delete", "get", "patch", "update")


class Subresource(NamedTuple):
    """What discovery says of a subresource; `kind` "" is the resource's own."""

    verbs: tuple[str, ...]
    kind: str = ""
    group: str = ""
    version: str = ""


_SUBRESOURCES: dict[tuple[str, str], Subresource] = {
    ("*", "status"): Subresource(_GUP),
    ("*", "scale"): Subresource(_GUP, "Scale", "autoscaling", "v1"),
    ("pods", "attach"): Subresource(_CONNECT, "PodAttachOptions", "", "v1"),
    ("pods", "binding"): Subresource(("create",), "Binding", "", "v1"),
    ("pods", "ephemeralcontainers"): Subresource(_GUP),
    ("pods", "eviction"): Subresource(("create",), "Eviction", "policy", "v1"),
    ("pods", "exec"): Subresource(_CONNECT, "PodExecOptions", "", "v1"),
    ("pods", "log"): Subresource(("get",)),
    ("pods", "portforward"): Subresource(_CONNECT, "PodPortForwardOptions", "", "v1"),
    ("pods", "proxy"): Subresource(_PROXY, "PodProxyOptions", "", "v1"),
    ("pods", "resize"): Subresource(_GUP),
    ("services", "proxy"): Subresource(_PROXY, "ServiceProxyOptions", "", "v1"),
    ("nodes", "proxy"): Subresource(_PROXY, "NodeProxyOptions", "", "v1"),
    ("namespaces", "finalize"): Subresource(("update",)),
    ("serviceaccounts", "token"): Subresource(("create",), "TokenRequest", "authentication.k8s.io", "v1"),
    ("certificatesigningrequests.certificates.k8s.io", "approval"): Subresource(_GUP),
}


def subresource(resource: Resource, name: str) -> Subresource:
    """What discovery says of a subresource of `resource`."""
    found = _SUBRESOURCES.get((resource.qualified, name)) or _SUBRESOURCES.get(("*", name))
    return found or Subresource(_GUP)


def storage_hash(resource: Resource) -> str:
    """An opaque value that tells storage versions apart."""
    text = f"{resource.group}/{resource.version}/{resource.kind}"
    return base64.b64encode(hashlib.sha256(text.encode()).digest()[:8]).decode()


class Discovery:
    """Answers /api, /apis and what is below them, of what `app` serves."""

    def __init__(self, app: Core, *, address: str = "") -> None:
        self._app = app
        #: `host:port` at which clients without another way reach this server.
        self.address = address
        self._made: dict[Any, tuple[bytes, str]] = {}
        self._generation = -1
        #: What APIServices say: (group priority, version priority) by group version.
        self._priorities: dict[tuple[str, str], tuple[int, int]] = {}
        #: Group versions that other servers serve, as aggregated discovery shows them (`aggregation.documents`).
        self.remote: dict[tuple[str, str], dict[str, Any]] = {}
        for path in ("/api", "/apis"):
            app.paths[path] = self.answer
        app.paths["/api/"] = app.paths["/apis/"] = self.answer
        services = app.served.get((priorities.REGISTRATION, "v1", "apiservices"))
        if services is not None:
            services.cache.observers.append(self._service_changed)

    def forget(self) -> None:
        """Make the documents anew when they are asked for: what they are made of has changed."""
        self._made.clear()

    def _service_changed(self, event: str, service: apiregistration_v1.APIService) -> None:
        spec = service.spec
        key = spec.group or "", spec.version or ""
        before = self._priorities.pop(key, None) or priorities.default(*key)
        if event != "DELETED":
            self._priorities[key] = spec.group_priority_minimum, spec.version_priority
        if before != (self._priorities.get(key) or priorities.default(*key)):
            self.forget()

    async def answer(self, request: Request, info: RequestInfo, user: User) -> Answer:
        """Any discovery path."""
        if request.method not in ("GET", "HEAD"):
            raise errors.path_not_found()
        path = info.path.rstrip("/")
        media = self._media(request, path)
        if self._generation != self._app.generation:
            self._made.clear()
            self._generation = self._app.generation
        made = self._made.get((path, media))
        if made is None:
            made = self._made[path, media] = self._make(path, media)
        body, etag = made
        kind = f"{media.type};g={media.group};v={media.version};as={media.as_}" if media.as_ else media.type
        headers = {"ETag": etag, "Vary": "Accept", "content-type": kind}
        if media.as_:
            headers["Cache-Control"] = "public"
        if media.as_ and request.headers.get("if-none-match") == etag:
            return Answer(status=304, body=b"", headers=headers)
        return Answer(body=body, headers=headers)

    def _media(self, request: Request, path: str) -> Media:
        """The form of a document. StatusError 406."""
        accept, cbor = request.headers.get("accept", ""), self._app.cbor
        media = None
        if path in ("/api", "/apis") and "as" in accept:
            media = choose(accept, supported(cbor), _is_aggregated, version="")
        if media is None:
            media = choose(accept, supported(cbor), as_it_is, version="")
        if media is None:
            raise not_acceptable(supported(cbor))
        pretty = media.pretty or wants_pretty(request.query, request.headers.get("user-agent", ""))
        return media._replace(pretty=pretty and media.type == JSON)

    def _make(self, path: str, media: Media) -> tuple[bytes, str]:
        """A document and its ETag."""
        document = self._aggregate(path) if media.as_ else self._document(path)
        plain = encode(document)
        if media.type == PROTOBUF:
            from podling.apiserver.wire import protobuf

            body = protobuf.encode_discovery(document) if media.as_ else protobuf.encode_dict(document)
        else:
            body = formatted(plain, media) if media.type != JSON or media.pretty else plain
        # All forms of the aggregated document have the tag of its JSON.
        return body, f'"{hashlib.sha512(plain if media.as_ else body).hexdigest().upper()}"'

    def resources(self) -> list[Resource]:
        """All that is served, in the order of its installation."""
        return [s.resource for s in self._app.served.values()]

    def _document(self, path: str) -> dict[str, Any]:
        parts = path.strip("/").split("/")
        match parts:
            case ["api"]:
                return {
                    "kind": "APIVersions",
                    "versions": self._versions(""),
                    "serverAddressByClientCIDRs": [
                        {"clientCIDR": "0.0.0.0/0", "serverAddress": self.address or "127.0.0.1:6443"}
                    ],
                }
            case ["apis"]:
                groups = priorities.legacy_groups(self._ranked())
                return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [self._group(g) for g in groups]}
            case ["apis", group] if self._ranked(group):
                return {"kind": "APIGroup", "apiVersion": "v1", **self._group(group)}
            case ["api", version] if version in self._versions(""):
                return self._resource_list("", version)
            case ["apis", group, version] if version in self._versions(group):
                return self._resource_list(group, version)
        raise errors.path_not_found()

    def _ranked(self, group: str | None = None) -> list[Ranked]:
        """All group versions (of one group) with their priorities."""
        found = dict.fromkeys([(r.group, r.version) for r in self.resources()] + list(self.remote))
        return [
            Ranked(*key, *(self._priorities.get(key) or priorities.default(*key)))
            for key in found
            if (key[0] == group if group is not None else key[0])
        ]

    def _versions(self, group: str) -> list[str]:
        """The preferred one first."""
        return priorities.versions(self._ranked(group))

    def _group(self, group: str) -> dict[str, Any]:
        versions = [{"groupVersion": f"{group}/{v}", "version": v} for v in self._versions(group)]
        return {"name": group, "versions": versions, "preferredVersion": versions[0]}

    def _resource_list(self, group: str, version: str) -> dict[str, Any]:
        listed: list[dict[str, Any]] = []
        mine = [r for r in self.resources() if (r.group, r.version) == (group, version)]
        for resource in sorted(mine, key=lambda r: r.name):
            listed.append(_resource(resource))
            for name in sorted(resource.subresources):
                listed.append(_subresource(resource, name))
        group_version = f"{group}/{version}" if group else version
        named = {"kind": "APIResourceList", "apiVersion": "v1"} if group else {"kind": "APIResourceList"}
        return {**named, "groupVersion": group_version, "resources": listed}

    def _aggregate(self, path: str) -> dict[str, Any]:
        groups = [""] if path == "/api" else priorities.groups(self._ranked())
        return {
            "kind": "APIGroupDiscoveryList",
            "apiVersion": _AGGREGATED,
            "metadata": {},
            "items": [self._aggregated_group(g) for g in groups],
        }

    def _aggregated_group(self, group: str) -> dict[str, Any]:
        versions = []
        for version in self._versions(group):
            if (group, version) in self.remote:
                versions.append(self.remote[group, version])
                continue
            mine = [r for r in self.resources() if (r.group, r.version) == (group, version)]
            resources = [_aggregated_resource(r) for r in sorted(mine, key=lambda r: r.name)]
            versions.append({"version": version, "resources": resources, "freshness": "Current"})
        return {"metadata": {"name": group} if group else {}, "versions": versions}


def _is_aggregated(form: str, group_version: str, kind: str) -> bool:
    return kind == "APIGroupDiscoveryList" and group_version == _AGGREGATED


def _resource(r: Resource) -> dict[str, Any]:
    result: dict[str, Any] = {
        "name": r.name,
        "singularName": r.singular or r.kind.lower(),
        "namespaced": r.namespaced,
        "kind": r.kind,
        "verbs": r.verbs,
    }
    if r.short_names:
        result["shortNames"] = r.short_names
    if r.categories:
        result["categories"] = r.categories
    if not r.virtual:
        result["storageVersionHash"] = storage_hash(r)
    return result


def _subresource(r: Resource, name: str) -> dict[str, Any]:
    sub = subresource(r, name)
    result: dict[str, Any] = {"name": f"{r.name}/{name}", "singularName": "", "namespaced": r.namespaced}
    if sub.kind and (sub.group, sub.version) != (r.group, r.version):
        result |= {"group": sub.group, "version": sub.version} if sub.group else {"version": sub.version}
    return {**result, "kind": sub.kind or r.kind, "verbs": sub.verbs}


def _aggregated_resource(r: Resource) -> dict[str, Any]:
    kind = {"group": r.group, "version": r.version, "kind": r.kind}
    result: dict[str, Any] = {
        "resource": r.name,
        "responseKind": kind,
        "scope": "Namespaced" if r.namespaced else "Cluster",
        "singularResource": r.singular or r.kind.lower(),
        "verbs": r.verbs,
    }
    if r.short_names:
        result["shortNames"] = r.short_names
    if r.categories:
        result["categories"] = r.categories
    if r.subresources:
        result["subresources"] = [
            {
                "subresource": name,
                "responseKind": {"group": s.group, "version": s.version, "kind": s.kind} if s.kind else kind,
                "verbs": s.verbs,
            }
            for name in sorted(r.subresources)
            for s in (subresource(r, name),)
        ]
    return result
