"""Manifests and indexes are told apart, and the right platform is chosen."""

import json

import pytest

from podling.images import manifest
from podling.images.manifest import Descriptor, Index, InvalidManifest, Manifest, Platform


def _index(*platforms: str | None) -> Index:
    entries = []
    for number, text in enumerate(platforms):
        parts = text.split("/") if text else []
        platform = Platform(os=parts[0], architecture=parts[1], variant="".join(parts[2:])) if parts else None
        entries.append(Descriptor(digest=f"sha256:{number:064x}", platform=platform))
    return Index(manifests=tuple(entries))


@pytest.mark.parametrize(
    ("offered", "wanted", "chosen"),
    [
        (["linux/amd64", "linux/arm64"], "linux/arm64", 1),
        (["linux/arm/v6", "linux/arm/v7"], "linux/arm/v7", 1),
        (["linux/arm/v6", "linux/arm/v7"], "linux/arm/v6", 0),
        (["linux/arm64/v8"], "linux/arm64", 0),
        (["linux/arm64"], "linux/arm64/v8", 0),
        (["windows/amd64", "unknown/unknown"], "linux/amd64", None),
        ([None], "linux/amd64", 0),
        ([None, None], "linux/amd64", None),
        (["linux/amd64", "linux/amd64/v3"], "linux/amd64", 0),
    ],
)
def test_chooses_the_best_platform(offered: list[str | None], wanted: str, chosen: int | None) -> None:
    index = _index(*offered)
    parts = wanted.split("/")
    found = manifest.choose(index, Platform(os=parts[0], architecture=parts[1], variant="".join(parts[2:])))
    assert found == (index.manifests[chosen] if chosen is not None else None)


def test_a_manifest_without_media_type_is_known_by_its_fields() -> None:
    config = {"digest": "sha256:" + "0" * 64, "size": 1, "mediaType": "x"}
    assert isinstance(manifest.decode(json.dumps({"config": config, "layers": []}).encode()), Manifest)
    assert isinstance(manifest.decode(json.dumps({"manifests": []}).encode()), Index)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"{", "no valid JSON"),
        (b"{}", "unknown media type"),
        (b'{"schemaVersion": 1, "fsLayers": []}', "is no longer supported, please rebuild the image"),
        (b'{"mediaType": "application/vnd.oci.image.manifest.v1+json"}', "no valid JSON manifest"),
    ],
)
def test_refuses_what_it_cannot_use(data: bytes, words: str) -> None:
    with pytest.raises(InvalidManifest, match=words):
        manifest.decode(data)


def test_reads_a_docker_configuration() -> None:
    document = {
        "created": "2024-01-02T03:04:05.123456789Z",
        "architecture": "amd64",
        "config": {
            "Entrypoint": ["/bin/x"],
            "Cmd": None,
            "Env": ["A=1"],
            "ExposedPorts": {"80/tcp": {}},
            "Volumes": {"/data": {}},
            "WorkingDir": "/w",
            "User": "1000:1000",
            "StopSignal": "SIGQUIT",
            "Healthcheck": {"Test": ["NONE"]},
        },
        "rootfs": {"type": "layers", "diff_ids": ["sha256:1"]},
    }
    config = manifest.decode_config(json.dumps(document).encode())
    found = config.image_config()
    assert (found.entrypoint, found.cmd, found.env) == (("/bin/x",), (), ("A=1",))
    assert (found.exposed_ports, found.volumes, found.stop_signal) == (("80/tcp",), ("/data",), "SIGQUIT")
    created = config.created_at()
    assert created is not None and created.year == 2024
