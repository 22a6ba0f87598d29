"""How a webhook is reached, by URL or through a Service: rules of admission and conversion webhooks."""

from __future__ import annotations

import urllib.parse
from collections.abc import Sequence

from podling.api import names
from podling.machinery.validation import Findings, Path, each, invalid, required

_FORM = "; desired format: https://host[/path]"


def url(text: str, path: Path) -> Findings:
    """`https://host[/path]`, nothing more."""
    try:
        parts = urllib.parse.urlsplit(text)
    except ValueError as error:
        return [required(path, f'url must be a valid URL: parse "{text}": {error}{_FORM}')]
    found: Findings = []
    if parts.scheme != "https":
        found.append(invalid(path, parts.scheme, f"'https' is the only allowed URL scheme{_FORM}"))
    user, at, host = parts.netloc.rpartition("@")
    if not host:
        found.append(invalid(path, "", f"host must be specified{_FORM}"))
    if at:
        found.append(invalid(path, user, "user information is not permitted in the URL"))
    if parts.fragment:
        found.append(invalid(path, parts.fragment, "fragments are not permitted in the URL"))
    if parts.query:
        found.append(invalid(path, parts.query, "query parameters are not permitted in the URL"))
    return found


def service(name: str, namespace: str, url_path: str | None, port: int | None, path: Path) -> Findings:
    """A Service's port and a path on it."""
    found: Findings = []
    # Upstream mixes the two up: an empty namespace is reported at `name`, an empty name at `namespace`.
    if not namespace:
        found.append(required(path.child("name")))
    if not name:
        found.append(required(path.child("namespace")))
    if problems := names.port_number(port or 0):
        found.append(invalid(path.child("port"), port or 0, f"port is not valid: {', '.join(problems)}"))
    return found + (_url_path(url_path, path.child("path")) if url_path else [])


def _url_path(text: str, path: Path) -> Findings:
    if text == "/":
        return []
    if text == "//":
        return [invalid(path, text, "segment[0] may not be empty")]
    found: Findings = []
    if not text.startswith("/"):
        found.append(invalid(path, text, "must start with a '/'"))
    for index, segment in enumerate(text[1:].removesuffix("/").split("/")):
        if not segment:
            found.append(invalid(path, text, f"segment[{index}] may not be empty"))
        else:
            found += each(path, text, [f"segment[{index}]: {p}" for p in names.dns_subdomain(segment)])
    return found


_ACCEPTED = ("v1", "v1beta1")


def review_versions(versions: Sequence[str], path: Path, *, recognized: bool, detail: str) -> Findings:
    """Versions of reviews that the webhook reads; `recognized` if the server must speak one. `detail` if missing."""
    if not versions:
        return [required(path, detail)]
    found: Findings = []
    for index, version in enumerate(versions):
        if version in versions[:index]:
            found.append(invalid(path.index(index), version, "duplicate version"))
        else:
            found += each(path.index(index), version, names.dns_1035_label(version))
    if recognized and not set(_ACCEPTED) & set(versions):
        found.append(invalid(path, versions, f"must include at least one of {', '.join(_ACCEPTED)}"))
    return found
