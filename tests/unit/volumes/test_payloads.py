"""ConfigMaps and Secrets as files."""

import base64

import pytest

from podling.api import core_v1
from podling.volumes import payloads
from podling.volumes.atomic_writer import File
from podling.volumes.base import VolumeError
from tests.unit.volumes.fakes import config_map, secret


def test_all_keys_with_the_default_mode() -> None:
    source = config_map(a="1")
    source.binary_data = {"b": base64.b64encode(b"\xff").decode()}
    assert payloads.of_config_map(source, None, 0o644) == {"a": File(b"1", 0o644), "b": File(b"\xff", 0o644)}
    assert payloads.of_secret(secret(a="1"), [], 0o400, user=7) == {"a": File(b"1", 0o400, 7)}


def test_items_choose_paths_modes_and_owners() -> None:
    items = [core_v1.KeyToPath(key="a", path="d/x", mode=0o400), core_v1.KeyToPath(key="b", path="y", user=5)]
    assert payloads.of_secret(secret(a="1", b="2", c="3"), items, 0o644) == {
        "d/x": File(b"1", 0o400),
        "y": File(b"2", 0o644, 5),
    }


def test_missing_keys() -> None:
    items = [core_v1.KeyToPath(key="k", path="x")]
    with pytest.raises(VolumeError, match=r"^configmap references non-existent config key: k$"):
        payloads.of_config_map(config_map(), items, 0o644)
    with pytest.raises(VolumeError, match=r"^references non-existent secret key: k$"):
        payloads.of_secret(secret(), items, 0o644)
    assert payloads.of_config_map(None, items, 0o644, optional=True) == {}
