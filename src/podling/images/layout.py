"""Where things stand in an image store, and how files change hands safely.

    blobs/sha256/<hex>         manifests and configurations; layers only while they wait to be unpacked
    ingest/<hex>               downloads on their way, with <hex>.lock held by whoever writes
    layers/<diff id hex>/diff  an unpacked layer, layer.json beside it; shared by all images that have it
    l/<short>                  links to layers/*/diff: many of them must fit into one page of mount options
    images/<hex>.json          an image: its configuration, layers, digests; named by its id
    images/<hex>.used          its time stamp is when the image was last used
    refs/<hash>.json           a tag or digest reference and the image it points to
    containers/<hash>/         a container's writable layer: upper, work, container.json
    generation                 grows with each change; odd while one is being made
    lock, active               flock: changes to images and refs; shared by whoever brings in layers

Every file appears by rename, and what refers to something appears after it. So a process can be killed at any moment:
what is left over is referred to by nothing, and the next sweep takes it away.
"""

from __future__ import annotations

import asyncio
import base64
import fcntl
import hashlib
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from podling.images.base import ImageError

_FOLDERS = ("blobs/sha256", "ingest", "layers", "l", "images", "refs", "containers", "empty")
_VERSION = "1\n"


class Layout:
    """Paths of a store at `root`, an absolute path."""

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)

    def create(self) -> None:
        """Make the folders. Raises ImageError if the place cannot be used or holds a store of another version."""
        try:
            for folder in _FOLDERS:
                os.makedirs(f"{self.root}/{folder}", mode=0o755, exist_ok=True)
            version = f"{self.root}/version"
            try:
                with open(version) as file:
                    found = file.read()
            except FileNotFoundError:
                write_atomically(version, _VERSION.encode())
                return
        except OSError as error:
            raise ImageError(f"the image store cannot be used: {error.filename}: {error.strerror}") from None
        if found != _VERSION:
            raise ImageError(f"{self.root} holds an image store of version {found.strip()}, which is not supported")

    def blob(self, digest: str) -> str:
        return f"{self.root}/blobs/sha256/{hex_of(digest)}"

    def ingest(self, digest: str) -> str:
        return f"{self.root}/ingest/{hex_of(digest)}"

    def layer(self, diff_id: str) -> str:
        return f"{self.root}/layers/{hex_of(diff_id)}"

    def short(self, diff_id: str) -> str:
        """The name under l/ of a layer."""
        return base64.b32encode(bytes.fromhex(hex_of(diff_id)[:20])).decode()[:10].lower()

    def image(self, image_id: str) -> str:
        return f"{self.root}/images/{hex_of(image_id)}.json"

    def used(self, image_id: str) -> str:
        return f"{self.root}/images/{hex_of(image_id)}.used"

    def ref(self, reference: str) -> str:
        return f"{self.root}/refs/{hashlib.sha256(reference.encode()).hexdigest()[:32]}.json"

    def container(self, key: str) -> str:
        return f"{self.root}/containers/{hashlib.sha256(key.encode()).hexdigest()[:32]}"

    @property
    def empty(self) -> str:
        return f"{self.root}/empty"

    @property
    def generation(self) -> str:
        return f"{self.root}/generation"

    @property
    def lock(self) -> str:
        return f"{self.root}/lock"

    @property
    def active(self) -> str:
        return f"{self.root}/active"


def hex_of(digest: str) -> str:
    """The hexadecimal part of `sha256:<hex>`; only that algorithm is stored."""
    algorithm, _, encoded = digest.partition(":")
    if algorithm != "sha256" or len(encoded) != 64 or not all(c in "0123456789abcdef" for c in encoded):
        raise ImageError(f"{digest!r} is no sha256 digest")
    return encoded


def write_atomically(path: str, data: bytes, *, sync: bool = True) -> None:
    """The file appears complete or not at all; with `sync` also after a power cut."""
    temporary = f"{path}.{os.getpid()}.{os.urandom(4).hex()}.tmp"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        unlink(temporary)
        raise
    if sync:
        sync_directory(os.path.dirname(path))


def sync_directory(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


@contextmanager
def try_locked(path: str) -> Iterator[bool]:
    """The exclusive lock on `path` if nobody holds it; says whether it was got."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(descriptor)


@asynccontextmanager
async def locked(path: str, *, shared: bool = False) -> AsyncIterator[None]:
    """A lock between tasks and processes. It ends with its file descriptor, so with its process at the latest."""
    mode = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        waiting = asyncio.get_running_loop().run_in_executor(None, fcntl.flock, descriptor, mode)
        try:
            await asyncio.shield(waiting)
        except asyncio.CancelledError:
            # The thread cannot be called back: let go as soon as it has the lock.
            waiting.add_done_callback(lambda _: os.close(descriptor))
            raise
    except BaseException:
        os.close(descriptor)
        raise
    try:
        yield
    finally:
        os.close(descriptor)
