"""JSON patches (RFC 6902) over decoded documents.

Failures carry upstream's texts (evanphx/json-patch), because `kubectl patch --type=json` shows them. An array index may
be negative, counting from the end, as upstream allows.
"""

from __future__ import annotations

import copy
from typing import Any

import msgspec

from podling.api.numbers import NumberError, atoi
from podling.errors import PodlingError

#: Upstream's limit of operations in one patch.
MAX_OPERATIONS = 10_000
#: Upstream's limit of what the copy operations of one patch may add, in bytes: each copy of a copy doubles it.
MAX_COPIED = 3 * 1024 * 1024
_KINDS = ("add", "remove", "replace", "move", "copy", "test")
_ABSENT: Any = object()


class PatchError(PodlingError):
    """The patch does not apply to this document (upstream: HTTP 422)."""


class MalformedPatch(PatchError):
    """The patch is not a list of operations (HTTP 400)."""


class TooLarge(PatchError):
    """More than MAX_OPERATIONS, or more than MAX_COPIED bytes would be copied (HTTP 413)."""


def apply(document: Any, patch: Any) -> Any:
    """The patched document; `document` itself is left as it is. Raises PatchError; then nothing was done."""
    check(patch)
    result = copy.deepcopy(document)
    copied = 0
    for operation in patch:
        copied += _apply_one(result, operation)
        if copied > MAX_COPIED:
            what = f"the accumulated size increase of copy is {copied}, exceeding the limit {MAX_COPIED}"
            raise TooLarge(f"Unable to complete the copy, {what}")
    return result


def check(patch: Any) -> None:
    """Raises MalformedPatch or TooLarge."""
    if not isinstance(patch, list):
        raise MalformedPatch(f"json: cannot unmarshal {_kind(patch)} into Go value of type jsonpatch.Patch")
    for operation in patch:
        if not isinstance(operation, dict):
            raise MalformedPatch(f"json: cannot unmarshal {_kind(operation)} into Go value of type jsonpatch.Operation")
    if len(patch) > MAX_OPERATIONS:
        raise TooLarge(f"The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {len(patch)}")


def _kind(value: Any) -> str:
    names = {dict: "object", list: "array", str: "string", bool: "bool", int: "number", float: "number"}
    return names.get(type(value), "null")


def _apply_one(document: Any, operation: dict[str, Any]) -> int:
    """Gives how many bytes were copied."""
    kind = operation.get("op")
    if kind not in _KINDS:
        raise PatchError(f"Unexpected kind: {kind if isinstance(kind, str) else 'unknown'}")
    path = operation.get("path")
    if not isinstance(path, str):
        raise PatchError(f"{kind} operation failed to decode path: missing value")
    match kind:
        case "add":
            _add(document, path, copy.deepcopy(operation.get("value")))
        case "remove":
            _remove(document, path)
        case "replace":
            _replace(document, path, copy.deepcopy(operation.get("value")))
        case "test":
            _test(document, path, operation)
        case _:
            return _transfer(document, path, operation, kind)
    return 0


def _add(document: Any, path: str, value: Any) -> None:
    holder, key = _find(document, path)
    if holder is None:
        raise PatchError(f'add operation does not apply: doc is missing path: "{path}": missing value')
    _insert(holder, key, value, f"error in add for path: '{path}'")


def _insert(holder: Any, key: str, value: Any, where: str) -> None:
    if isinstance(holder, dict):
        holder[key] = value
    elif key == "-":
        holder.append(value)
    else:
        try:
            index, size = atoi(key), len(holder) + 1
        except NumberError as error:
            raise PatchError(f"{where}: value was not a proper array index: '{key}': {error}") from None
        if index >= size or index < -size:
            raise PatchError(f"{where}: Unable to access invalid index: {index}: invalid index referenced")
        holder.insert(index if index >= 0 else index + size, value)


def _remove(document: Any, path: str) -> None:
    holder, key = _find(document, path)
    if holder is None:
        raise PatchError(f'remove operation does not apply: doc is missing path: "{path}": missing value')
    _take(holder, key, f"error in remove for path: '{path}'")


def _take(holder: Any, key: str, where: str) -> Any:
    if isinstance(holder, dict):
        if key not in holder:
            raise PatchError(f"{where}: Unable to remove nonexistent key: {key}: missing value")
        return holder.pop(key)
    return holder.pop(_index(holder, key, where))


def _index(holder: list[Any], key: str, where: str) -> int:
    try:
        index = atoi(key)
    except NumberError as error:
        raise PatchError(f"{where}: {error}") from None
    if not -len(holder) <= index < len(holder):
        raise PatchError(f"{where}: Unable to access invalid index: {index}: invalid index referenced")
    return index


def _get(holder: Any, key: str, where: str) -> Any:
    if isinstance(holder, dict):
        return holder.get(key, _ABSENT)
    return holder[_index(holder, key, where)]


def _replace(document: Any, path: str, value: Any) -> None:
    holder, key = _find(document, path)
    if holder is None:
        raise PatchError(f"replace operation does not apply: doc is missing path: {path}: missing value")
    missing = f"replace operation does not apply: doc is missing key: {path}: missing value"
    if isinstance(holder, dict):
        if key not in holder:
            raise PatchError(missing)
        holder[key] = value
        return
    try:
        holder[_index(holder, key, "")] = value
    except PatchError:
        raise PatchError(missing) from None


def _test(document: Any, path: str, operation: dict[str, Any]) -> None:
    holder, key = _find(document, path)
    if holder is None:
        raise PatchError(f"test operation does not apply: is missing path: {path}: missing value")
    found = _get(holder, key, f"error in test for path: '{path}'")
    wanted = operation.get("value")
    if not _same(None if found is _ABSENT else found, wanted):
        raise PatchError(f"testing value {path} failed: test failed")


def _same(a: Any, b: Any) -> bool:
    """Equal as JSON: unlike in Python, true is not 1."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(v, b[k]) for k, v in a.items())
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same, a, b))
    return isinstance(a, bool) == isinstance(b, bool) and bool(a == b)


def _transfer(document: Any, path: str, operation: dict[str, Any], kind: str) -> int:
    source = operation.get("from")
    if not isinstance(source, str):
        raise PatchError(f"{kind} operation failed to decode from: operation, missing from field: missing value")
    holder, key = _find(document, source)
    if holder is None:
        raise PatchError(f"{kind} operation does not apply: doc is missing from path: {source}: missing value")
    where = f"error in move for path: '{key}'" if kind == "move" else f"error in copy for from: '{source}'"
    value = _take(holder, key, where) if kind == "move" else _get(holder, key, where)
    if kind == "copy" and value is not _ABSENT:
        value = copy.deepcopy(value)
    holder, key = _find(document, path)
    if holder is None:
        raise PatchError(f"{kind} operation does not apply: doc is missing destination path: {path}: missing value")
    where = f"error in move for path: '{path}'" if kind == "move" else "error while adding value during copy"
    _insert(holder, key, None if value is _ABSENT else value, where)
    return len(msgspec.json.encode(value)) if kind == "copy" and value is not _ABSENT else 0


def _find(document: Any, path: str) -> tuple[Any, str]:
    """What holds the value at `path`, and under which key; (None, "") if there is no such holder."""
    _, *parts = path.split("/")
    if not parts:
        return None, ""
    holder = document
    for part in parts[:-1]:
        try:
            holder = _get(holder, _unescape(part), "")
        except PatchError:
            return None, ""
        if not isinstance(holder, dict | list):
            return None, ""
    return holder, _unescape(parts[-1])


def _unescape(part: str) -> str:
    """RFC 6901: `~1` is a slash, `~0` a tilde."""
    return part.replace("~1", "/").replace("~0", "~") if "~" in part else part
