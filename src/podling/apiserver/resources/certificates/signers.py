"""Names of signers, `example.com/server`, and PEM as signers write it: what the kinds of the group share."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator

import msgspec

from podling.api import names
from podling.machinery.validation import Findings, Path, invalid, quote, required, too_long

_MAX_DOMAIN = 253
_MAX_NAME = _MAX_DOMAIN + 1 + 253 + 1 + 63
_BLOCK = re.compile(r"-----BEGIN ([^\n]*?)-----[ \t]*\r?\n(.*?)-----END \1-----", re.DOTALL)


def signer_name(name: str, path: Path) -> Findings:
    """A domain, a slash, and a path of one segment."""
    if not name:
        return [required(path)]
    parts = name.split("/")
    if len(parts) != 2:
        return [invalid(path, name, "must be a fully qualified domain and path of the form 'example.com/signer-name'")]
    domain, rest = parts
    found: Findings = [too_long(path, _MAX_DOMAIN)] if len(domain) > _MAX_DOMAIN else []
    for label in domain.split("."):
        if problems := names.dns_label(label):
            found += [invalid(path, domain, f"validating label {quote(label)}: {p}") for p in problems]
            break
    if "." not in domain:
        found.append(invalid(path, domain, "should be a domain with at least two segments separated by dots"))
    for label in rest.split("."):
        if problems := names.dns_subdomain(label):
            found += [invalid(path, rest, f"validating label {quote(label)}: {p}") for p in problems]
            break
    if len(name) > _MAX_NAME:
        found.append(too_long(path, _MAX_NAME))
    return found


def is_native(name: str) -> bool:
    """Whether the signer is one of Kubernetes itself."""
    domain = name.partition("/")[0]
    return domain == "kubernetes.io" or domain.endswith(".kubernetes.io")


class Block(msgspec.Struct, frozen=True):
    """One block of a PEM file; `der` is empty if it can't be decoded."""

    type: str
    headers: bool
    der: bytes


def blocks(text: str) -> Iterator[Block]:
    """The PEM blocks in a text, in order; what stands between them is skipped."""
    for match in _BLOCK.finditer(text):
        kind, body = match.groups()
        headers, separator, data = body.replace("\r", "").partition("\n\n")
        has_headers = bool(separator) and ":" in headers
        try:
            der = base64.b64decode("".join((data if has_headers else body).split()), validate=True)
        except ValueError:
            continue
        yield Block(kind, has_headers, der)
