"""YAML, the subset that is JSON: bodies, and answers for people."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from podling.machinery import nesting, schema


def encode(data: bytes) -> bytes:
    """JSON as YAML."""
    import yaml

    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text: str = yaml.dump(msgspec.json.decode(data), Dumper=dumper, default_flow_style=False, allow_unicode=True)
    return text.encode()


def decode(body: bytes) -> Any:
    """YAML as JSON knows it. Raises schema.DecodeError."""
    import yaml

    try:
        found = yaml.load(body, Loader=_loader())
        if nesting.unfolds_too_far(found):
            raise schema.DecodeError("error converting YAML to JSON: yaml: document contains excessive aliasing")
        if nesting.deeper(found):
            raise schema.DecodeError(f"error converting YAML to JSON: {schema.TOO_DEEP}")
    except RecursionError:
        raise schema.DecodeError(f"error converting YAML to JSON: {schema.TOO_DEEP}") from None
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        raise schema.DecodeError(f"error converting YAML to JSON: yaml: {error}") from None
    return found


def duplicate_keys(body: bytes) -> list[tuple[int, str]]:
    """The keys that a YAML document (or JSON, which is YAML) has again in the same map, with their lines."""
    import yaml

    found: list[tuple[int, str]] = []
    walked: set[int] = set()

    def walk(node: Any) -> None:
        # What aliases share is looked at once.
        if id(node) in walked:
            return
        walked.add(id(node))
        if isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in node.value:
                if isinstance(key, yaml.ScalarNode):
                    if key.value in seen:
                        found.append((key.start_mark.line + 1, key.value))
                    seen.add(key.value)
                walk(value)
        elif isinstance(node, yaml.SequenceNode):
            for item in node.value:
                walk(item)

    walk(yaml.compose(body, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    return sorted(found)


def _loader() -> Any:
    """No dates, keys that are strings, duplicate keys marked; the C parser where there is one."""
    global _Loader
    if _Loader is not None:
        return _Loader
    import yaml

    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    def mapping(loader: Any, node: Any) -> dict[str, Any]:
        loader.flatten_mapping(node)
        pairs = [(loader.construct_object(k, True), loader.construct_object(v, True)) for k, v in node.value]
        found = {_key(k): v for k, v in pairs}
        if len(found) == len(pairs):
            return found
        times = Counter(_key(k) for k, _ in pairs)
        marked = schema.WithDuplicates(found)
        marked.duplicates = tuple(k for k in found if times[k] > 1)
        return marked

    class Loader(base):  # type: ignore[misc]
        yaml_implicit_resolvers = {
            first: [(tag, pattern) for tag, pattern in pairs if tag != "tag:yaml.org,2002:timestamp"]
            for first, pairs in base.yaml_implicit_resolvers.items()
        }

    Loader.add_constructor("tag:yaml.org,2002:map", mapping)
    _Loader = Loader
    return Loader


_Loader: Any = None


def _key(key: Any) -> str:
    if isinstance(key, bool):
        return "true" if key else "false"
    return "null" if key is None else str(key)
