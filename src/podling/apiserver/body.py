"""Request bodies into objects, with upstream's words for what can't be read or should not be there."""

from __future__ import annotations

from typing import Any

from podling.api.errors import FieldError, StatusError, bad_request, invalid
from podling.apiserver.call import Call
from podling.apiserver.codec import Codec
from podling.apiserver.content import decoded, load, media_type
from podling.apiserver.negotiate import JSON, PROTOBUF, supported, unsupported
from podling.machinery import schema


def check_media(call: Call, *, custom: bool = False) -> None:
    """StatusError 415 unless the body is in a form that can be read. Custom resources have no protobuf form."""
    forms = supported(call.app.cbor)
    if custom:
        forms = tuple(form for form in forms if form != PROTOBUF)
    if call.request.obj is None and media_type(call.request) not in forms:
        raise unsupported(forms)


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
    check_media(call, custom=call.served.publish is not None and call.info.subresource != "scale")
    wanted = directive(request.query)
    raw: Any = None
    try:
        if request.obj is not None:
            raw = load(request)
            obj = codec.convert(raw)
        elif (media := media_type(request)) == JSON:
            obj = codec.read(request.body)
            if wanted != "Ignore":
                raw = schema.parse(request.body)
        else:
            raw = decoded(request, kind, api_version)
            if not isinstance(raw, dict):
                raise _unrecognized(kind, "couldn't get version/kind; json parse error: not an object", request.body)
            obj = codec.convert(raw)
            if media == PROTOBUF:
                # What is not known can't be told from what is not there.
                wanted = "Ignore"
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
    if isinstance(error, schema.UnreadableError):
        if error.kind:
            return cannot_handle(error.kind, error.version, kind, str(error))
        return _unrecognized(kind, str(error), body)
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
