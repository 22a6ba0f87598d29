"""Bodies that are made to break what reads them: refused at the door, quickly, and with nothing written."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from apiserver.harness import Server, virtual
from podling.api.errors import StatusError

PATH = "/api/v1/namespaces/default/configmaps"
JSON, YAML = "application/json", "application/yaml"
APPLY, PATCH = "application/apply-patch+yaml", "application/json-patch+json"
MERGE, STRATEGIC = "application/merge-patch+json", "application/strategic-merge-patch+json"

#: Nine times nine times nine ... strings.
BOMB = b"a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + b"".join(
    b"a%d: &a%d [%s]\n" % (i, i, b",".join([b"*a%d" % (i - 1)] * 9)) for i in range(1, 10)
)
OBJECT = b"apiVersion: v1\nkind: ConfigMap\n"


def deep(depth: int, head: bytes = b'{"x":') -> bytes:
    return head + b'{"a":' * depth + b"1" + b"}" * depth + b"}"


async def asked(server: Server, kind: str, body: bytes) -> tuple[int, str]:
    """The status of a write with this body, and what is said."""
    method, path = ("POST", PATH) if kind in (JSON, YAML) else ("PATCH", f"{PATH}/a")
    query = {"fieldManager": "kubectl", "force": "true"} if kind == APPLY else {}
    try:
        return (await server.ask(method, path, body, headers={"content-type": kind}, query=query)).status, ""
    except StatusError as error:
        return error.code, error.status.message or ""


@pytest.mark.parametrize(
    ("kind", "body", "said"),
    [
        *((kind, deep(depth), "exceeded max depth") for kind in (JSON, MERGE, STRATEGIC) for depth in (200, 100_000)),
        (JSON, b"[" * 100_000, "exceeded max depth"),
        (YAML, b"x: " + b"{a: " * 200 + b"1" + b"}" * 200, "exceeded max depth"),
        (YAML, b"x: " + b"[" * 100_000, "yaml"),
        (YAML, b"".join(b" " * i + b"a:\n" for i in range(1500)), "yaml"),
        (YAML, BOMB, "yaml: document contains excessive aliasing"),
        (APPLY, OBJECT + BOMB, "yaml: document contains excessive aliasing"),
        (YAML, b"metadata: &a {name: y, x: *a}", "yaml"),
        (YAML, b"metadata: {name: !!python/object/apply:os.system [id]}", "cannot unmarshal array into Go struct"),
        (PATCH, b'[{"op":"add","path":"/x","value":' + b"[" * 200 + b"]" * 200 + b"}]", "exceeded max depth"),
        (PATCH, b"null", "cannot unmarshal null"),
        (PATCH, b"[null]", "cannot unmarshal null"),
        (PATCH, b'[{"op":"add","path":5,"value":1}]', "the server rejected our request"),
        (APPLY, b'{"kind":1,"apiVersion":2}', "invalid object type"),
    ],
)  # fmt: skip
@virtual
async def test_what_can_not_be_read(server: Server, kind: str, body: bytes, said: str) -> None:
    await server.ask("POST", PATH, {"metadata": {"name": "a"}, "data": {"k": "v"}})
    before, started = server.store.revision, time.perf_counter()
    code, message = await asked(server, kind, body)
    assert code in (400, 422) and said in message
    assert server.store.revision == before
    assert time.perf_counter() - started < 5


@virtual
async def test_a_patch_can_not_nest_or_copy_without_end(server: Server) -> None:
    await server.ask("POST", PATH, {"metadata": {"name": "a"}, "data": {"k": "v"}})
    start = {"op": "add", "path": "/x", "value": [[["y" * 1000]]]}
    copies = [start, *([{"op": "copy", "from": "/x", "path": "/x/-"}] * 60)]
    code, message = await asked(server, PATCH, json.dumps(copies).encode())
    assert code == 413 and "Unable to complete the copy" in message
    nests = [start, *({"op": "add", "path": "/x" + "/0" * i, "value": [[]]} for i in range(1, 300))]
    assert (await asked(server, PATCH, json.dumps(nests).encode()))[0] == 422
    assert (await asked(server, PATCH, json.dumps([start] * 10_001).encode()))[0] == 413


@virtual
async def test_thousands_of_duplicate_keys(server: Server) -> None:
    keys = b"".join(b"  k%d: x\n  k%d: z\n" % (i, i) for i in range(5000))
    started = time.perf_counter()
    code, _ = await asked(server, YAML, OBJECT + b"metadata: {name: w}\ndata:\n" + keys)
    assert code == 201 and time.perf_counter() - started < 5
    await asyncio.sleep(0)
