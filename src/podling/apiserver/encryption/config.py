"""apiserver.config.k8s.io/v1 EncryptionConfiguration: read and validated (pkg/apis/apiserver/validation)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from urllib.parse import urlsplit

from msgspec import field

from podling.api import times
from podling.api.struct import ApiStruct, empty_list
from podling.apiserver import config_file
from podling.apiserver.config_file import ConfigFileError
from podling.apiserver.encryption import resource_names
from podling.machinery import schema
from podling.machinery.validation import Findings, Path, invalid, required

API_VERSION = "apiserver.config.k8s.io/v1"
AES_SIZES = (16, 24, 32)
SECRETBOX_SIZES = (32,)


class Key(ApiStruct):
    name: str = ""
    secret: str = ""


class Keys(ApiStruct):
    """Of aesgcm, aescbc and secretbox."""

    keys: list[Key] = field(default_factory=list)


class Identity(ApiStruct):
    pass


class Kms(ApiStruct):
    api_version: str = "v1"
    name: str = ""
    cachesize: int | None = None
    endpoint: str = ""
    timeout: str = "3s"

    @property
    def seconds(self) -> float:
        return times.parse_duration(self.timeout) / 1e9


class Provider(ApiStruct):
    """One of them."""

    aesgcm: Keys | None = None
    aescbc: Keys | None = None
    secretbox: Keys | None = None
    identity: Identity | None = None
    kms: Kms | None = None


class ResourceConfiguration(ApiStruct):
    resources: list[str] = field(default_factory=empty_list)
    providers: list[Provider] = field(default_factory=empty_list)


class EncryptionConfiguration(ApiStruct):
    kind: str = ""
    api_version: str = ""
    resources: list[ResourceConfiguration] = field(default_factory=empty_list)


def load(data: bytes, path: str, *, reload: bool = False) -> EncryptionConfiguration:
    """The configuration in a file's bytes. Raises ConfigFileError."""
    found, problems = config_file.load(data, path, API_VERSION, "EncryptionConfiguration", EncryptionConfiguration)
    if problems:
        said = schema.StrictDecodeError(problems)
        raise ConfigFileError(f'error decoding encryption provider configuration file "{path}": {said}')
    if findings := validate(found, reload=reload):
        raise config_file.findings(path, findings)
    return found


def validate(config: EncryptionConfiguration, *, reload: bool = False) -> Findings:
    """`reload`: the file will be read again when it changes."""
    root = Path("resources")
    if not config.resources:
        return [required(root, "at least one resources is required")]
    found: Findings = []
    kms_names: set[str] = set()
    for index, item in enumerate(config.resources):
        resources, providers = root.index(index).child("resources"), root.index(index).child("providers")
        if not item.resources:
            found.append(required(resources, f"at least one {resources} is required"))
        found += resource_names.validate(item.resources, resources)
        if not item.providers:
            found.append(required(providers, f"at least one {providers} is required"))
        for position, provider in enumerate(item.providers):
            found += _provider(provider, providers.index(position), kms_names, reload)
    return found


def _provider(provider: Provider, at: Path, kms_names: set[str], reload: bool) -> Findings:
    given = [name for name in provider.__struct_fields__ if getattr(provider, name) is not None]
    found: Findings = []
    if not given:
        names = "KMS, AESGCM, AESCBC, Secretbox, Identity"
        found.append(invalid(at, {}, f"provider does not contain any of the expected providers: {names}"))
    elif len(given) > 1:
        why = "more than one provider specified in a single element, should split into different list elements"
        found.append(invalid(at, dict.fromkeys(given, "REDACTED"), why))
    if provider.kms is not None:
        found += _kms(provider.kms, at.child("kms"), kms_names, reload)
        kms_names.add(provider.kms.name)
    elif provider.aesgcm is not None:
        found += _keys(provider.aesgcm.keys, at.child("aesgcm", "keys"), AES_SIZES)
    elif provider.aescbc is not None:
        found += _keys(provider.aescbc.keys, at.child("aescbc", "keys"), AES_SIZES)
    elif provider.secretbox is not None:
        found += _keys(provider.secretbox.keys, at.child("secretbox", "keys"), SECRETBOX_SIZES)
    return found


def _keys(keys: Sequence[Key], at: Path, sizes: Sequence[int]) -> Findings:
    if not keys:
        return [required(at, "at least one keys is required")]
    found: Findings = []
    for index, key in enumerate(keys):
        found += _key(key, at.index(index), sizes)
    return found


def _key(key: Key, at: Path, sizes: Sequence[int]) -> Findings:
    found: Findings = []
    if not key.name:
        found.append(required(at.child("name"), "name is a mandatory field for a key"))
    secret = at.child("secret")
    if not key.secret:
        return [*found, required(secret, "secret is a mandatory field for a key")]
    size = len(decoded(key)) if _is_base64(key.secret) else None
    if size is None:
        found.append(invalid(secret, "REDACTED", "secrets must be base64 encoded"))
    elif size not in sizes:
        listed = " ".join(map(str, sizes))
        why = f"secret is not of the expected length, got {size}, expected one of [{listed}]"
        found.append(invalid(secret, "REDACTED", why))
    return found


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


def decoded(key: Key) -> bytes:
    """The bytes of a key that has been validated."""
    return base64.b64decode(key.secret)


def _kms(kms: Kms, at: Path, names: set[str], reload: bool) -> Findings:
    found: Findings = []
    if not kms.name:
        found.append(required(at.child("name"), "name is a mandatory field for a provider"))
    if kms.api_version != "v1" and ":" in kms.name:
        why = f"invalid KMS provider name {kms.name}, must not contain ':'"
        found.append(invalid(at.child("name"), kms.name, why))
    if (reload or kms.api_version != "v1") and kms.name in names:
        why = f"duplicate KMS provider name {kms.name}, names must be unique"
        found.append(invalid(at.child("name"), kms.name, why))
    found += _timeout(kms, at.child("timeout"))
    found += _endpoint(kms.endpoint, at.child("endpoint"))
    if kms.api_version != "v1" and kms.cachesize is not None:
        found.append(invalid(at.child("cachesize"), kms.cachesize, "cachesize is not supported in v2"))
    if kms.api_version == "v1" and kms.cachesize == 0:
        why = "cachesize should be a positive value, or negative to disable"
        found.append(invalid(at.child("cachesize"), 0, why))
    if kms.api_version not in ("v1", "v2"):
        why = "unsupported apiVersion apiVersion for KMS provider, only v1 and v2 are supported"
        found.append(invalid(at.child("apiVersion"), kms.api_version, why))
    return found


def _timeout(kms: Kms, at: Path) -> Findings:
    try:
        good = kms.seconds > 0
    except ValueError as error:
        return [invalid(at, kms.timeout, str(error))]
    return [] if good else [invalid(at, kms.timeout, "timeout should be a positive value")]


def _endpoint(endpoint: str, at: Path) -> Findings:
    if not endpoint:
        return [invalid(at, "", "endpoint is a mandatory field for a kms")]
    scheme = urlsplit(endpoint).scheme
    if scheme != "unix":
        return [invalid(at, endpoint, f'unsupported scheme "{scheme}" for KMS provider, only unix is supported')]
    return []
