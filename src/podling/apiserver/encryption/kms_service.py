"""A KMS v2 plugin, called by gRPC over its Unix socket (k8s.io/kms/apis/v2)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import urlsplit

from podling import clock
from podling.apiserver.encryption import kms_metrics, messages
from podling.apiserver.encryption.messages import Encrypted, EncryptedObject, Status
from podling.apiserver.encryption.transformer import TransformError

T = TypeVar("T")

_SERVICE = "/v2.KeyManagementService/"
_AGENT = "kube-apiserver-kms"


class Service:
    """`timeout` is for one call, in seconds. All methods raise TransformError."""

    def __init__(self, name: str, endpoint: str, timeout: float) -> None:
        self._name = name
        self.endpoint = endpoint
        self._path = socket_path(endpoint)
        self._timeout = timeout

    async def status(self) -> Status:
        return _read(messages.read_status, await self._call("Status", b""))

    async def encrypt(self, plaintext: bytes, uid: str) -> Encrypted:
        return _read(messages.read_encrypted, await self._call("Encrypt", messages.encrypt_request(plaintext, uid)))

    async def decrypt(self, obj: EncryptedObject, uid: str) -> bytes:
        return _read(messages.read_plaintext, await self._call("Decrypt", messages.decrypt_request(obj, uid)))

    async def _call(self, method: str, message: bytes) -> bytes:
        began = clock.real_seconds()
        code, why = "Unknown", ""
        try:
            code, why, answer = await self._answer(_SERVICE + method, message)
        finally:
            kms_metrics.OPERATIONS.observe((self._name, _SERVICE + method, code), clock.real_seconds() - began)
        if code != "OK":
            raise TransformError(f"rpc error: code = {code} desc = {why}")
        return answer

    async def _answer(self, path: str, message: bytes) -> tuple[str, str, bytes]:
        """The status and its text, and the message if all is well."""
        # Here, since without a plugin nothing needs HTTP/2.
        import h2.exceptions

        from podling.streaming import grpc

        writer = None
        try:
            async with asyncio.timeout(self._timeout):
                reader, writer = await asyncio.open_unix_connection(self._path)
                answer = await grpc.call(
                    reader, writer, path, grpc.framed(message), authority="localhost", agent=_AGENT
                )
        except TimeoutError:
            return "DeadlineExceeded", "context deadline exceeded", b""
        except (OSError, h2.exceptions.ProtocolError) as error:
            return "Unavailable", f"dial unix {self._path}: {getattr(error, 'strerror', None) or error}", b""
        finally:
            if writer is not None:
                writer.transport.abort()
        if answer.grpc_status not in ("", "0"):
            return grpc.CODES.get(answer.grpc_status, f"Code({answer.grpc_status})"), answer.grpc_message, b""
        if answer.message is None:
            return "Internal", "no message came back", b""
        return "OK", "", answer.message


def socket_path(endpoint: str) -> str:
    """The path behind `unix://`; one that begins with `@` is an abstract socket's name."""
    parts = urlsplit(endpoint)
    path = parts.netloc + parts.path
    return f"\0{path.lstrip('/')[1:]}" if path.lstrip("/").startswith("@") else path


def _read(read: Callable[[bytes], T], data: bytes) -> T:
    try:
        return read(data)
    except ValueError as error:
        raise TransformError(f"rpc error: code = Internal desc = {error}") from None
