"""Request bodies: JSON or YAML into objects, with upstream's words for what can't be read or should not be there."""

from __future__ import annotations

from typing import Any

from podling.api.errors import FieldError, StatusError, bad_request, invalid, unsupported_media_type
from podling.api.request import Request
from podling.api.struct import to_dict
from podling.apiserver import protobuf
from podling.apiserver.call import Call
from podling.apiserver.codec import Codec
from podling.machinery import schema

JSON = "application/json"
YAMLS = ("application/yaml", "application/x-yaml", "text/yaml", "application/apply-patch+yaml")
_SUPPORTED = (
    "the body of the request was in an unknown format - accepted media types include: application/json, "
    "application/yaml, application/vnd.kubernetes.protobuf"
)


def media_type(request: Request) -> str:
    """The body's type without parameters; JSON if the request does not say."""
    return request.headers.get("content-type", JSON).partition(";")[0].strip().lower() or JSON


def load(request: Request) -> Any:
    """The body as dicts and lists; duplicate keys are marked. StatusError 400."""
    if request.obj is not None:
        return request.obj if isinstance(request.obj, dict | list) else to_dict(request.obj)
    try:
        media = media_type(request)
        if media in YAMLS:
            return load_yaml(request.body)
        if media == protobuf.MEDIA_TYPE:
            return protobuf.decode(request.body)
        return schema.parse(request.body)
    except schema.DecodeError as error:
        raise bad_request(str(error)) from None


def load_yaml(body: bytes) -> Any:
    """YAML as JSON knows it. Raises schema.DecodeError."""
    import yaml

    try:
        return yaml.load(body, Loader=_yaml_loader())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise schema.DecodeError(f"error converting YAML to JSON: yaml: {error}") from None


def has_duplicates(value: Any) -> bool:
    """Whether a map in what `load` returned had a key twice."""
    if isinstance(value, dict):
        return isinstance(value, schema.WithDuplicates) or any(map(has_duplicates, value.values()))
    return isinstance(value, list) and any(map(has_duplicates, value))


def duplicate_keys(body: bytes) -> list[tuple[int, str]]:
    """The keys that a YAML document (or JSON, which is YAML) has again in the same map, with their lines."""
    import yaml

    found: list[tuple[int, str]] = []

    def walk(node: Any) -> None:
        if isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in node.value:
                if isinstance(key, yaml.ScalarNode):
                    if key.value in seen:
                        found.append((key.start_mark.line + 1, key.value))
                    seen.add(key.value)
                walk(value)
        elif isinstance(node, yaml.SequenceNode):
            for item in node.value:
                walk(item)

    walk(yaml.compose(body, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    return sorted(found)


def _yaml_loader() -> Any:
    """No dates, keys that are strings, duplicate keys marked; the C parser where there is one."""
    global _Loader
    if _Loader is not None:
        return _Loader
    import yaml

    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    def mapping(loader: Any, node: Any) -> dict[str, Any]:
        loader.flatten_mapping(node)
        pairs = [(loader.construct_object(k, True), loader.construct_object(v, True)) for k, v in node.value]
        found = {_key(k): v for k, v in pairs}
        if len(found) == len(pairs):
            return found
        keys = [_key(k) for k, _ in pairs]
        marked = schema.WithDuplicates(found)
        marked.duplicates = tuple(k for k in found if keys.count(k) > 1)
        return marked

    class Loader(base):  # type: ignore[misc]
        yaml_implicit_resolvers = {
            first: [(tag, pattern) for tag, pattern in pairs if tag != "tag:yaml.org,2002:timestamp"]
            for first, pairs in base.yaml_implicit_resolvers.items()
        }

    Loader.add_constructor("tag:yaml.org,2002:map", mapping)
    _Loader = Loader
    return Loader


_Loader: Any = None


def _key(key: Any) -> str:
    if isinstance(key, bool):
        return "true" if key else "false"
    return "null" if key is None else str(key)


def directive(query: dict[str, str], options: str = "CreateOptions") -> str:
    """fieldValidation: Ignore, Warn or Strict. StatusError 422."""
    value = query.get("fieldValidation", "")
    if value in ("", "Ignore", "Warn", "Strict"):
        return value or "Warn"
    why = f'Unsupported value: "{value}": supported values: "", "Ignore", "Strict", "Warn"'
    raise invalid(options, "meta.k8s.io", "", [FieldError("FieldValueNotSupported", "fieldValidation", why)])


def read_object(call: Call, codec: Codec, kind: str, api_version: str) -> Any:
    """The object in the call's body, of the given kind. StatusError 400 or 415 in upstream's words."""
    request = call.request
    given = request.obj
    if given is not None and not isinstance(given, dict):
        # A copy: what the caller built it of (a template in a cache) must not be changed by defaults.
        obj = codec.decode(codec.encode(given))
        obj.kind, obj.api_version = kind, api_version
    else:
        obj = _read(call, codec, kind, api_version)
    return obj


def _read(call: Call, codec: Codec, kind: str, api_version: str) -> Any:
    request = call.request
    media = media_type(request)
    if request.obj is None and media not in (JSON, protobuf.MEDIA_TYPE) and media not in YAMLS:
        raise unsupported_media_type(_SUPPORTED)
    wanted = directive(request.query)
    raw: Any = None
    try:
        if request.obj is None and media == JSON:
            obj = codec.read(request.body)
            if wanted != "Ignore":
                raw = schema.parse(request.body)
        elif request.obj is None and media == protobuf.MEDIA_TYPE:
            raw = protobuf.decode(request.body)
            obj, wanted = codec.convert(raw), "Ignore"
        else:
            raw = load(request)
            if not isinstance(raw, dict):
                raise _unrecognized(kind, "couldn't get version/kind; json parse error: not an object", request.body)
            obj = codec.convert(raw)
    except schema.DecodeError as error:
        raise _undecodable(error, kind, api_version, request.body, raw) from None
    _check_kind(obj, kind, api_version)
    if wanted != "Ignore" and (problems := codec.problems(raw)):
        report(call, wanted, problems, kind, api_version)
    return obj


def report(call: Call, wanted: str, problems: list[str], kind: str, api_version: str) -> None:
    """Unknown and duplicate fields: warnings, or a refusal if fieldValidation is Strict."""
    if wanted == "Strict":
        raise cannot_handle(kind, api_version, kind, str(schema.StrictDecodeError(problems)))
    for problem in problems:
        call.warn(problem)


def cannot_handle(said: str, api_version: str, kind: str, why: str) -> StatusError:
    version = api_version.rpartition("/")[2]
    return bad_request(f'{said} in version "{version}" cannot be handled as a {kind}: {why}')


def _undecodable(error: schema.DecodeError, kind: str, api_version: str, body: bytes, raw: Any) -> StatusError:
    """The wrong kind explains a mismatch better than the mismatch does."""
    if raw is None:
        try:
            raw = schema.parse(body)
        except schema.DecodeError:
            return _unrecognized(kind, str(error), body)
    if not isinstance(raw, dict):
        return _unrecognized(kind, f"couldn't get version/kind; json parse error: {error}", body)
    said, version = raw.get("kind"), raw.get("apiVersion")
    if isinstance(said, str) and isinstance(version, str):
        try:
            _check_names(said, version, kind, api_version)
        except StatusError as better:
            return better
    return cannot_handle(said if isinstance(said, str) and said else kind, api_version, kind, str(error))


def _check_kind(obj: Any, kind: str, api_version: str) -> None:
    if obj.kind != kind or obj.api_version != api_version:
        _check_names(obj.kind, obj.api_version, kind, api_version)
        obj.kind, obj.api_version = kind, api_version


def _check_names(said: str, version: str, kind: str, api_version: str) -> None:
    if version and version != api_version:
        raise bad_request(
            f"the API version in the data ({version}) does not match the expected API version ({api_version})"
        )
    if said and said != kind:
        why = (
            f'no kind "{said}" is registered for version "{api_version}" in scheme "pkg/api/legacyscheme/scheme.go:30"'
        )
        raise cannot_handle(said, api_version, kind, why)


def _unrecognized(kind: str, why: str, body: bytes) -> StatusError:
    return bad_request(f"the object provided is unrecognized (must be of type {kind}): {why} ({_summary(body)})")


def _summary(body: bytes) -> str:
    if not body:
        return "<empty>"
    text = body[:30].decode(errors="replace") if body[:1] == b"{" else body[:30].hex()
    return text + " ..." if len(body) > 30 else text
