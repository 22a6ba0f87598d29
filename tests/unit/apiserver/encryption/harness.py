"""Configurations of encryption for tests."""

from __future__ import annotations

import base64
from typing import Any

import yaml

from podling.api.struct import from_dict
from podling.apiserver.encryption.config import EncryptionConfiguration
from podling.apiserver.encryption.transformers import Transformers


def secret(number: int, size: int = 32) -> str:
    return base64.b64encode(bytes([number]) * size).decode()


def keyed(provider: str, *names: str) -> dict[str, Any]:
    """A provider with keys; the secret of `key3` is made of threes."""
    return {provider: {"keys": [{"name": n, "secret": secret(int(n[-1]))} for n in names]}}


IDENTITY: dict[str, Any] = {"identity": {}}


def rule(resources: str, *providers: dict[str, Any]) -> dict[str, Any]:
    return {"resources": resources.split(), "providers": list(providers)}


def transformers(*rules: dict[str, Any]) -> Transformers:
    return Transformers(from_dict({"resources": list(rules)}, EncryptionConfiguration))


def file(*rules: dict[str, Any]) -> str:
    head = {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration"}
    return yaml.safe_dump({**head, "resources": list(rules)})
