"""Objects inside of objects (x-kubernetes-embedded-resource): they need a kind, a version, and proper metadata."""

from __future__ import annotations

from typing import Any

from podling.api import meta_v1, names
from podling.apiserver.crd.structural import Node
from podling.machinery import schema, validation
from podling.machinery.validation import Findings, Path, invalid, required


def findings(value: Any, node: Node | None, path: Path | None = None) -> Findings:
    """What is wrong with the embedded objects anywhere in a value."""
    if node is None:
        return []
    found: Findings = []
    if isinstance(value, dict):
        if node.embedded and path is not None:
            found += _object(value, path)
        for key, item in value.items():
            if key in node.properties:
                found += findings(item, node.properties[key], path.child(key) if path is not None else Path(key))
            elif node.more is not None and path is not None:
                found += findings(item, node.more, path.key(key))
    elif isinstance(value, list) and path is not None and node.items is not None:
        for index, item in enumerate(value):
            found += findings(item, node.items, path.index(index))
    return found


def _segment(name: str, *, prefix: bool) -> list[str]:
    """The rule for names of which nothing is known: that they can stand in a URL."""
    problems = [f"may not be '{name}'"] if name in (".", "..") and not prefix else []
    return problems + [f"may not contain '{bad}'" for bad in ("/", "%") if bad in name]


def _object(value: dict[str, Any], path: Path) -> Findings:
    found: Findings = [required(path.child(key)) for key in ("apiVersion", "kind") if key not in value]
    version, kind = value.get("apiVersion"), value.get("kind")
    for key, said in (("apiVersion", version), ("kind", kind)):
        if key not in value:
            continue
        if not isinstance(said, str):
            found.append(invalid(path.child(key), said, "must be a string"))
        elif not said:
            found.append(invalid(path.child(key), said, "must not be empty"))
        elif key == "apiVersion" and said.count("/") > 1:
            found.append(invalid(path.child(key), said, f"unexpected GroupVersion string: {said}"))
        elif key == "kind" and (problems := names.dns_1035_label(said.lower())):
            detail = "may have mixed case, but should otherwise match: " + ",".join(problems)
            found.append(invalid(path.child(key), said, detail))
    if isinstance(value.get("metadata"), dict):
        at = path.child("metadata")
        try:
            meta = schema.convert(value["metadata"], meta_v1.ObjectMeta)
        except schema.DecodeError as error:
            return [*found, invalid(at, value["metadata"], str(error))]
        meta.name = meta.name or "fakename"
        found += validation.object_meta(meta, _segment, namespaced=bool(meta.namespace), path=at)
    return found
