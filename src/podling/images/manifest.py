"""Manifests, indexes and image configurations (OCI image-spec v1.1, Docker schema 2), and the choice of a platform."""

from __future__ import annotations

import hashlib
import platform as _platform
from datetime import datetime
from typing import Any

import msgspec

from podling.images.base import ImageConfig, ImageError

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_SCHEMA1 = (
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
    "application/vnd.docker.distribution.manifest.v1+json",
)

MANIFESTS = (OCI_MANIFEST, DOCKER_MANIFEST)
INDEXES = (OCI_INDEX, DOCKER_LIST)

_ARCHITECTURES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm",
    "armv6l": "arm",
    "i686": "386",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
    "riscv64": "riscv64",
}
_DEFAULT_VARIANTS = {"arm64": "v8", "arm": "v7"}


class InvalidManifest(ImageError):
    """What came is not a manifest this store can use."""


class Platform(msgspec.Struct, frozen=True, rename={"os_version": "os.version"}, omit_defaults=True):
    architecture: str = ""
    os: str = ""
    variant: str = ""
    os_version: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


class Descriptor(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """OCI descriptor: what a blob is, its digest and its size in bytes."""

    media_type: str = ""
    digest: str
    size: int = 0
    platform: Platform | None = None
    annotations: dict[str, str] | None = None


class Manifest(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    config: Descriptor
    layers: tuple[Descriptor, ...] = ()
    schema_version: int = 2
    media_type: str = OCI_MANIFEST


class Index(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    manifests: tuple[Descriptor, ...] = ()
    schema_version: int = 2
    media_type: str = OCI_INDEX


class _RootFS(msgspec.Struct, frozen=True):
    diff_ids: tuple[str, ...] = ()
    type: str = "layers"


class _RunConfig(msgspec.Struct, frozen=True, rename="pascal"):
    user: str | None = None
    env: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    working_dir: str | None = None
    labels: dict[str, str] | None = None
    volumes: dict[str, Any] | None = None
    exposed_ports: dict[str, Any] | None = None
    stop_signal: str | None = None


class ConfigFile(msgspec.Struct, frozen=True, kw_only=True):
    """An image's configuration, as much of it as podling reads (image-spec config.md)."""

    architecture: str = ""
    os: str = "linux"
    variant: str = ""
    created: str | None = None
    config: _RunConfig | None = None
    rootfs: _RootFS = _RootFS()

    def image_config(self) -> ImageConfig:
        run = self.config or _RunConfig()
        return ImageConfig(
            entrypoint=run.entrypoint or (),
            cmd=run.cmd or (),
            env=run.env or (),
            working_dir=run.working_dir or "",
            user=run.user or "",
            volumes=tuple(sorted(run.volumes or ())),
            exposed_ports=tuple(sorted(run.exposed_ports or ())),
            stop_signal=run.stop_signal or "",
            labels=run.labels or {},
        )

    def created_at(self) -> datetime | None:
        if not self.created:
            return None
        try:
            return msgspec.convert(self.created, datetime)
        except msgspec.ValidationError:
            return None


class _Peek(msgspec.Struct, rename="camel"):
    media_type: str = ""
    manifests: list[Any] | None = None
    layers: list[Any] | None = None
    schema_version: int = 0


_peek = msgspec.json.Decoder(_Peek)
_manifest = msgspec.json.Decoder(Manifest)
_index = msgspec.json.Decoder(Index)
_config = msgspec.json.Decoder(ConfigFile)


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def decode(data: bytes, media_type: str = "") -> Manifest | Index:
    """A manifest or index, told apart by its media type or, without one, by its fields. Raises InvalidManifest."""
    try:
        peek = _peek.decode(data)
        kind = peek.media_type or media_type
        if kind in DOCKER_SCHEMA1 or peek.schema_version == 1:
            raise InvalidManifest(
                f'media type "{kind or DOCKER_SCHEMA1[0]}" is no longer supported, '
                f'please rebuild the image as "{DOCKER_MANIFEST}" or "{OCI_MANIFEST}"'
            )
        if kind in INDEXES or (peek.manifests is not None and kind not in MANIFESTS):
            return _index.decode(data)
        if kind in MANIFESTS or peek.layers is not None:
            return _manifest.decode(data)
    except msgspec.DecodeError as error:
        raise InvalidManifest(f"the manifest is no valid JSON manifest: {error}") from None
    raise InvalidManifest(f"the manifest has the unknown media type {kind!r}")


def decode_config(data: bytes) -> ConfigFile:
    """Raises InvalidManifest."""
    try:
        return _config.decode(data)
    except msgspec.DecodeError as error:
        raise InvalidManifest(f"the image configuration is no valid JSON: {error}") from None


def host_platform() -> Platform:
    """This machine's, such as linux/amd64."""
    architecture = _ARCHITECTURES.get(_platform.machine(), _platform.machine())
    variant = "v6" if _platform.machine() == "armv6l" else _DEFAULT_VARIANTS.get(architecture, "")
    return Platform(architecture=architecture, os="linux", variant=variant)


def choose(index: Index, wanted: Platform) -> Descriptor | None:
    """The best manifest for a platform: the highest variant not above it. None if there is none.

    An entry without a platform is taken only if it is the only one; attestations (unknown/unknown) never are.
    """
    candidates = [(rank, d) for d in index.manifests if (rank := _rank(d.platform, wanted)) is not None]
    if candidates:
        return max(candidates, key=lambda pair: pair[0])[1]
    if len(index.manifests) == 1 and index.manifests[0].platform is None:
        return index.manifests[0]
    return None


def _rank(offered: Platform | None, wanted: Platform) -> int | None:
    if offered is None or offered.os != wanted.os or offered.architecture != wanted.architecture:
        return None
    default = _DEFAULT_VARIANTS.get(wanted.architecture, "")
    have, want = offered.variant or default, wanted.variant or default
    if not have.startswith("v") or not want.startswith("v"):
        return 0 if have == want or not have else (-1 if not want else None)
    try:
        level, limit = float(have[1:]), float(want[1:])
    except ValueError:
        return 0 if have == want else None
    return int(level * 10) if level <= limit else None
