"""Generates src/podling/apiserver/openapi/fields.txt: what OpenAPI says of fields that the API types don't.

    python tools/generate_openapi.py API APIMACHINERY APIEXTENSIONS AGGREGATOR            write the table
    python tools/generate_openapi.py API APIMACHINERY APIEXTENSIONS AGGREGATOR --check    exit 1 if it would change

The arguments are source trees of k8s.io/api, apimachinery, apiextensions-apiserver and kube-aggregator. An enum is a
type of strings marked `+enum`; its values are the constants of that type. A default is the one that a field is marked
with, else the zero value of what is never absent (source: kube-openapi pkg/generators). A line is a value and its
fields:

    enum ["Allow","Forbid","Replace"] batch_v1.CronJobSpec.concurrencyPolicy
    default "TCP" core_v1.ContainerPort.protocol core_v1.ServicePort.protocol
"""

from __future__ import annotations

import json
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

from generate_protobuf import GROUPS, IMPORT, STRUCT, module

TARGET = Path(__file__).resolve().parent.parent / "src" / "podling" / "apiserver" / "openapi" / "fields.txt"
#: A type of strings with the comment above it.
STRINGS = re.compile(r"((?:^//.*\n)*)type (\w+) (\w+)$", re.M)
MARK = re.compile(r"^//\s*\+enum\s*$", re.M)
#: Name, type and value, written `Name Type = "value"` or `Name = Type("value")`; the value may be another constant.
CONSTANT = re.compile(
    r"^\s*(?:const\s+)?(\w+)(?:\s+(\w+)\s*=\s*|\s*=\s*(\w+)\()(\"(?:[^\"\\]|\\.)*\"|(?:\w+\.)?[A-Z]\w+)", re.M
)
#: The comment, type, wire name and options of a field; the wire name of what is embedded is empty.
FIELD = re.compile(r"((?:^\s*//.*\n)*)^\s*(?:\w+\s+)?(\S+)\s+`json:\"([^\",]*)([^\"]*)", re.M)
DEFAULT = re.compile(r"^\s*//\s*\+default=(.+)$", re.M)
#: What may stand before the type of a field whose values, items or entries are of that type.
HOLDER = re.compile(r"^(?:\*|\[\]|map\[\w+(?:\.\w+)?\])*")
ZERO: dict[str, Any] = {"string": "", "bool": False} | dict.fromkeys(("int", "int32", "int64", "float64"), 0)
#: Named strings of a package that has no types of the API.
STRING_TYPES = {"types.UID": "string", "types.NodeName": "string"}
#: Structs that read themselves from JSON, and have no value that is empty.
OWN_READERS = (
    "meta_v1.Time", "meta_v1.MicroTime", "meta_v1.Duration", "meta_v1.FieldsV1", "resource.Quantity",
    "intstr.IntOrString", "runtime.RawExtension", "apiextensions_v1.JSON", "apiextensions_v1.JSONSchemaPropsOrArray",
    "apiextensions_v1.JSONSchemaPropsOrBool", "apiextensions_v1.JSONSchemaPropsOrStringArray",
)  # fmt: skip
Sources = list[tuple[str, str]]


class Field(NamedTuple):
    """`type` is that of a value, with its module; `held` if there is a pointer, list or map around it."""

    wire: str
    type: str
    held: bool
    omitted: bool
    default: str


def constants_of(sources: Sources) -> tuple[dict[str, str], list[tuple[str, str, str]]]:
    """Strings by the constants' names, and (module, type, value) of those that have a type."""
    found = [(here, *match) for here, source in sources for match in CONSTANT.findall(source)]
    plain = {f"{here}.{name}": json.loads(value) for here, name, _, _, value in found if value.startswith('"')}
    by_name = {name.rpartition(".")[2]: value for name, value in plain.items()}
    typed = []
    for here, _, type_, converted, value in found:
        text = json.loads(value) if value.startswith('"') else by_name.get(value.rpartition(".")[2])
        if text is not None:
            typed.append((here, type_ or converted, text))
    return {**by_name, **plain}, typed


def types_of(sources: Sources) -> tuple[dict[str, str], set[str]]:
    """What named types are made of, and those that are enums."""
    named = {f"{here}.{n}": made_of for here, text in sources for _, n, made_of in STRINGS.findall(text)} | STRING_TYPES
    enums = {f"{here}.{n}" for here, text in sources for mark, n, _ in STRINGS.findall(text) if MARK.search(mark)}
    return named, enums


def fields_of(sources: Sources) -> dict[str, list[Field]]:
    """The fields of the structs, by their names with the module."""
    found = {}
    for here, source in sources:
        imports = IMPORT.findall(source)
        aliases = {alias or path.rpartition("/")[2]: module(path) for alias, _, path in imports if "/" in path}
        aliases |= {name: name for name in ("resource", "intstr", "runtime", "types")}
        for name, text in STRUCT.findall(source):
            fields = found[f"{here}.{name}"] = []
            for comment, written, wire, options in FIELD.findall(text):
                package, dot, plain = HOLDER.sub("", written).rpartition(".")
                type_ = plain if plain in ZERO and not dot else f"{aliases.get(package, '?') if dot else here}.{plain}"
                marked = DEFAULT.search(comment)
                held = written.startswith(("*", "[", "map["))
                fields.append(Field(wire, type_, held, "omitempty" in options, marked[1].strip() if marked else ""))
    return found


def flat(structs: dict[str, list[Field]], name: str) -> list[Field]:
    """The fields of a struct with those of the structs that are embedded in it."""
    return [f for field in structs.get(name, []) for f in ([field] if field.wire else flat(structs, field.type))]


def default_of(field: Field, named: dict[str, str], structs: dict[str, list[Field]], constants: dict[str, str]) -> Any:
    """The default of a field, None without one."""
    if field.default.startswith("ref("):
        return constants.get(field.default[4:-1].rpartition(".")[2])
    if field.default:
        return json.loads(field.default)
    if field.held or field.type in OWN_READERS:
        return None
    if field.type in structs:
        return {}
    return None if field.omitted else ZERO.get(named.get(field.type, field.type))


def main() -> int:
    api, machinery, extensions, aggregator = (Path(argument) for argument in sys.argv[1:5])
    folders = {module(group): api / group for group in GROUPS}
    folders["meta_v1"] = machinery / "pkg/apis/meta/v1"
    folders["apiextensions_v1"] = extensions / "pkg/apis/apiextensions/v1"
    folders["apiregistration_v1"] = aggregator / "pkg/apis/apiregistration/v1"
    files = [(here, file) for here, folder in folders.items() for file in sorted(folder.glob("types*.go"))]
    files += [("meta_v1", folders["meta_v1"] / name) for name in ("watch.go", "group_version.go")]
    sources = [(here, file.read_text()) for here, file in files]
    constants, typed = constants_of(sources)
    (named, enums), structs = types_of(sources), fields_of(sources)
    values: dict[str, set[str]] = defaultdict(set)
    for here, type_, text in typed:
        values[f"{here}.{type_}"].add(text)
    users: dict[str, list[str]] = defaultdict(list)
    for struct in structs:
        for field in flat(structs, struct):
            name = f"{struct}.{field.wire}"
            if field.type in enums:
                listed = sorted(values[field.type], key=json.dumps)
                users["enum " + json.dumps(listed, separators=(",", ":"))].append(name)
            if (default := default_of(field, named, structs, constants)) is not None:
                users["default " + json.dumps(default, separators=(",", ":"))].append(name)
    text = "".join(sorted(f"{what} {' '.join(sorted(fields))}\n" for what, fields in users.items()))
    if "--check" in sys.argv:
        return 0 if TARGET.exists() and TARGET.read_text() == text else 1
    TARGET.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
