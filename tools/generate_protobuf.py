"""Generates src/podling/apiserver/protobuf_fields.txt: the field numbers of the API types in protobuf.

    python tools/generate_protobuf.py API APIMACHINERY           write the table
    python tools/generate_protobuf.py API APIMACHINERY --check   exit 1 if it is not what would be written

API and APIMACHINERY are source trees of k8s.io/api and k8s.io/apimachinery. Only the numbers are taken, from the tags
of the Go types: what a field holds is known from the generated classes. A line is a message:

    core_v1.Volume 1=name 2>core_v1.VolumeSource        `=` a field, `*` one that may be absent though it has a zero
                                                        value, `>` a message whose fields belong to this one
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

TARGET = Path(__file__).resolve().parent.parent / "src" / "podling" / "apiserver" / "protobuf_fields.txt"
GROUPS = (
    "admissionregistration/v1", "apps/v1", "authentication/v1", "authorization/v1", "autoscaling/v1", "autoscaling/v2",
    "batch/v1", "certificates/v1", "coordination/v1", "core/v1", "discovery/v1", "events/v1", "flowcontrol/v1",
    "networking/v1", "node/v1", "policy/v1", "rbac/v1", "resource/v1", "scheduling/v1", "storage/v1",
)  # fmt: skip
STRUCT = re.compile(r"^type (\w+) struct \{\n(.*?)^\}", re.M | re.S)
FIELD = re.compile(
    r"^\s*(?:(\w+)\s+)?(\S+)\s+`json:\"([^\"]*)\"(?:[^`]*?)protobuf:\"(\w+),(\d+),(\w+)[^\"]*\"[^`]*`", re.M
)
IMPORT = re.compile(r"^\s*(?:(\w+)\s+)?\"k8s\.io/(api|apimachinery)/([\w/]+)\"", re.M)


def module(path: str) -> str:
    """`core/v1` or `pkg/apis/meta/v1` as `core_v1`, `meta_v1`."""
    group, version = path.split("/")[-2:]
    return f"{group}_{version}"


def lines_of(source: str, here: str) -> list[str]:
    """The messages of one Go file."""
    aliases = {
        alias or path.rpartition("/")[2]: module(path) for alias, _, path in IMPORT.findall(source) if "/" in path
    }
    found = []
    for name, text in STRUCT.findall(source):
        fields = []
        for own, type_, json, _, number, _ in FIELD.findall(text):
            wire = json.partition(",")[0]
            if not wire:
                package, dot, plain = type_.lstrip("*").rpartition(".")
                fields.append(f"{number}>{aliases.get(package, here) if dot else here}.{plain or own}")
            else:
                fields.append(f"{number}{'*' if type_.startswith('*') else '='}{wire}")
        if fields:
            found.append(f"{here}.{name} {' '.join(fields)}")
    return found


def main() -> int:
    api, machinery = Path(sys.argv[1]), Path(sys.argv[2])
    lines = []
    for group in GROUPS:
        for file in sorted((api / group).glob("types*.go")):
            lines += lines_of(file.read_text(), module(group))
    meta = machinery / "pkg/apis/meta/v1"
    for file in ("types.go",):
        lines += lines_of((meta / file).read_text(), "meta_v1")
    text = "\n".join(sorted(lines)) + "\n"
    if "--check" in sys.argv:
        return 0 if TARGET.read_text() == text else 1
    TARGET.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
