"""Names of images: parsed, normalised and printed as Docker, containerd and the kubelet do.

`busybox` is docker.io/library/busybox:latest. The grammar and the messages are github.com/distribution/reference's,
because they end up in events and container states (InvalidImageName).
"""

from __future__ import annotations

import re

import msgspec

from podling.images.base import InvalidReference

DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"
_LEGACY_DOMAIN = "index.docker.io"
_OFFICIAL_PREFIX = "library/"
_NAME_LENGTH_MAX = 255
_DIGEST_LENGTHS = {"sha256": 64, "sha384": 96, "sha512": 128}

_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"
_REFERENCE = re.compile(
    rf"(?:({_DOMAIN})/)?({_COMPONENT}(?:/{_COMPONENT})*)(?::(\w[\w.-]{{0,127}}))?(?:@({_DIGEST}))?", re.ASCII
)
_IDENTIFIER = re.compile(r"[a-f0-9]{64}")
_IMAGE_ID = re.compile(r"(?:sha256:)?([a-f0-9]{64})")


class Reference(msgspec.Struct, frozen=True):
    """A normalised reference. `domain` is the registry's host and port, `path` the repository in it."""

    domain: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """`docker.io/library/busybox`, without tag and digest."""
        return f"{self.domain}/{self.path}"

    @property
    def tagged(self) -> str:
        """`docker.io/library/busybox:1`, or "" without a tag."""
        return f"{self.name}:{self.tag}" if self.tag else ""

    @property
    def identifier(self) -> str:
        """What a registry is asked for: the digest, else the tag."""
        return self.digest or self.tag or DEFAULT_TAG

    def with_digest(self, digest: str) -> Reference:
        return Reference(self.domain, self.path, self.tag, digest)

    def __str__(self) -> str:
        return f"{self.name}{f':{self.tag}' if self.tag else ''}{f'@{self.digest}' if self.digest else ''}"


def parse(text: str) -> Reference:
    """`text` as a reference with the defaults filled in; `latest` is the tag where neither tag nor digest is given.

    Raises InvalidReference with the distribution's words, such as `invalid reference format`.
    """
    if _IDENTIFIER.fullmatch(text):
        raise InvalidReference(f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
    domain, remainder = _split_domain(text)
    repository = remainder.split(":", 1)[0]
    if repository.lower() != repository:
        raise InvalidReference(f"invalid reference format: repository name ({repository}) must be lowercase")
    match = _REFERENCE.fullmatch(f"{domain}/{remainder}")
    if match is None or not match[1]:
        raise InvalidReference("invalid reference format")
    path, tag, digest = match[2], match[3] or "", match[4] or ""
    if len(path) > _NAME_LENGTH_MAX:
        raise InvalidReference(f"repository name must not be more than {_NAME_LENGTH_MAX} characters")
    if digest:
        check_digest(digest)
    return Reference(domain, path, tag if tag or digest else DEFAULT_TAG, digest)


def check_digest(digest: str) -> str:
    """`digest` itself if it is well-formed and of a known algorithm; else InvalidReference in go-digest's words."""
    algorithm, separator, encoded = digest.partition(":")
    if not separator or not encoded:
        raise InvalidReference("invalid checksum digest format")
    if algorithm not in _DIGEST_LENGTHS:
        raise InvalidReference("unsupported digest algorithm")
    if len(encoded) != _DIGEST_LENGTHS[algorithm]:
        raise InvalidReference("invalid checksum digest length")
    if not re.fullmatch(r"[a-f0-9]+", encoded):
        raise InvalidReference("invalid checksum digest format")
    return digest


def image_id(text: str) -> str | None:
    """`sha256:<hex>` if `text` is an image id, with or without the algorithm; else None."""
    match = _IMAGE_ID.fullmatch(text)
    return f"sha256:{match[1]}" if match else None


def familiar(reference: Reference) -> str:
    """The short form that people write: `busybox:latest` for docker.io/library/busybox:latest."""
    text = str(reference)
    return text.removeprefix(f"{DEFAULT_DOMAIN}/").removeprefix(_OFFICIAL_PREFIX) if _is_default(reference) else text


def _is_default(reference: Reference) -> bool:
    return reference.domain == DEFAULT_DOMAIN


def _split_domain(text: str) -> tuple[str, str]:
    """The registry and the rest. The first part is a registry if it has a dot, a port or capitals, or is localhost."""
    first, slash, rest = text.partition("/")
    is_host = bool(slash) and (any(c in first for c in ".:") or first == "localhost" or first.lower() != first)
    domain, remainder = (first, rest) if is_host else (DEFAULT_DOMAIN, text)
    if domain == _LEGACY_DOMAIN:
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in remainder:
        remainder = _OFFICIAL_PREFIX + remainder
    return domain, remainder
