"""Loading nftables rules: a script is one transaction, all of it or nothing.

By libnftables when it is there (half a millisecond), else by the `nft` command.
"""

from __future__ import annotations

import ctypes
import functools
import subprocess
from typing import Any

from podling.network import netns as namespaces
from podling.network.base import NetworkFailure

#: NFT_CTX_OUTPUT_HANDLE
_HANDLES = 1 << 3


@functools.cache
def _library() -> Any | None:
    try:
        library = ctypes.CDLL("libnftables.so.1")
    except OSError:
        return None
    context = ctypes.c_void_p
    library.nft_ctx_new.restype = context
    library.nft_ctx_new.argtypes = [ctypes.c_uint32]
    library.nft_ctx_free.argtypes = [context]
    library.nft_ctx_output_set_flags.argtypes = [context, ctypes.c_uint]
    for name in ("nft_ctx_buffer_output", "nft_ctx_buffer_error"):
        getattr(library, name).argtypes = [context]
    for name in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
        getattr(library, name).argtypes = [context]
        getattr(library, name).restype = ctypes.c_char_p
    library.nft_run_cmd_from_buffer.argtypes = [context, ctypes.c_char_p]
    return library


class Nft:
    """Runs scripts in the namespace pinned at `netns` (empty: the caller's). One thread at a time."""

    def __init__(self, netns: str = "") -> None:
        self._netns = netns
        self._context: Any = None
        self._library = _library()
        if self._library is not None:
            with namespaces.entered(netns):
                self._context = self._library.nft_ctx_new(0)
            self._library.nft_ctx_buffer_output(self._context)
            self._library.nft_ctx_buffer_error(self._context)

    def close(self) -> None:
        if self._context is not None and self._library is not None:
            self._library.nft_ctx_free(self._context)
            self._context = None

    def run(self, script: str, *, handles: bool = False) -> str:
        """Do all of `script` or nothing; what a `list` in it printed. Raises NetworkFailure with nft's words."""
        if self._library is None:
            return self._spawn(script, handles)
        self._library.nft_ctx_output_set_flags(self._context, _HANDLES if handles else 0)
        failed = self._library.nft_run_cmd_from_buffer(self._context, script.encode())
        output: bytes = self._library.nft_ctx_get_output_buffer(self._context) or b""
        error: bytes = self._library.nft_ctx_get_error_buffer(self._context) or b""
        if failed:
            raise NetworkFailure(f"nftables refused the rules: {_first_line(error.decode(errors='replace'))}")
        return output.decode()

    def _spawn(self, script: str, handles: bool) -> str:
        command = ["nft", *(["-a"] if handles else []), "-f", "-"]
        if self._netns:
            command = ["nsenter", f"--net={self._netns}", *command]
        try:
            done = subprocess.run(command, input=script, capture_output=True, text=True, check=False)
        except FileNotFoundError as error:
            raise NetworkFailure("nftables is not installed: install the package nftables") from error
        if done.returncode:
            raise NetworkFailure(f"nftables refused the rules: {_first_line(done.stderr)}")
        return done.stdout


def _first_line(text: str) -> str:
    return text.strip().split("\n", 1)[0]


def delete_table(table: str) -> str:
    """The statements that remove an inet table whether it is there or not."""
    return f"add table inet {table}\ndelete table inet {table}\n"


def elements(values: list[str]) -> str:
    """A set's or map's `elements` clause; nothing for no values, which nft would not parse."""
    return f"elements = {{ {', '.join(values)} }}" if values else ""
