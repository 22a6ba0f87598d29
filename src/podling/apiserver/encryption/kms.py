"""The KMS v2 provider: values are encrypted with keys expanded from a seed, which a plugin encrypts for us
(pkg/storage/value/encrypt/envelope/kmsv2, pkg/server/options/encryptionconfig).

The plugin's status is asked for regularly. As long as its key has the same id, the seed stays; if the id changes, there
is a new seed. While the plugin can't be reached, values are written with the old seed for some minutes, and read for
as long as their seeds are remembered.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections import OrderedDict
from datetime import datetime, timedelta

import msgspec

from podling import clock, log
from podling.api import names, times
from podling.apiserver import metadata
from podling.apiserver.encryption import aes, kms_metrics, messages, metrics
from podling.apiserver.encryption.kms_service import Service
from podling.apiserver.encryption.messages import EncryptedObject
from podling.apiserver.encryption.transformer import Opened, TransformError

LOG = log.get(__name__)

#: Seconds between questions to the plugin when all is well, and when it is not.
INTERVAL, RETRY = 60.0, 10.0
#: Seconds for which an answer to a health check is good, if it was, and if not.
GOOD_FOR, BAD_FOR = 20.0, 3.0
#: How long a seed is used for writing after the plugin last confirmed it.
COASTING = timedelta(minutes=3)
#: Seeds that are remembered for reading.
_SEEDS = 1000

_MAX_KEY_ID = _MAX_SOURCE = 1024
_MAX_ANNOTATIONS = 32 * 1024
VERSIONS = ("v2", "v2beta1")


class State(msgspec.Struct, frozen=True):
    """What is written with now. `envelope` is what goes into the store, but for the data."""

    cipher: aes.ExtendedNonceGcm
    envelope: EncryptedObject
    expires: datetime


class Kms:
    """One plugin. `start` it before use."""

    def __init__(self, name: str, service: Service) -> None:
        self.name = name
        self._service = service
        self._state: State | None = None
        self._ciphers: OrderedDict[bytes, aes.ExtendedNonceGcm | aes.Gcm] = OrderedDict()
        self._version = ""
        self._answer: TransformError | None = None
        self._answered: float | None = None
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    # The transformer

    @property
    def label(self) -> str:
        return self._label(self._state.envelope) if self._state is not None else ""

    @property
    def labels(self) -> frozenset[str]:
        """All that its plugin has encrypted; which keys that has is known to the plugin alone."""
        return frozenset({f"kms:{self.name}"})

    def _label(self, obj: EncryptedObject) -> str:
        return f"kms:{self.name}:{obj.source_type}:{hashed(obj.key_id)}"

    async def open(self, data: bytes, context: bytes) -> Opened:
        obj = _decoded(data)
        cipher = await self._cipher(obj)
        if isinstance(cipher, aes.Gcm):
            plain = (await cipher.open(obj.data, context)).value
        else:
            plain = cipher.open(obj.data, context)
        kms_metrics.used("from_storage", self.name, hashed(obj.key_id))
        return Opened(plain, self._label(obj))

    def seal(self, value: bytes, context: bytes) -> bytes:
        state = self._state
        if state is None:
            raise TransformError("got unexpected nil transformer")
        now = clock.now()
        if now > state.expires:
            raise TransformError(
                f'encryptedDEKSource with keyID hash "{hashed(state.envelope.key_id)}" expired at '
                f"{times.format(state.expires)} (current time is {times.format(now)})"
            )
        kms_metrics.used("to_storage", self.name, hashed(state.envelope.key_id))
        return messages.encrypted_object(
            msgspec.structs.replace(state.envelope, data=state.cipher.seal(value, context))
        )

    async def _cipher(self, obj: EncryptedObject) -> aes.ExtendedNonceGcm | aes.Gcm:
        """What decrypts this, by the plugin's help if its seed has not been seen before."""
        key = _cache_key(obj)
        found = self._ciphers.get(key)
        if found is None:
            metrics.CACHE_MISSES.add()
            try:
                plain = await self._service.decrypt(obj, metadata.new_uid())
            except TransformError as error:
                raise TransformError(f"failed to decrypt DEK, error: {error}") from None
            found = aes.ExtendedNonceGcm(plain) if obj.source_type == messages.SEED else aes.Gcm(plain, "")
            self._remember(key, found)
        return found

    def _remember(self, key: bytes, cipher: aes.ExtendedNonceGcm | aes.Gcm) -> None:
        self._ciphers[key] = cipher
        if len(self._ciphers) > _SEEDS:
            self._ciphers.popitem(last=False)
        kms_metrics.SEEDS.set(len(self._ciphers), self.name)

    # Its life

    async def start(self) -> None:
        """Ask the plugin once, and go on asking."""
        await self._tell()
        self._task = asyncio.get_running_loop().create_task(self._follow(), name=f"kms-{self.name}")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL if self._answer is None else RETRY)
            await self._tell()

    async def _tell(self) -> None:
        try:
            await self.check()
        except TransformError as error:
            LOG.error("kms plugin %s failed its health check: %s", self.name, error)

    async def check(self) -> None:
        """TransformError unless the plugin is well. An answer that is young enough is given again."""
        async with self._lock:
            good_for = GOOD_FOR if self._answer is None else BAD_FOR
            if self._answered is None or clock.elapsed() - self._answered >= good_for:
                self._answer = await self._ask()
                self._answered = clock.elapsed()
        if self._answer is not None:
            raise self._answer

    async def _ask(self) -> TransformError | None:
        try:
            status = await self._service.status()
        except TransformError as error:
            return TransformError(
                f"failed to perform status section of the healthz check for KMS Provider {self.name}, error: {error}"
            )
        problems = self._problems(status)
        if not (why := _key_id_problem(status.key_id)):
            kms_metrics.told(self.name, hashed(status.key_id))
            try:
                await self._settle(status.key_id)
            except TransformError as error:
                problems.append(str(error))
        else:
            kms_metrics.INVALID_KEY_IDS.add(self.name, "too_long" if status.key_id else "empty")
            problems.append(f'got invalid KMSv2 KeyID hash "{hashed(status.key_id)}": {why}')
        if not problems:
            return None
        text = problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]"
        return TransformError(f"kmsv2 Provider {self.name} is not healthy, error: {text}")

    def _problems(self, status: messages.Status) -> list[str]:
        found = []
        if status.healthz != "ok":
            found.append(f"got unexpected healthz status: {status.healthz}")
        if status.version not in VERSIONS:
            found.append(f"expected KMSv2 API version v2, got {status.version}")
        elif status.version != (self._version or status.version):
            found.append(
                "KMSv2 API version should not change after the initial status response version "
                f"{self._version}, got {status.version}"
            )
        else:
            self._version = status.version
        return found

    async def _settle(self, key_id: str) -> None:
        """Keep the seed if the plugin's key is still the same, else take a new one. TransformError."""
        state, expires = self._state, clock.now() + COASTING
        if state is not None and state.envelope.key_id == key_id:
            self._state = msgspec.structs.replace(state, expires=expires)
            return
        seed = os.urandom(aes.SEED)
        try:
            answer = await self._service.encrypt(seed, metadata.new_uid())
        except TransformError as error:
            raise TransformError(f"failed to rotate DEK: failed to encrypt DEK, error: {error}") from None
        envelope = EncryptedObject(
            key_id=answer.key_id, source=answer.ciphertext, annotations=answer.annotations, source_type=messages.SEED
        )
        if why := _problem(envelope):
            raise TransformError(f"failed to rotate DEK: {why}")
        if envelope.key_id != key_id:
            raise TransformError(
                f'failed to rotate DEK: statusKeyIDHash="{hashed(key_id)}", '
                f'encryptKeyIDHash="{hashed(envelope.key_id)}"'
            )
        cipher = aes.ExtendedNonceGcm(seed)
        self._remember(_cache_key(envelope), cipher)
        self._state = State(cipher, envelope, expires)


def hashed(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}" if text else ""


def _cache_key(obj: EncryptedObject) -> bytes:
    return messages.encrypted_object(
        msgspec.structs.replace(obj, data=b"", annotations=dict(sorted(obj.annotations.items())))
    )


def _decoded(data: bytes) -> EncryptedObject:
    try:
        obj = messages.read_encrypted_object(data)
    except ValueError as error:
        raise TransformError(f"proto: {error}") from None
    if not obj.data:
        raise TransformError("encrypted data is empty")
    if why := _problem(obj):
        raise TransformError(why)
    return obj


def _problem(obj: EncryptedObject) -> str:
    """What is wrong with an envelope."""
    if obj.source_type not in (messages.KEY, messages.SEED):
        return f"unknown encryptedDEKSourceType: {obj.source_type}"
    if not obj.source:
        return "failed to validate encrypted DEK source: encrypted DEK source is empty"
    if len(obj.source) > _MAX_SOURCE:
        size = f"encrypted DEK source is {len(obj.source)} bytes, which exceeds the max size of {_MAX_SOURCE}"
        return f"failed to validate encrypted DEK source: {size}"
    if why := _key_id_problem(obj.key_id):
        return f"failed to validate key id: {why}"
    for key in obj.annotations:
        if names.dns_subdomain(key) or "." not in key:
            why = "should be a domain with at least two segments separated by dots"
            return f'failed to validate annotations: annotations: Invalid value: "{key}": {why}'
    total = sum(len(k) + len(v) for k, v in obj.annotations.items())
    if total > _MAX_ANNOTATIONS:
        why = f"total size of annotations is {total}, which exceeds the max size of {_MAX_ANNOTATIONS}"
        return f"failed to validate annotations: {why}"
    return ""


def _key_id_problem(key_id: str) -> str:
    if not key_id:
        return "keyID is empty"
    if len(key_id) > _MAX_KEY_ID:
        return f"keyID is {len(key_id)} bytes, which exceeds the max size of {_MAX_KEY_ID}"
    return ""
