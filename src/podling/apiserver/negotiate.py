"""Content negotiation: which of the forms that a client accepts it gets, decided as upstream decides it.

The Accept header is read leniently: what is no media range is passed over, the quality orders and never excludes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import NamedTuple

from podling.api import errors

JSON, YAML = "application/json", "application/yaml"
PROTOBUF, CBOR = "application/vnd.kubernetes.protobuf", "application/cbor"
#: What a watch's answer is called, of each form that can be streamed.
STREAMS = {JSON: JSON, PROTOBUF: f"{PROTOBUF};stream=watch", CBOR: "application/cbor-seq"}
_META = ("meta.k8s.io/v1", "meta.k8s.io/v1beta1")


class Media(NamedTuple):
    """`type` is one of the above; `as_`, `group`, `version` name another kind that the answer is to be shown as."""

    type: str = JSON
    as_: str = ""
    group: str = ""
    version: str = ""
    pretty: bool = False


PLAIN = Media()
PRETTY = Media(pretty=True)


class Clause(NamedTuple):
    """A media range of an Accept header."""

    type: str
    subtype: str
    quality: float
    parameters: dict[str, str]


#: Whether the kind that a clause's parameters name (group and version, kind) may be had in a form.
Allows = Callable[[str, str, str], bool]


def supported(cbor: bool = False) -> tuple[str, ...]:
    """The media types of bodies and answers; the first is what a client gets that does not say."""
    return (JSON, YAML, PROTOBUF, CBOR) if cbor else (JSON, YAML, PROTOBUF)


@lru_cache(maxsize=1024)
def clauses(accept: str) -> tuple[Clause, ...]:
    """The media ranges of a header, the best first."""
    found = [c for c in map(_clause, accept.split(",")) if c is not None]
    if len(found) > 12:
        return tuple(sorted(found, key=lambda c: (-c.quality, c.type == "*", c.subtype == "*")))
    # Upstream's comparison is no order; with few clauses its sort is this one.
    for end in range(1, len(found)):
        at = end
        while at > 0 and _before(found[at], found[at - 1]):
            found[at], found[at - 1] = found[at - 1], found[at]
            at -= 1
    return tuple(found)


def _before(a: Clause, b: Clause) -> bool:
    return a.quality > b.quality or (a.type != "*" and b.type == "*") or (a.subtype != "*" and b.subtype == "*")


def _clause(text: str) -> Clause | None:
    media, *rest = text.strip(" ").split(";")
    type_, _, subtype = media.partition("/")
    type_, subtype = type_.strip(" "), subtype.strip(" ")
    if "/" in subtype or not (subtype or type_ == "*"):
        return None
    quality, parameters = 1.0, {}
    for item in rest:
        name, equals, value = item.partition("=")
        if not equals or not value or "=" in value:
            continue
        if name.strip(" ") == "q":
            try:
                quality = float(value)
            except ValueError:
                quality = 0.0
        else:
            parameters[name.strip(" ")] = value.strip(" ")
    return Clause(type_, subtype or "*", quality, parameters)


def choose(accept: str, forms: Iterable[str], allows: Allows, version: str = "v1") -> Media | None:
    """The first form of the best clause whose wishes can be met; `version` is the one that `sv` may name."""
    forms = tuple(forms)
    if not accept:
        return Media(forms[0])
    for clause in clauses(accept):
        for form in forms:
            type_, _, subtype = form.partition("/")
            if clause.type not in (type_, "*") or clause.subtype not in (subtype, "*"):
                continue
            if clause.type == "*" and clause.subtype != "*":
                continue
            if (media := _meets(clause.parameters, form, allows, version)) is not None:
                return media
    return None


def _meets(parameters: dict[str, str], form: str, allows: Allows, version: str) -> Media | None:
    if parameters.get("stream") and (parameters["stream"] != "watch" or form not in STREAMS):
        return None
    if parameters.get("sv") and parameters["sv"] != version:
        return None
    kind, group, number = (parameters.get(name, "") for name in ("as", "g", "v"))
    if not allows(form, f"{group}/{number}" if group else number, kind):
        return None
    return Media(form, kind, group, number, parameters.get("pretty") == "1")


def _resources(form: str, group_version: str, kind: str) -> bool:
    if not kind and not group_version:
        return True
    if group_version not in _META:
        return False
    if kind == "Table":
        return form in (JSON, YAML)
    return kind in ("PartialObjectMetadata", "PartialObjectMetadataList")


def _custom(form: str, group_version: str, kind: str) -> bool:
    """Custom resources have no protobuf form; their metadata has."""
    return _resources(form, group_version, kind) and (form != PROTOBUF or bool(kind))


def _no_tables(form: str, group_version: str, kind: str) -> bool:
    """What is answered without being stored has no rows."""
    return kind != "Table" and _resources(form, group_version, kind)


def as_it_is(form: str, group_version: str, kind: str) -> bool:
    """What can be shown as nothing else: failures, discovery documents."""
    return not kind and not group_version


@lru_cache(maxsize=1024)
def negotiate(
    accept: str,
    pretty: bool = False,
    *,
    custom: bool = False,
    watch: bool = False,
    cbor: bool = False,
    tables: bool = True,
) -> Media:
    """The form to answer a request for a resource in. StatusError 406 if none that is accepted can be had."""
    media = choose(accept, supported(cbor), _custom if custom else _resources if tables else _no_tables)
    if media is None:
        raise not_acceptable(supported(cbor))
    if watch:
        if media.type not in STREAMS:
            streams = (STREAMS[f] if f == CBOR else f"{f};stream=watch" for f in supported(cbor) if f in STREAMS)
            raise not_acceptable(streams)
        return media._replace(pretty=False)
    return media._replace(pretty=media.type == JSON and (media.pretty or pretty))


@lru_cache(maxsize=1024)
def of_failure(accept: str, pretty: bool = False, *, cbor: bool = False) -> Media:
    """The form of a Status that says what went wrong: JSON if nothing that is accepted can be had."""
    media = choose(accept, supported(cbor), as_it_is, version="")
    return PRETTY if media is None else media._replace(pretty=media.type == JSON and (media.pretty or pretty))


def not_acceptable(forms: Iterable[str]) -> errors.StatusError:
    """406 with what would be accepted."""
    return errors.not_acceptable(f"only the following media types are accepted: {', '.join(forms)}")


def unsupported(forms: Iterable[str]) -> errors.StatusError:
    """415 with what would be read."""
    return errors.unsupported_media_type(
        f"the body of the request was in an unknown format - accepted media types include: {', '.join(forms)}"
    )


def wants_pretty(query: dict[str, str], user_agent: str) -> bool:
    """Whether a person looks at the answer."""
    if query.get("pretty"):
        return query["pretty"] in ("1", "t", "T", "TRUE", "true", "True")
    return user_agent.startswith(("curl", "Wget", "Mozilla/5.0"))


def wants_gzip(accept_encoding: str) -> bool:
    """Whether an answer may be compressed."""
    return any(token.strip() == "gzip" for token in accept_encoding.split(","))
