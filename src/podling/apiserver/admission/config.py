"""AdmissionConfiguration (apiserver.config.k8s.io): plugins' own configurations, inline or in files of their own."""

from __future__ import annotations

import os
from typing import Any

import msgspec

from podling.apiserver.config_file import ConfigFileError, strict

KIND = "AdmissionConfiguration"
API_VERSIONS = ("apiserver.config.k8s.io/v1", "apiserver.k8s.io/v1alpha1")


class _Plugin(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    name: str
    path: str = ""
    configuration: dict[str, Any] | None = None


class _Document(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    api_version: str
    kind: str
    plugins: list[_Plugin] = []


def load(path: str) -> dict[str, dict[str, Any]]:
    """The documents of a file by the plugin that they are for. Raises ConfigFileError."""
    document: _Document = strict(path, _Document, KIND, API_VERSIONS)
    found = {}
    for plugin in document.plugins:
        if plugin.configuration is not None:
            found[plugin.name] = plugin.configuration
        elif plugin.path:
            found[plugin.name] = _file(os.path.join(os.path.dirname(os.path.abspath(path)), plugin.path))
    return found


def _file(path: str) -> dict[str, Any]:
    import yaml

    try:
        with open(path, "rb") as file:
            document = yaml.load(file, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except OSError as error:
        raise ConfigFileError(f"open {path}: {(error.strerror or str(error)).lower()}") from None
    except yaml.YAMLError as error:
        raise ConfigFileError(f"{path} is not YAML: {error}") from None
    if not isinstance(document, dict):
        raise ConfigFileError(f"{path} holds no configuration")
    return document
