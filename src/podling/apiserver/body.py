"""Request bodies: JSON or YAML into objects, and upstream's words when they can't be read."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from podling.api.errors import StatusError, bad_request, unsupported_media_type
from podling.api.request import Request
from podling.apiserver.codec import Codec

JSON, YAML = "application/json", "application/yaml"
_SUPPORTED = (
    "the body of the request was in an unknown format - accepted media types include: application/json, "
    "application/yaml, application/vnd.kubernetes.protobuf"
)


def media_type(request: Request) -> str:
    """The body's type without parameters; JSON if the request does not say."""
    return request.headers.get("content-type", JSON).partition(";")[0].strip().lower() or JSON


def load(request: Request) -> Any:
    """The body as dicts and lists. StatusError 400 or 415."""
    if request.obj is not None:
        return request.obj if isinstance(request.obj, dict | list) else msgspec.to_builtins(request.obj)
    kind = media_type(request)
    if kind in (YAML, "application/x-yaml", "text/yaml", "application/apply-patch+yaml"):
        return load_yaml(request.body)
    return load_json(request.body)


def load_json(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        raise bad_request(_syntax(body, error)) from None


def _syntax(body: bytes, error: Exception) -> str:
    """Go's words for broken JSON, as far as they can be told from what went wrong."""
    text = str(error)
    if not body:
        return "EOF"
    if "truncated" in text:
        return "unexpected end of JSON input"
    if (at := re.search(r"byte (\d+)", text)) and int(at[1]) < len(body):
        char = chr(body[int(at[1])])
        return f"invalid character {char!r} looking for beginning of value"
    return text


def load_yaml(body: bytes) -> Any:
    import yaml

    try:
        return yaml.load(body, Loader=_yaml_loader())
    except yaml.YAMLError as error:
        raise bad_request(f"error converting YAML to JSON: yaml: {error}") from None


def _yaml_loader() -> Any:
    """YAML as JSON knows it: no dates, and the C parser where there is one."""
    import yaml

    global _Loader
    if _Loader is None:
        base = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

        class Loader(base):  # type: ignore[misc,valid-type]
            pass

        resolvers = {
            char: [(tag, pattern) for tag, pattern in pairs if tag != "tag:yaml.org,2002:timestamp"]
            for char, pairs in base.yaml_implicit_resolvers.items()
        }
        Loader.yaml_implicit_resolvers = resolvers
        _Loader = Loader
    return _Loader


_Loader: Any = None


def read_object(request: Request, codec: Codec, kind: str, api_version: str) -> Any:
    """The object in the body, of the given kind. StatusError 400 or 415 in upstream's words."""
    given = request.obj
    if given is not None and not isinstance(given, dict):
        # A copy: what the caller built it of (a template in a cache) must not be changed by defaults.
        obj = codec.decode(codec.encode(given))
    else:
        obj = _decode(request, codec, kind)
    if obj.kind != kind or obj.api_version != api_version:
        _check_kind(obj, kind, api_version)
    return obj


def _decode(request: Request, codec: Codec, kind: str) -> Any:
    media = media_type(request)
    data: Any = None
    try:
        if request.obj is None and media == JSON:
            return codec.decode(request.body)
        if media not in (JSON, YAML, "application/x-yaml", "text/yaml"):
            raise unsupported_media_type(_SUPPORTED)
        data = load(request)
        return codec.from_dict(data)
    except msgspec.ValidationError as error:
        data = load(request) if data is None else data
        return _decode_loosely(data, codec, kind, error, request.body)
    except msgspec.DecodeError as error:
        raise bad_request(
            f"the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; "
            f"json parse error: {_syntax(request.body, error)} ({_summary(request.body)})"
        ) from None


def _decode_loosely(data: Any, codec: Codec, kind: str, error: msgspec.ValidationError, body: bytes) -> Any:
    """Once more without nulls, which mean the same as absence."""
    if not isinstance(data, dict):
        raise bad_request(
            f"the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; json parse "
            f"error: json: cannot unmarshal {_go_kind(data)} into Go value of type struct {{ APIVersion string "
            f'"json:\\"apiVersion,omitempty\\""; Kind string "json:\\"kind,omitempty\\"" }} ({_summary(body)})'
        )
    try:
        return codec.from_dict(without_nulls(data))
    except msgspec.ValidationError as again:
        error = again
    said = data.get("kind") or kind
    version = str(data.get("apiVersion") or "").rpartition("/")[2]
    raise cannot_handle(str(said), version, kind, go_type_error(error, data, codec)) from None


def cannot_handle(said: str, version: str, kind: str, why: str) -> StatusError:
    return bad_request(f'{said} in version "{version}" cannot be handled as a {kind}: {why}')


def without_nulls(data: Any) -> Any:
    """`data` without the fields that are null."""
    if isinstance(data, dict):
        return {k: without_nulls(v) for k, v in data.items() if v is not None}
    if isinstance(data, list):
        return [without_nulls(v) for v in data]
    return data


def _check_kind(obj: Any, kind: str, api_version: str) -> None:
    said, version = obj.kind, obj.api_version
    if version and version != api_version:
        raise bad_request(
            f"the API version in the data ({version}) does not match the expected API version ({api_version})"
        )
    if said and said != kind:
        number = (version or api_version).rpartition("/")[2]
        raise cannot_handle(
            said,
            number,
            kind,
            f'no kind "{said}" is registered for version "{api_version}" in scheme "pkg/api/legacyscheme/scheme.go:30"',
        )
    obj.kind, obj.api_version = kind, api_version


_GO = {"str": "string", "int": "number", "float": "number", "bool": "bool", "object": "object", "array": "array"}
_ERROR = re.compile(r"Expected `(?P<want>[^`]*)`(?:, got `(?P<got>[^`]*)`)?(?: - at `\$\.?(?P<path>[^`]*)`)?")
_GO_TYPES = {"str": "string", "int": "int32", "bool": "bool", "float": "float64", "int | null": "int32"}


def go_type_error(error: msgspec.ValidationError, data: Any, codec: Codec) -> str:
    """A type error as Go says it: `json: cannot unmarshal string into Go struct field X.a.b of type int32`."""
    match = _ERROR.search(str(error))
    if match is None:
        return str(error)
    path = re.sub(r"\[[^\]]*\]", "", match["path"] or "").strip(".")
    want = (match["want"] or "").replace(" | null", "")
    if want == "object":
        target = "map[string]interface {}"
    elif want == "array":
        target = "[]interface {}"
    else:
        target = _GO_TYPES.get(want, want)
    got = _GO.get(match["got"] or "", match["got"] or "value")
    owner = _owner_name(codec, path)
    where = f" into Go struct field {owner}.{path} of type {target}" if path else f" into Go value of type {target}"
    return f"json: cannot unmarshal {got}{where}"


def _owner_name(codec: Codec, path: str) -> str:
    """The name of the struct that has the last field of `path`."""
    type_: Any = getattr(codec, "type", None)
    name = getattr(type_, "__name__", "")
    for part in path.split(".")[:-1]:
        type_ = _field_type(type_, part)
        if type_ is None:
            break
        name = type_.__name__
    return str(name)


def _field_type(type_: Any, wire_name: str) -> Any:
    if type_ is None:
        return None
    for field in msgspec.structs.fields(type_):
        if field.encode_name == wire_name:
            return _struct_in(field.type)
    return None


def _struct_in(annotation: Any) -> Any:
    """The struct that an annotation is about, whatever is around it."""
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        if (found := _struct_in(argument)) is not None:
            return found
    return None


def _go_kind(data: Any) -> str:
    if isinstance(data, str):
        return "string"
    if isinstance(data, bool):
        return "bool"
    if isinstance(data, list):
        return "array"
    return "number" if isinstance(data, int | float) else "null"


def _summary(body: bytes) -> str:
    if not body:
        return "<empty>"
    if body[:1] == b"{":
        text = body[:30].decode(errors="replace")
    else:
        text = body[:30].hex()
    return text + " ..." if len(body) > 30 else text
