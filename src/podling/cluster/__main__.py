"""The supervisor's process: `python -m podling.cluster DATA_DIR`."""

from __future__ import annotations

import sys
from pathlib import Path

from podling.cluster import config, supervisor

if __name__ == "__main__":
    sys.exit(supervisor.main(config.layout(Path(sys.argv[1]))))
