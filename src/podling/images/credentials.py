"""imagePullSecrets as credentials: which user and password belong to which registry and path.

The rules are the kubelet's keyring (k8s.io/kubernetes/pkg/credentialprovider): keys may be hosts with globs in their
labels and a path prefix; the most specific key comes first; all that match are tried.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from podling.api import core_v1
from podling.images.base import Credentials, ImageError

_CONFIG_JSON = ("kubernetes.io/dockerconfigjson", ".dockerconfigjson")
_CONFIG_LEGACY = ("kubernetes.io/dockercfg", ".dockercfg")
#: The key under which Docker files Docker Hub's credentials.
_HUB_KEY = "index.docker.io"


class InvalidPullSecret(ImageError):
    """A pull secret's content is not a Docker configuration."""


class Keyring:
    """Credentials by registry and path. Immutable once made; `lookup` costs one pass over its keys."""

    def __init__(self, entries: Iterable[tuple[str, Credentials]] = ()) -> None:
        by_key: dict[str, list[Credentials]] = {}
        for location, credentials in entries:
            by_key.setdefault(_key(location), []).append(credentials)
        # Reversed, so that a longer path is tried before its prefix.
        self._entries = sorted(by_key.items(), reverse=True)

    def lookup(self, repository: str) -> tuple[Credentials, ...]:
        """All credentials for a repository such as `docker.io/library/nginx`, the most specific first."""
        found = [c for key, credentials in self._entries if _matches(key, repository) for c in credentials]
        if not found and _is_hub(repository):
            found = [c for key, credentials in self._entries if key == _HUB_KEY for c in credentials]
        return tuple(dict.fromkeys(found))


def keyring_of_secrets(secrets: Iterable[core_v1.Secret]) -> Keyring:
    """The keyring of a pod's imagePullSecrets; secrets of other types are skipped. Raises InvalidPullSecret."""
    entries: list[tuple[str, Credentials]] = []
    for secret in secrets:
        for type_, key in (_CONFIG_JSON, _CONFIG_LEGACY):
            data = (secret.data or {}).get(key)
            if secret.type == type_ and data:
                name = secret.metadata.name if secret.metadata else ""
                try:
                    config = msgspec.json.decode(base64.b64decode(data))
                    auths = config.get("auths") or {} if type_ == _CONFIG_JSON[0] else config
                    entries += entries_of_auths(auths)
                except (msgspec.DecodeError, binascii.Error, AttributeError, TypeError) as error:
                    raise InvalidPullSecret(f"secret {name!r} holds no valid {key}: {error}") from None
    return Keyring(entries)


def entries_of_auths(auths: Mapping[str, Any]) -> list[tuple[str, Credentials]]:
    """The `auths` of a Docker configuration (also of ~/.docker/config.json) as (location, credentials)."""
    return [(location, _credentials(auth)) for location, auth in auths.items()]


def _credentials(auth: Mapping[str, Any]) -> Credentials:
    username, password = auth.get("username") or "", auth.get("password") or ""
    if not username and auth.get("auth"):
        decoded = base64.b64decode(auth["auth"] + "=" * (-len(auth["auth"]) % 4)).decode("utf-8", "replace")
        username, _, password = decoded.partition(":")
        password = password.rstrip("\x00")
    return Credentials(
        username=username,
        password=password,
        identity_token=auth.get("identitytoken") or "",
        registry_token=auth.get("registrytoken") or "",
    )


def _key(location: str) -> str:
    parsed = urlsplit(location if location.startswith(("http://", "https://")) else f"https://{location}")
    path = parsed.path
    if path.startswith(("/v1/", "/v2/")):
        path = path[3:]
    return parsed.netloc + (path if path != "/" else "")


def _matches(key: str, repository: str) -> bool:
    """Host labels match as globs one to one, ports are equal, and the key's path is a prefix."""
    key_host, _, key_path = key.partition("/")
    host, _, path = repository.partition("/")
    (key_name, _, key_port), (name, _, port) = key_host.partition(":"), host.partition(":")
    if key_port != port:
        return False
    key_labels, labels = key_name.split("."), name.split(".")
    if len(key_labels) != len(labels):
        return False
    if not all(fnmatch.fnmatchcase(label, glob) for glob, label in zip(key_labels, labels, strict=True)):
        return False
    return path.startswith(key_path)


def _is_hub(repository: str) -> bool:
    first, slash, _ = repository.partition("/")
    return not slash or first in ("docker.io", "index.docker.io") or not any(c in first for c in ".:")
