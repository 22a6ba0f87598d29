"""rest_client_*: what the clients of this process ask of API servers, under upstream's names.

Requests over HTTPS have the server's host; those that the control plane's parts make of the API server in their own
process have `in-process`. All requests that are alike share their cells, so that one costs two look-ups.
"""

from __future__ import annotations

from podling.metrics import PROCESS, Cell, Series

IN_PROCESS = "in-process"
#: The code of a request that has no answer.
ERROR = "<error>"

_SIZES = (64, 256, 512, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216)

REQUESTS = PROCESS.counter(
    "rest_client_requests_total",
    "[ALPHA] Number of HTTP requests, partitioned by status code, method, and host.",
    ("code", "host", "method"),
)
DURATIONS = PROCESS.histogram(
    "rest_client_request_duration_seconds",
    "[ALPHA] Request latency in seconds. Broken down by verb, and host.",
    ("host", "verb"),
    (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0),
)
RETRIES = PROCESS.counter(
    "rest_client_request_retries_total",
    "[ALPHA] Number of request retries, partitioned by status code, verb, and host.",
    ("code", "host", "verb"),
)
REQUEST_SIZES = PROCESS.histogram(
    "rest_client_request_size_bytes",
    "[ALPHA] Request size in bytes. Broken down by verb and host.",
    ("host", "verb"),
    _SIZES,
)
RESPONSE_SIZES = PROCESS.histogram(
    "rest_client_response_size_bytes",
    "[ALPHA] Response size in bytes. Broken down by verb and host.",
    ("host", "verb"),
    _SIZES,
)

_alike: dict[tuple[str, str, int], tuple[Cell, Series]] = {}


def requested(host: str, method: str, code: int, seconds: float) -> None:
    """A request was answered; `code` is 0 if it was not."""
    key = host, method, code
    cells = _alike.get(key)
    if cells is None:
        cells = _alike[key] = REQUESTS.of(str(code) if code else ERROR, host, method), DURATIONS.of(host, method)
    cells[0].value += 1
    cells[1].observe(seconds)
