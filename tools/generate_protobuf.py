"""Generates src/podling/apiserver/wire/protobuf_fields.txt: the field numbers of the API types in protobuf.

    python tools/generate_protobuf.py API APIMACHINERY APIEXTENSIONS AGGREGATOR            write the table
    python tools/generate_protobuf.py API APIMACHINERY APIEXTENSIONS AGGREGATOR --check    exit 1 if it would change

The arguments are source trees of k8s.io/api, apimachinery, apiextensions-apiserver and kube-aggregator. Only the
numbers are taken, from the tags of the Go types: what a field holds is known from the generated classes. A line is a
message:

    core_v1.Volume 1=name 2>core_v1.VolumeSource        `=` a field, `*` one that may be absent though it has a zero
                                                        value, `+` a list in a message of its own, `>` a message whose
                                                        fields belong to this one
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

TARGET = Path(__file__).resolve().parent.parent / "src" / "podling" / "apiserver" / "wire" / "protobuf_fields.txt"
GROUPS = (
    "admissionregistration/v1", "apidiscovery/v2", "apps/v1", "authentication/v1", "authorization/v1",
    "autoscaling/v1", "autoscaling/v2", "batch/v1", "certificates/v1", "coordination/v1", "core/v1", "discovery/v1",
    "events/v1", "flowcontrol/v1", "networking/v1", "node/v1", "policy/v1", "rbac/v1", "resource/v1", "scheduling/v1",
    "storage/v1", "storagemigration/v1",
)  # fmt: skip
STRUCT = re.compile(r"^type (\w+) struct \{\n(.*?)^\}", re.M | re.S)
FIELD = re.compile(
    r"^\s*(?:(\w+)\s+)?(\S+)\s+`json:\"([^\"]*)\"(?:[^`]*?)protobuf:\"(\w+),(\d+),(\w+)[^\"]*\"[^`]*`", re.M
)
#: Named lists, which are messages (as values of maps they are known by their place).
LISTS = ("Verbs",)
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
            package, dot, plain = type_.lstrip("*[]").rpartition(".")
            if wire == "-" or "alpha" in aliases.get(package, ""):
                # Types of versions that are not served are not generated either.
                continue
            if not wire:
                fields.append(f"{number}>{aliases.get(package, here) if dot else here}.{plain or own}")
            else:
                fields.append(f"{number}{'*' if type_.startswith('*') else '+' if plain in LISTS else '='}{wire}")
        if fields:
            found.append(f"{here}.{name} {' '.join(fields)}")
    return found


def main() -> int:
    api, machinery, extensions, aggregator = (Path(argument) for argument in sys.argv[1:5])
    folders = {module(group): api / group for group in GROUPS}
    folders["apiextensions_v1"] = extensions / "pkg/apis/apiextensions/v1"
    folders["apiregistration_v1"] = aggregator / "pkg/apis/apiregistration/v1"
    files = [(here, file) for here, folder in folders.items() for file in sorted(folder.glob("types*.go"))]
    meta = machinery / "pkg/apis/meta/v1"
    files += [("meta_v1", meta / name) for name in ("types.go", "watch.go", "group_version.go")]
    # Kinds as values are written by discovery alone.
    files.append(("apidiscovery_v2", meta / "group_version.go"))
    lines = [line for here, file in files for line in lines_of(file.read_text(), here)]
    text = "\n".join(sorted(lines)) + "\n"
    if "--check" in sys.argv:
        return 0 if TARGET.read_text() == text else 1
    TARGET.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
