"""What a container left to say when it ended: terminationMessagePath, or the end of its log."""

from __future__ import annotations

import os

from podling.kubelet import pods
from podling.runtime.base import ContainerStatus

MAX_FILE, MAX_LOG_BYTES, MAX_LOG_LINES = 4096, 2048, 80


def termination_message(found: ContainerStatus) -> str:
    """The message of a container that has ended; "" if it left none."""
    path = found.annotations.get(pods.ANNOTATION_MESSAGE_PATH)
    fallback = found.annotations.get(pods.ANNOTATION_MESSAGE_POLICY) == "FallbackToLogsOnError"
    message = ""
    if path:
        host = next((m.host_path for m in found.mounts if m.container_path == path), "")
        if host:
            try:
                message = _tail_of_file(host)
            except OSError as error:
                return f"Error on reading termination log {host}: {error}"
    if not message and fallback and found.exit_code != 0 and found.log_path:
        message = _tail_of_log(found.log_path)
    return message


def _tail_of_file(path: str) -> str:
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - MAX_FILE))
        return file.read(MAX_FILE).decode("utf-8", "replace")


def _tail_of_log(path: str) -> str:
    """The last lines of a log in CRI's format, without its stamps."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - MAX_LOG_LINES * 1024))
            raw = file.read().split(b"\n")
    except OSError:
        return ""
    text = b""
    for line in [r for r in raw if r][-MAX_LOG_LINES:]:
        parts = line.split(b" ", 3)
        if len(parts) == 4:
            text += parts[3] + (b"" if parts[2] == b"P" else b"\n")
    return text[-MAX_LOG_BYTES:].decode("utf-8", "replace")
