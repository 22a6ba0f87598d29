"""Large bodies: they are read beside the loop, and say what they would have said on it."""

from __future__ import annotations

import asyncio

import pytest

from apiserver.test_server import PATH, serving

YAML = {"content-type": "application/yaml"}
APPLY = {"content-type": "application/apply-patch+yaml"}
HEAD = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"
#: As many nodes as take the parser seconds, and a map that has a key twice.
MANY = HEAD + b"data: {k: v}\nbinaryData: {" + b"".join(b"k%d: YQ==," % n for n in range(100_000)) + b"}\n"


async def _longest_pause(until: asyncio.Task[object]) -> float:
    loop, longest = asyncio.get_running_loop(), 0.0
    while not until.done():
        before = loop.time()
        await asyncio.sleep(0)
        longest = max(longest, loop.time() - before)
    return longest


async def test_others_are_answered_while_a_large_document_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving() as web:
        loop = asyncio.get_running_loop()
        # What is not YAML's is the same for JSON, and no matter here: the document is refused as it is read.
        body = HEAD + b"x: [" + b"[]," * 200_000 + b"\n"
        began = loop.time()
        asking = asyncio.create_task(web.ask("POST", PATH, data=body, headers=YAML))
        longest = await _longest_pause(asking)
        took = loop.time() - began
        response, said = await asking
        assert response.status == 400 and "error converting YAML to JSON" in said["message"]
        assert longest < took / 3, f"a pause of {longest:.2f} s in {took:.2f} s"


async def test_a_large_document_is_taken() -> None:
    async with serving() as web:
        response, made = await web.ask("POST", PATH, data=MANY[: MANY.index(b"k9000")] + b"}\n", headers=YAML)
        assert response.status == 201 and made["binaryData"]["k8999"] == "YQ=="
        put = MANY[: MANY.index(b"k9000")].replace(b"YQ==", b"Yg==") + b"}\n"
        response, made = await web.ask("PUT", f"{PATH}/a", data=put, headers=YAML)
        assert response.status == 200 and made["binaryData"]["k8999"] == "Yg=="


@pytest.mark.parametrize("form", ["yaml", "json"])
async def test_what_a_large_intent_says_twice(form: str) -> None:
    async with serving() as web:
        keys = ",\n".join(f'"k{n}": "v"' for n in [*range(9000), 7])
        body = '{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b"}, "data": {\n' + keys + "}}"
        if form == "yaml":
            body = "# not JSON\n" + body
        path = f"{PATH}/b?fieldManager=t&fieldValidation=Strict"
        response, said = await web.ask("PATCH", path, data=body.encode(), headers=APPLY)
        line = 9002 + (form == "yaml")
        assert response.status == 400 and f'line {line}: key "k7" already set in map' in said["message"]
        warned, _ = await web.ask("PATCH", path.replace("Strict", "Warn"), data=body.encode(), headers=APPLY)
        assert warned.status == 201 and 'key \\"k7\\" already set in map' in warned.headers["warning"]
