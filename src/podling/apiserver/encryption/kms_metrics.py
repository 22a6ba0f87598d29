"""Metrics of KMS plugins, under upstream's names; shown from when there is one."""

from __future__ import annotations

from podling import clock
from podling.apiserver.identity import IDENTITY
from podling.metrics import PROCESS, exponential

_PREFIX = "apiserver_envelope_encryption_"

OPERATIONS = PROCESS.histogram(
    f"{_PREFIX}kms_operations_latency_seconds",
    "[ALPHA] KMS operation duration with gRPC error code status total.",
    ("provider_name", "method_name", "grpc_status_code"),
    exponential(0.0001, 2, 20),
)
KEY_IDS = PROCESS.counter(
    f"{_PREFIX}key_id_hash_total",
    "[ALPHA] Number of times a keyID is used split by transformation type, provider, and apiserver identity.",
    ("transformation_type", "provider_name", "key_id_hash", "apiserver_id_hash"),
)
LAST_KEY_ID = PROCESS.gauge(
    f"{_PREFIX}key_id_hash_status_last_timestamp_seconds",
    "[ALPHA] The last time in seconds when a keyID was returned by the Status RPC call.",
    ("provider_name", "key_id_hash", "apiserver_id_hash"),
)
INVALID_KEY_IDS = PROCESS.counter(
    f"{_PREFIX}invalid_key_id_from_status_total",
    "[ALPHA] Number of times an invalid keyID is returned by the Status RPC call split by error.",
    ("provider_name", "error"),
)
SEEDS = PROCESS.gauge(
    f"{_PREFIX}dek_source_cache_size",
    "[ALPHA] Number of records in data encryption key (DEK) source cache. On a restart, this value is an approximation "
    "of the number of decrypt RPC calls the server will make to the KMS plugin.",
    ("provider_name",),
)


def used(direction: str, provider: str, key_hash: str) -> None:
    """A value was encrypted (`to_storage`) or decrypted (`from_storage`) by way of a key of the plugin."""
    KEY_IDS.add(direction, provider, key_hash, IDENTITY)


def told(provider: str, key_hash: str) -> None:
    """The plugin has said which key it uses."""
    LAST_KEY_ID.set(clock.now().timestamp(), provider, key_hash, IDENTITY)
