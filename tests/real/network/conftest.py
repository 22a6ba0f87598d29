from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.real.network.lab import Lab, is_root


@pytest_asyncio.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    if not is_root():
        pytest.skip("needs root")
    made = Lab(tmp_path)
    try:
        yield made
    finally:
        await made.close()
