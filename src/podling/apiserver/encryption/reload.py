"""The configuration is read again when its file has changed (--encryption-provider-config-automatic-reload).

A file that can't be used, or by which something that is stored could no longer be read, changes nothing: it would keep
the next start from succeeding.
"""

from __future__ import annotations

import asyncio
import hashlib

from podling import log
from podling.apiserver import config_file
from podling.apiserver.config_file import ConfigFileError
from podling.apiserver.encryption import config, metrics
from podling.apiserver.encryption.store import EncryptedStore
from podling.apiserver.encryption.transformer import TransformError
from podling.apiserver.encryption.transformers import Transformers

LOG = log.get(__name__)

#: Seconds between looks at the file, as upstream's.
INTERVAL = 60.0
#: Seconds that new plugins are given to be well, and between questions.
PATIENCE, AGAIN = 10.0, 0.1


class Reloader:
    """Keeps `store`'s transformers as the file at `path` has them; `data` is what they were made of."""

    def __init__(self, path: str, store: EncryptedStore, data: bytes) -> None:
        self._path = path
        self._store = store
        self._hash = _hash(data)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._follow(), name="encryption-config")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL)
            await self.look()

    async def look(self) -> None:
        """Take over the file if it has changed. Failures are told, and tried again the next time."""
        try:
            changed = await self._take()
        except (ConfigFileError, TransformError) as error:
            metrics.reloaded("failure")
            LOG.error("error processing encryption config file %s: %s", self._path, error)
            return
        if changed:
            metrics.reloaded("success")
            LOG.info("loaded new encryption config content of %s", self._path)

    async def _take(self) -> bool:
        data = config_file.read(self._path)
        if _hash(data) == self._hash:
            return False
        new = Transformers(config.load(data, self._path, reload=True))
        try:
            await new.start()
            await healthy(new)
            if problem := missing(self._store, new):
                raise TransformError(problem)
        except BaseException:
            await new.close()
            raise
        old, self._store.transformers = self._store.transformers, new
        self._hash = _hash(data)
        await old.close()
        return True


async def healthy(transformers: Transformers, seconds: float = PATIENCE) -> None:
    """Wait until all plugins are well; TransformError if they are not in time."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        try:
            await transformers.check()
            return
        except TransformError:
            if loop.time() >= deadline:
                raise
        await asyncio.sleep(AGAIN)


def missing(store: EncryptedStore, new: Transformers) -> str:
    """What is stored that `new` could not read; "" if it can read everything."""
    for (resource, label), count in sorted(store.in_use().items()):
        provider, name, _ = label.split(":", 2)
        known = new.of(resource).labels
        if label not in known and f"{provider}:{name}" not in known:
            objects = "one object is" if count == 1 else f"{count} objects are"
            return (
                f'{objects} encrypted with the {provider} key "{name}", which is no longer among the providers of '
                f"{resource}: write them anew before you remove it"
            )
    return ""


def _hash(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
