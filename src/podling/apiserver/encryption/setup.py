"""The flags of encryption at rest: checked, and made into a store (pkg/server/options/etcd.go)."""

from __future__ import annotations

import os

from podling.apiserver import config_file
from podling.apiserver.config_file import ConfigFileError
from podling.apiserver.encryption import config, reload
from podling.apiserver.encryption.reload import Reloader
from podling.apiserver.encryption.store import EncryptedStore
from podling.apiserver.encryption.transformer import TransformError
from podling.apiserver.encryption.transformers import Transformers
from podling.apiserver.options import OptionError, Options
from podling.errors import PodlingError
from podling.store.base import Store

FLAG = "--encryption-provider-config"

#: Seconds that plugins are given at the start; who started the server tries it again, and tells people in the end.
PATIENCE = 3.5


class Unreadable(PodlingError):
    """What is stored is encrypted by keys that are not there."""


def check(options: Options) -> None:
    """OptionError for a file that can't be used."""
    path = options.encryption_provider_config
    if not path:
        why = f"{FLAG} must be set when {FLAG}-automatic-reload is set to true"
        raise OptionError(why)
    if not os.path.isabs(path):
        raise OptionError(f"{FLAG}={path}: write an absolute path")
    _load(options)


def _load(options: Options) -> tuple[Transformers, bytes]:
    path = options.encryption_provider_config
    try:
        data = config_file.read(path)
        loaded = config.load(data, path, reload=options.encryption_provider_config_automatic_reload)
    except ConfigFileError as error:
        raise OptionError(f"{FLAG}: error while parsing file: {error}") from None
    try:
        return Transformers(loaded), data
    except TransformError as error:
        raise OptionError(f"{FLAG}: {path}: error while building transformers: {error}") from None


class AtRest:
    """Encryption as `options` say. `store` is what the server works with."""

    def __init__(self, inner: Store, options: Options) -> None:
        """Raises OptionError."""
        transformers, data = _load(options)
        self._path = options.encryption_provider_config
        self.store = EncryptedStore(inner, transformers)
        self.reloads = options.encryption_provider_config_automatic_reload
        self._reloader = Reloader(self._path, self.store, data) if self.reloads else None

    @property
    def checked(self) -> bool:
        """Whether there is, or may be, a plugin whose health counts."""
        return self.reloads or bool(self.store.transformers.plugins)

    async def start(self) -> None:
        """Begin what runs beside the requests. Raises Unreadable if a plugin is away, without which nothing works."""
        await self.store.transformers.start()
        try:
            await reload.healthy(self.store.transformers, PATIENCE)
        except TransformError as error:
            raise Unreadable(f"{FLAG}={self._path}: {error}; start the plugin first") from None
        if self._reloader is not None:
            self._reloader.start()

    async def close(self) -> None:
        if self._reloader is not None:
            await self._reloader.close()
        await self.store.transformers.close()

    async def check(self) -> None:
        """TransformError if a plugin is not well."""
        await self.store.transformers.check()

    async def explain(self, prefix: str) -> Unreadable | None:
        """Why what is stored can't be read, if it can't."""
        found = await self.store.unreadable(prefix)
        if not found:
            return None
        why, keys = next(iter(found.items()))
        count = sum(map(len, found.values()))
        more = f" and {count - 1} other objects" if count > 2 else " and another object" if count == 2 else ""
        return Unreadable(
            f"{self._path} can't decrypt {keys[0]}{more}, encrypted with {why}. Add the key or provider that is "
            "missing behind the first one of that resource"
        )
