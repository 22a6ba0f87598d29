"""Images made by hand, as OCI layouts: what tests push, archive and break."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import zstandard

OCI = "application/vnd.oci.image"


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def member(name: str, data: bytes | None = None, **attributes: Any) -> tuple[tarfile.TarInfo, bytes | None]:
    info = tarfile.TarInfo(name)
    info.mode = 0o644 if data is not None else 0o755
    info.type = tarfile.REGTYPE if data is not None else tarfile.DIRTYPE
    info.size = len(data or b"")
    for key, value in attributes.items():
        setattr(info, key, value)
    return info, data


def tar(*members: tuple[tarfile.TarInfo, bytes | None]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data) if data is not None else None)
    return out.getvalue()


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    "+gzip": lambda data: gzip.compress(data, mtime=0),
    "+zstd": lambda data: zstandard.ZstdCompressor().compress(data),
}


class Built:
    """Blobs of one image by digest; `target` is the descriptor to point at."""

    def __init__(self, layers: Sequence[bytes], *, compression: str = "+gzip", **config: Any) -> None:
        self.blobs: dict[str, bytes] = {}
        packed = [COMPRESSIONS[compression](layer) for layer in layers]
        self.diff_ids = [digest(layer) for layer in layers]
        document = {
            "architecture": "amd64",
            "os": "linux",
            "created": "2024-01-02T03:04:05Z",
            "config": {"Cmd": ["/bin/sh"], "Env": ["A=1"], **config},
            "rootfs": {"type": "layers", "diff_ids": self.diff_ids},
        }
        self.config = self.put(json.dumps(document).encode(), f"{OCI}.config.v1+json")
        self.layers = [self.put(data, f"{OCI}.layer.v1.tar{compression}") for data in packed]
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{OCI}.manifest.v1+json",
            "config": self.config,
            "layers": self.layers,
        }
        self.target = self.put(json.dumps(manifest).encode(), f"{OCI}.manifest.v1+json")

    def put(self, data: bytes, media_type: str) -> dict[str, Any]:
        self.blobs[digest(data)] = data
        return {"mediaType": media_type, "digest": digest(data), "size": len(data)}

    @property
    def id(self) -> str:
        return str(self.config["digest"])


def index_of(*images: tuple[Built, str]) -> Built:
    """An index over images with their architectures; its blobs are theirs and its own."""
    first = images[0][0]
    entries = [
        {**image.target, "platform": {"os": "linux", "architecture": architecture}} for image, architecture in images
    ]
    whole = Built.__new__(Built)
    whole.blobs = {key: data for image, _ in images for key, data in image.blobs.items()}
    whole.config, whole.layers, whole.diff_ids = first.config, first.layers, first.diff_ids
    document = {"schemaVersion": 2, "mediaType": f"{OCI}.index.v1+json", "manifests": entries}
    whole.target = whole.put(json.dumps(document).encode(), f"{OCI}.index.v1+json")
    return whole


def write_layout(folder: Path, *images: tuple[Built, str]) -> Path:
    """An OCI layout directory with images and their names."""
    (folder / "blobs" / "sha256").mkdir(parents=True)
    entries = []
    for image, name in images:
        for key, data in image.blobs.items():
            (folder / "blobs" / "sha256" / key.partition(":")[2]).write_bytes(data)
        annotations = {"org.opencontainers.image.ref.name": name} if name else {}
        entries.append({**image.target, "annotations": annotations})
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))
    return folder


def simple(text: str = "hello", *, compression: str = "+gzip", **config: Any) -> Built:
    """One directory and one file in one layer."""
    return Built([tar(member("etc"), member("etc/greeting", text.encode()))], compression=compression, **config)
