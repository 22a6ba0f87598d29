"""The parameters of a container's log (core/v1 PodLogOptions), as the API server and the node agent read them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import msgspec

from podling.api import errors, times
from podling.api.errors import FieldError
from podling.api.numbers import NumberError, parse_int

STREAMS = ("All", "Stderr", "Stdout")


class LogQuery(msgspec.Struct, frozen=True, kw_only=True):
    """`since_seconds` counts back from when the log is read; `stream` is All, Stdout or Stderr."""

    container: str = ""
    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    since_seconds: int | None = None
    since_time: datetime | None = None
    tail_lines: int | None = None
    limit_bytes: int | None = None
    stream: str = "All"


def parse(query: Mapping[str, str]) -> LogQuery:
    """StatusError 400 for what is no number or time, 422 for what makes no sense, in upstream's words."""
    result = LogQuery(
        container=query.get("container", ""),
        follow=_flag(query, "follow"),
        previous=_flag(query, "previous"),
        timestamps=_flag(query, "timestamps"),
        since_seconds=_integer(query, "sinceSeconds"),
        since_time=_time(query, "sinceTime"),
        tail_lines=_integer(query, "tailLines"),
        limit_bytes=_integer(query, "limitBytes"),
        stream=query.get("stream") or "All",
    )
    findings = validate(result)
    if findings:
        raise errors.invalid("PodLogOptions", "", "", findings)
    return result


def to_query(query: LogQuery) -> dict[str, str]:
    """The other way, without the container: that is part of the node agent's path."""
    result: dict[str, str] = {}
    for name, flag in (("follow", query.follow), ("previous", query.previous), ("timestamps", query.timestamps)):
        if flag:
            result[name] = "true"
    for name, number in (
        ("sinceSeconds", query.since_seconds),
        ("tailLines", query.tail_lines),
        ("limitBytes", query.limit_bytes),
    ):
        if number is not None:
            result[name] = str(number)
    if query.since_time is not None:
        result["sinceTime"] = times.format(query.since_time)
    if query.stream != "All":
        result["stream"] = query.stream
    return result


def validate(query: LogQuery) -> list[FieldError]:
    """What makes no sense about it."""
    findings = []
    if query.tail_lines is not None and query.tail_lines < 0:
        findings.append(_invalid("tailLines", query.tail_lines, "must be greater than or equal to 0"))
    if query.limit_bytes is not None and query.limit_bytes < 1:
        findings.append(_invalid("limitBytes", query.limit_bytes, "must be greater than 0"))
    if query.since_seconds is not None and query.since_time is not None:
        body = "Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified"
        findings.append(FieldError("FieldValueForbidden", "", body))
    elif query.since_seconds is not None and query.since_seconds < 1:
        findings.append(_invalid("sinceSeconds", query.since_seconds, "must be greater than 0"))
    if query.stream not in STREAMS:
        known = ", ".join(f'"{s}"' for s in STREAMS)
        body = f'Unsupported value: "{query.stream}": supported values: {known}'
        findings.append(FieldError("FieldValueNotSupported", "stream", body))
    elif query.stream != "All" and query.tail_lines is not None:
        body = "Forbidden: `tailLines` and specific `stream` are mutually exclusive for now"
        findings.append(FieldError("FieldValueForbidden", "", body))
    return findings


def _invalid(field: str, value: int, why: str) -> FieldError:
    return FieldError("FieldValueInvalid", field, f"Invalid value: {value}: {why}")


def _flag(query: Mapping[str, str], name: str) -> bool:
    return name in query and query[name].lower() not in ("false", "0")


def _integer(query: Mapping[str, str], name: str) -> int | None:
    text = query.get(name)
    if text is None:
        return None
    try:
        return parse_int(text)
    except NumberError as error:
        raise errors.bad_request(str(error)) from None


def _time(query: Mapping[str, str], name: str) -> datetime | None:
    text = query.get(name)
    if not text:
        return None
    try:
        return times.parse(text)
    except ValueError:
        raise errors.bad_request(
            f'parsing time "{text}" as "2006-01-02T15:04:05Z07:00": cannot parse "{text}" as "2006"'
        ) from None
