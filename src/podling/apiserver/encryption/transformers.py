"""A configuration made into what encrypts: for each resource the providers that it is read by, and written by."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Protocol

from podling.apiserver.encryption.config import EncryptionConfiguration, Keys, Provider, decoded
from podling.apiserver.encryption.config import Kms as KmsConfiguration
from podling.apiserver.encryption.identity import Identity
from podling.apiserver.encryption.resource_names import EVERYTHING, GroupResource, parse
from podling.apiserver.encryption.transformer import Choice, Prefixed, Transformer, TransformError

_PREFIXES = {
    "aescbc": b"k8s:enc:aescbc:v1:", "aesgcm": b"k8s:enc:aesgcm:v1:", "secretbox": b"k8s:enc:secretbox:v1:",
}  # fmt: skip
_KMS_V2 = b"k8s:enc:kms:v2:"
_KMS_V1_IS_OFF = (
    "KMSv1 is deprecated and will only receive security updates going forward. Use KMSv2 instead.  Set "
    "--feature-gates=KMSv1=true to use the deprecated KMSv1 feature."
)
_IDENTITY = Identity()


class Plugin(Transformer, Protocol):
    """A transformer that lives beside the requests (`kms.Kms`)."""

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def check(self) -> None: ...


class Transformers:
    """Raises TransformError for a configuration that can't work. `start` before use."""

    def __init__(self, config: EncryptionConfiguration) -> None:
        self.plugins: list[Plugin] = []
        found: dict[GroupResource, list[Prefixed]] = {}
        for item in config.resources:
            made = [self._prefixed(provider) for provider in item.providers]
            for text in item.resources:
                resource = parse(text)
                for rule in (GroupResource(resource.group, "*"), EVERYTHING):
                    if rule in found:
                        raise TransformError(f'resource "{resource}" is masked by earlier rule "{rule}"')
                found.setdefault(resource, []).extend(made)
        self._found = {resource: Choice(choices, "no matching prefix found") for resource, choices in found.items()}

    async def start(self) -> None:
        for plugin in self.plugins:
            await plugin.start()

    async def close(self) -> None:
        for plugin in self.plugins:
            await plugin.close()

    async def check(self) -> None:
        """TransformError if a plugin is not well."""
        failures = []
        for index, plugin in enumerate(self.plugins):
            try:
                await plugin.check()
            except TransformError as error:
                failures.append(f"kms-provider-{index}: {error}")
        if failures:
            raise TransformError(failures[0] if len(failures) == 1 else f"[{', '.join(failures)}]")

    def of(self, resource: GroupResource) -> Transformer:
        """By its own name, else by that of its group, else by that of everything; what is not named is plain."""
        found = self._found
        return (
            found.get(resource) or found.get(GroupResource(resource.group, "*")) or found.get(EVERYTHING) or _IDENTITY
        )

    def _prefixed(self, provider: Provider) -> Prefixed:
        if provider.aesgcm is not None:
            from podling.apiserver.encryption.aes import Gcm

            return _keyed("aesgcm", provider.aesgcm, Gcm, "no matching key was found for the provided AES transformer")
        if provider.aescbc is not None:
            from podling.apiserver.encryption.aes import Cbc

            return _keyed("aescbc", provider.aescbc, Cbc, "no matching key was found for the provided AES transformer")
        if provider.secretbox is not None:
            from podling.apiserver.encryption.secretbox import Secretbox

            why = "no matching key was found for the provided Secretbox transformer"
            return _keyed("secretbox", provider.secretbox, Secretbox, why)
        if provider.kms is not None:
            return self._kms(provider.kms)
        return Prefixed(b"", _IDENTITY)

    def _kms(self, config: KmsConfiguration) -> Prefixed:
        if config.api_version == "v1":
            raise TransformError(_KMS_V1_IS_OFF)
        from podling.apiserver.encryption.kms import Kms
        from podling.apiserver.encryption.kms_service import Service

        plugin = Kms(config.name, Service(config.name, config.endpoint, config.seconds))
        self.plugins.append(plugin)
        return Prefixed(_KMS_V2 + config.name.encode() + b":", plugin)


def _keyed(name: str, keys: Keys, make: Callable[[bytes, str], Transformer], unknown: str) -> Prefixed:
    choices = []
    for key in keys.keys:
        secret = decoded(key)
        # A key of the same name but with another secret is another key.
        label = f"{name}:{key.name}:{hashlib.sha256(secret).hexdigest()[:16]}"
        choices.append(Prefixed(key.name.encode() + b":", make(secret, label)))
    return Prefixed(_PREFIXES[name], Choice(choices, unknown))


def described(data: bytes) -> str:
    """By what a stored value is encrypted: `the aescbc key "key1"`."""
    parts = data.split(b":", 5)
    provider, version = (parts[i].decode("utf-8", "replace") if len(parts) > i else "" for i in (2, 3))
    name = parts[4].decode("utf-8", "replace") if len(parts) > 4 else ""
    if provider == "kms":
        return f'the KMS {version} provider "{name}"'
    return f'the {provider} key "{name}"'
