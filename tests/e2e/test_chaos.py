"""Whatever dies, and in whatever order, the cluster comes to what was asked for and leaves nothing behind."""

from __future__ import annotations

import os

from tests.e2e.chaos import chaos

#: CHAOS_SECONDS=300 CHAOS_SEED=7 CHAOS_NODES=2 pytest tests/e2e/test_chaos.py
SECONDS = float(os.environ.get("CHAOS_SECONDS", "15"))
SEED = int(os.environ.get("CHAOS_SEED", "1"))
NODES = int(os.environ.get("CHAOS_NODES", "1"))


def test_random_kills() -> None:
    done = chaos(SECONDS, SEED, NODES)
    assert sum(n for deed, n in done.items() if not deed.endswith("in vain")) > 3
