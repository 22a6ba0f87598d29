"""Configuration files of the API server that are API objects: read, and checked for what should not be there."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import msgspec

from podling.api.struct import ApiStruct
from podling.apiserver.wire import yaml
from podling.errors import PodlingError
from podling.machinery import schema
from podling.machinery.validation import Findings

S = TypeVar("S", bound=ApiStruct)


class ConfigFileError(PodlingError, ValueError):
    """A file that can't be used; the text names it and says why."""


def read(path: str) -> bytes:
    """The file's bytes. Raises ConfigFileError."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise ConfigFileError(f"{path} can't be read: {error.strerror}") from None
    if not data.strip():
        raise ConfigFileError(f"{path} is empty")
    return data


def load(data: bytes, path: str, api_version: str, kind: str, type_: type[S]) -> tuple[S, list[str]]:
    """The object in a file's YAML or JSON, with its unknown and duplicate fields. Raises ConfigFileError."""
    try:
        raw = yaml.decode(data)
        if not isinstance(raw, dict):
            raise ConfigFileError(f"{path} holds no {kind}: write an object with apiVersion: {api_version}")
        found = _check_kind(raw, path, api_version, kind)
        obj = schema.convert(found, type_)
    except schema.DecodeError as error:
        raise ConfigFileError(f"{path} is no {kind}: {error}") from None
    return obj, schema.problems(raw, type_)


def _check_kind(raw: dict[str, Any], path: str, api_version: str, kind: str) -> dict[str, Any]:
    said = raw.get("apiVersion"), raw.get("kind")
    if said != (api_version, kind):
        what = f"{said[0] or 'no apiVersion'}, {said[1] or 'no kind'}"
        raise ConfigFileError(f"{path} says {what}: write apiVersion: {api_version} and kind: {kind}")
    return raw


def findings(path: str, found: list[Any]) -> ConfigFileError:
    """Findings of validation as one error."""
    texts = [str(f) for f in found]
    text = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    return ConfigFileError(f"{path}: {text}")


def strict(path: str, type_: Any, kind: str, versions: tuple[str, ...]) -> Any:
    """A configuration file (YAML or JSON) as `type_`, which knows all fields that there may be, in the first of
    `versions` or another. Raises ConfigFileError."""
    import yaml as pyyaml

    try:
        text = Path(path).read_bytes()
    except OSError as error:
        raise ConfigFileError(f"open {path}: {(error.strerror or str(error)).lower()}") from None
    if not text.strip():
        raise ConfigFileError(f'empty config file "{path}"')
    try:
        document = pyyaml.load(text, Loader=getattr(pyyaml, "CSafeLoader", pyyaml.SafeLoader))
    except pyyaml.YAMLError as error:
        raise ConfigFileError(f"{path} is not YAML: {error}") from None
    if not isinstance(document, dict):
        raise ConfigFileError(f"{path} holds no {kind}")
    found = document.get("kind"), document.get("apiVersion")
    if found[0] != kind or found[1] not in versions:
        what = f'no kind "{found[0] or ""}" is registered for version "{found[1] or ""}"'
        raise ConfigFileError(f"{path}: {what}; write kind: {kind}, apiVersion: {versions[0]}")
    try:
        return msgspec.convert(document, type_)
    except msgspec.ValidationError as error:
        raise ConfigFileError(f"{path}: strict decoding error: {error}") from None


def raise_for(found: Findings) -> None:
    """ConfigFileError with all findings of validation, if there are any."""
    texts = list(dict.fromkeys(str(f) for f in found))
    if texts:
        raise ConfigFileError(texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]")
