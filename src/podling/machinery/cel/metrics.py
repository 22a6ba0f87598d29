"""How long expressions take to compile and to evaluate, under upstream's names."""

from __future__ import annotations

from podling.metrics import PROCESS

COMPILATIONS = PROCESS.histogram(
    "apiserver_cel_compilation_duration_seconds", "[BETA] CEL compilation time in seconds."
).of()
EVALUATIONS = PROCESS.histogram(
    "apiserver_cel_evaluation_duration_seconds", "[BETA] CEL evaluation time in seconds."
).of()
