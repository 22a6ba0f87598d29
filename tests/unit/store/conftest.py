"""Every backend passes the same tests."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from podling.api.struct import from_dict
from podling.apiserver.encryption.config import EncryptionConfiguration
from podling.apiserver.encryption.store import EncryptedStore
from podling.apiserver.encryption.transformers import Transformers
from podling.store.base import Store
from podling.store.memory import MemoryStore
from podling.store.sqlite import SqliteStore


def transformers() -> Transformers:
    """Everything by AES-GCM, or what is not encrypted as it is."""
    return Transformers(
        from_dict(
            {
                "resources": [
                    {
                        "resources": ["*.*"],
                        "providers": [
                            {"aesgcm": {"keys": [{"name": "key1", "secret": base64.b64encode(bytes(32)).decode()}]}},
                            {"identity": {}},
                        ],
                    }
                ]
            },
            EncryptionConfiguration,
        )
    )


@pytest.fixture(params=["memory", "sqlite", "encrypted"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    makers: dict[str, Callable[[], Store]] = {
        "memory": MemoryStore,
        "sqlite": lambda: SqliteStore(tmp_path / "state.db"),
        "encrypted": lambda: EncryptedStore(SqliteStore(tmp_path / "state.db"), transformers()),
    }
    made = makers[request.param]()
    await made.open()
    yield made
    await made.close()
