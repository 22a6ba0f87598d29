"""OpenAPI operations of paths that are no resources: discovery, the version, the issuer of ServiceAccount tokens."""

from __future__ import annotations

from collections.abc import Iterable

from podling.api import registry
from podling.apiserver.negotiate import JSON, PROTOBUF, YAML, supported
from podling.apiserver.openapi.paths import Kind, Operation, group_name, identifier

#: A kind without a group or version: the name of a generated class.
VERSION: Kind = ("", "", "Info")
_DISCOVERY = (JSON, YAML, PROTOBUF)
_ISSUER = {
    "/.well-known/openid-configuration": (
        "getServiceAccountIssuerOpenIDConfiguration",
        "WellKnown",
        "get service account issuer OpenID configuration, also known as the 'OIDC discovery doc'",
        JSON,
    ),
    "/openid/v1/jwks": (
        "getServiceAccountIssuerOpenIDKeyset",
        "openid",
        "get service account issuer OpenID JSON Web Key Set (contains public token verification keys)",
        "application/jwk-set+json",
    ),
}


def of(group_versions: Iterable[tuple[str, str]], served: Iterable[str], *, cbor: bool) -> dict[str, Operation]:
    """Operations by path: of the built-in ones among the groups, and of what else is `served`."""
    built_in = {(r.group, r.version) for r in registry.BUILTIN}
    found = {"/apis/": _get("getAPIVersions", "apis", "get available API versions", "APIGroupList", _DISCOVERY)}
    for group, version in group_versions:
        if (group, version) not in built_in:
            continue
        name = group_name(group)
        id_, tag = identifier(name, capital=True), identifier(name, capital=False)
        if group:
            text = "get information of a group"
            found[f"/apis/{group}/"] = _get(f"get{id_}APIGroup", tag, text, "APIGroup", _DISCOVERY)
        else:
            text = "get available API versions"
            found["/api/"] = _get("getCoreAPIVersions", tag, text, "APIVersions", _DISCOVERY)
        root = f"/apis/{group}" if group else "/api"
        number = identifier(version, capital=True)
        found[f"{root}/{version}/"] = _get(
            f"get{id_}{number}APIResources", f"{tag}_{version}", "get available resources", "APIResourceList",
            supported(cbor),
        )  # fmt: skip
    text = "get the version information for this server"
    found["/version/"] = _get("getCodeVersion", "version", text, "", (JSON,))._replace(answer=VERSION)
    for path, (id_, tag, text, form) in _ISSUER.items():
        if path in served:
            found[f"{path}/"] = _get(id_, tag, text, "", (form,))._replace(answer=None, reads=())
    return found


def _get(id_: str, tag: str, text: str, answer: str, forms: tuple[str, ...]) -> Operation:
    kind: Kind = ("", "v1", answer)
    return Operation("get", "", id_, tag, kind, None, kind, (), (200,), text, reads=forms, answers=forms)
