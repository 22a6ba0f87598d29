"""Content negotiation: which of the forms that a client accepts it gets."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from podling.api import errors

JSON, YAML = "application/json", "application/yaml"
_ACCEPTED = "application/json, application/yaml, application/vnd.kubernetes.protobuf"
_META_GROUP = "meta.k8s.io"


class Media(NamedTuple):
    """`type` is JSON or YAML; `as_`, `group`, `version` name another kind that the answer is to be shown as."""

    type: str = JSON
    as_: str = ""
    group: str = ""
    version: str = ""
    pretty: bool = False


PLAIN = Media()


@lru_cache(maxsize=1024)
def clauses(accept: str) -> tuple[tuple[str, dict[str, str]], ...]:
    """Media types with their parameters, the best first."""
    found = []
    for order, clause in enumerate(accept.split(",")):
        kind, *rest = [p.strip() for p in clause.split(";")]
        parameters = dict(p.split("=", 1) for p in rest if "=" in p)
        try:
            quality = float(parameters.pop("q", "1"))
        except ValueError:
            quality = 0.0
        if quality > 0 and kind:
            found.append((-quality, order, kind.lower(), parameters))
    return tuple((kind, parameters) for _, _, kind, parameters in sorted(found, key=lambda f: f[:2]))


@lru_cache(maxsize=1024)
def negotiate(accept: str, pretty: bool = False, tables: bool = True) -> Media:
    """The form to answer in. StatusError 406 if none that is accepted can be had."""
    if not accept:
        return PLAIN._replace(pretty=pretty)
    for kind, parameters in clauses(accept):
        if kind in ("application/json", "*/*", "application/*"):
            type_ = JSON
        elif kind in ("application/yaml", "application/x-yaml", "text/yaml"):
            type_ = YAML
        else:
            continue
        as_ = parameters.get("as", "")
        if not as_:
            return Media(type_, pretty=pretty)
        if (
            parameters.get("g", "") == _META_GROUP
            and parameters.get("v", "") in ("v1", "v1beta1")
            and (as_ in ("PartialObjectMetadata", "PartialObjectMetadataList") or (as_ == "Table" and tables))
        ):
            return Media(type_, as_, _META_GROUP, parameters["v"], pretty)
    raise errors.not_acceptable(f"only the following media types are accepted: {_ACCEPTED}")


def wants_pretty(query: dict[str, str], user_agent: str) -> bool:
    """Whether a person looks at the answer."""
    if "pretty" in query:
        return query["pretty"].lower() not in ("false", "0")
    return user_agent.startswith(("curl", "Wget", "Mozilla/5.0"))
