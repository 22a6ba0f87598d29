"""Metrics of encryption at rest, under upstream's names; shown from when it is on."""

from __future__ import annotations

from podling import clock
from podling.apiserver.identity import IDENTITY
from podling.metrics import PROCESS, exponential

DURATIONS = PROCESS.histogram(
    "apiserver_storage_transformation_duration_seconds",
    "[ALPHA] Latencies in seconds of value transformation operations.",
    ("transformation_type", "transformer_prefix"),
    exponential(5e-6, 2, 25),
)
OPERATIONS = PROCESS.counter(
    "apiserver_storage_transformation_operations_total",
    "[ALPHA] Total number of transformations. Successful transformation will have a status 'OK' and a varied status "
    "string when the transformation fails. The status, resource, and transformation_type fields can be used for "
    "alerting purposes. For example, you can monitor for encryption/decryption failures using the transformation_type "
    "(e.g., from_storage for decryption and to_storage for encryption). Additionally, these fields can be used to "
    "ensure that the correct transformers are applied to each resource.",
    ("resource", "transformation_type", "transformer_prefix", "status"),
)
CACHE_MISSES = PROCESS.counter(
    "apiserver_storage_envelope_transformation_cache_misses_total",
    "[ALPHA] Total number of cache misses while accessing key decryption key(KEK).",
    (),
)
RELOADS = PROCESS.counter(
    "apiserver_encryption_config_controller_automatic_reloads_total",
    "[ALPHA] Total number of reload successes and failures of encryption configuration split by apiserver identity.",
    ("status", "apiserver_id_hash"),
)
LAST_RELOAD = PROCESS.gauge(
    "apiserver_encryption_config_controller_automatic_reload_last_timestamp_seconds",
    "[ALPHA] Timestamp of the last successful or failed automatic reload of encryption configuration split by "
    "apiserver identity.",
    ("status", "apiserver_id_hash"),
)


def reloaded(status: str) -> None:
    """The file was read again: `success` or `failure`."""
    RELOADS.add(status, IDENTITY)
    LAST_RELOAD.set(clock.now().timestamp(), status, IDENTITY)
