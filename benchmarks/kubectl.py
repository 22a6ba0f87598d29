"""`kubectl get pods`, as a person waits for it."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from typing import Any

from benchmarks.common import Result, percentile


async def run(kubeconfig: str, arguments: Any) -> list[Result]:
    program = shutil.which("kubectl")
    if program is None:
        return []
    times = []
    for _ in range(11):
        began = time.perf_counter()
        subprocess.run(
            [program, "get", "pods", "-A"],
            env={**os.environ, "KUBECONFIG": kubeconfig},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        times.append(time.perf_counter() - began)
    return [Result("kubectl get pods", percentile(times, 0.5) * 1000, "ms", 55)]
