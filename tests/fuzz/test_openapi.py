"""The API as its own documents describe it: they are valid, and whatever they allow or forbid to ask is answered.

schemathesis draws requests from the OpenAPI documents that the server publishes, and judges the answers by them. The
server holds an object of each kind, and paths and bodies name it as often as not, so that requests get further than to
the first 404. The ordinary suite asks the same every time; FUZZ=20 asks more, and something else each time.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

import pytest
import requests
import schemathesis
from hypothesis import Phase, given
from hypothesis import strategies as st
from openapi_spec_validator import OpenAPIV2SpecValidator, OpenAPIV30SpecValidator
from schemathesis import Case, GenerationMode
from schemathesis.core import NOT_SET
from schemathesis.core.transport import Response
from yarl import URL

from podling.api import registry
from tests.conformance.web import Web, serving
from tests.fuzz.mutation import NAMESPACE, STORED, minimal
from tests.fuzz.server import MORE, UPSTREAMS_500, examples

#: What waits for something that is not there (a node, another server), is a stream, or is another way to ask for one.
_ELSEWHERE = ("/proxy", "/exec", "/attach", "/portforward", "/log", "/watch/")
#: Of objects that are there by themselves, and of none.
_NAMES = ("default", "kube-system", "kubernetes", "system:admin", "a" * 300, "..", "%", "\u00e4", "\0")
_VERSIONS = [f"{'apis/' if '/' in v else 'api/'}{v}" for v in sorted({r.group_version for r in registry.BUILTIN})]
#: Namespaces that can't be deleted.
_PROTECTED = ("default", "kube-system", "kube-public", "kube-node-lease")
#: Requests for the operations of a group version, if not 40.
_COUNT = {"api/v1": 200, "apis/apps/v1": 60}
#: Seconds for an answer; what waits for a version to come is answered after three.
_PATIENCE = 20.0


async def _documents(web: Web) -> dict[str, Any]:
    index = await web.ask("GET", "/openapi/v3")
    found = {name: await web.ask("GET", entry["serverRelativeURL"]) for name, entry in index["paths"].items()}
    return {"v2": await web.ask("GET", "/openapi/v2"), **found}


async def _published() -> dict[str, Any]:
    async with serving() as web:
        return await _documents(web)


@pytest.fixture(scope="module")
def documents() -> dict[str, Any]:
    return asyncio.run(_published())


def _faults(name: str, document: Any) -> Iterator[str]:
    validator = OpenAPIV2SpecValidator if name == "v2" else OpenAPIV30SpecValidator
    for error in validator(document).iter_errors():
        # Upstream's v3 gives every struct the default {} and every string "", whether or not that is a value of theirs.
        if not (name != "v2" and (error.validator, error.instance) in (("required", {}), ("enum", ""))):
            yield f"{name}: {error.message}"


def test_documents_are_valid(documents: dict[str, Any]) -> None:
    assert set(documents) >= {"v2", *_VERSIONS}
    assert [fault for name, document in documents.items() for fault in _faults(name, document)] == []


class _Version:
    """The operations of one group version, and the server that is asked for them."""

    def __init__(self, web: Web, document: Any) -> None:
        self.web = web
        found = [result.ok() for result in schemathesis.openapi.from_dict(document).get_all_operations()]
        self.operations = [o for o in found if not any(part in o.path for part in _ELSEWHERE)]
        self.names: list[str] = []

    async def fill(self, group_version: str) -> None:
        """An object of each kind that is stored."""
        for resource in STORED:
            if resource.group_version == group_version:
                made = await self.web.ask("POST", resource.collection_path(NAMESPACE), minimal(resource))
                self.names.append(made["metadata"]["name"])

    async def send(self, case: Case) -> None:
        """Ask, and judge the answer."""
        path, query, headers, body = _request(case)
        shown = f"{case.method} {path}?{query} {headers} {body!r}"
        # As it is: a client tidies up `..`, which others do not.
        url = URL(f"{self.web.url}{path}?{query}", encoded=True)
        asking = self.web.session.request(case.method, url, data=body, headers=headers)
        async with asyncio.timeout(_PATIENCE), asking as answer:
            if answer.headers.get("transfer-encoding") == "chunked":
                assert answer.status == 200, "a watch"
                return
            content = await answer.read()
        lines = {k.lower(): [v] for k, v in answer.headers.items()}
        asked = requests.Request(case.method, self.web.url).prepare()
        _judge(case, shown, Response(answer.status, lines, content, asked, 0.0, False))

    async def sweep(self) -> None:
        """Whatever a list has can be read, written back without a change, and deleted."""
        paths = {o.path for o in self.operations}
        for path in sorted(p for p in paths if p.endswith("/{name}")):
            collection = path.removesuffix("/{name}").replace("/namespaces/{namespace}", "")
            methods = {o.method for o in self.operations if o.path == path}
            if collection not in paths:
                continue
            for item in (await self.web.ask("GET", collection))["items"]:
                await self._stands(path, item["metadata"], methods)

    async def _stands(self, path: str, meta: Any, methods: set[str]) -> None:
        at = path.format(namespace=quote(meta.get("namespace", "")), name=quote(meta["name"], safe=""))
        read = await self.web.ask("GET", at)
        if "put" in methods:
            written = await self.web.ask("PUT", at, read)
            if read["kind"] == "Job":
                # One without labels takes over those of its template, which it has been given after it was created.
                read, written = written, await self.web.ask("PUT", at, written)
            assert written == read, f"written back without a change:\n{json.dumps(read)}\n{json.dumps(written)}"
        if "delete" in methods and meta["name"] not in _PROTECTED:
            await self.web.ask("DELETE", at)


def _request(case: Case) -> tuple[str, str, dict[str, str], bytes | None]:
    """Path, query, headers and body."""
    path = case.operation.path
    for key, value in case.path_parameters.items():
        path = path.replace(f"{{{key}}}", quote(str(value), safe=""))
    query = urlencode([(k, str(v)) for k, v in (case.query or {}).items() if k != "timeoutSeconds"], errors="replace")
    if case.body is NOT_SET:
        return path, query, {}, None
    body = json.dumps(case.body, default=lambda found: found.decode("latin-1")).encode()
    kind = case.media_type if case.media_type and "*" not in case.media_type else "application/json"
    return path, query, {"content-type": kind}, body


def _judge(case: Case, shown: str, response: Response) -> None:
    text, status = response.content.decode(errors="replace"), response.status_code
    known = status == 504 and "Too large resource version" in text
    known = known or any(words in text for words in UPSTREAMS_500)
    assert status < 500 or known, f"{shown}: {status} {text}"
    found = json.loads(text)
    if status >= 300:
        assert found["kind"] == "Status" and found["code"] == status and found["message"], shown
        return
    assert str(status) in case.operation.definition.raw["responses"], f"{shown}: {status}"
    # Upstream's documents, and so these, promise a Status of what answers with what it has deleted, and an object of
    # what answers with a Status (a binding, an eviction).
    if case.method != "DELETE" and found["kind"] != "Status":
        case.operation.validate_response(response)


@st.composite
def _cases(draw: st.DrawFn, asked: _Version) -> Case:
    """A request for any operation; every fourth says what the document forbids."""
    operation = draw(st.sampled_from(asked.operations))
    forbidden = draw(st.integers(0, 3)) == 0
    mode = GenerationMode.NEGATIVE if forbidden else GenerationMode.POSITIVE
    case = draw(operation.as_strategy(generation_mode=mode))
    if draw(st.booleans()):
        name = draw(st.sampled_from(asked.names * 3 + list(_NAMES)))
        case.path_parameters = {k: NAMESPACE if k == "namespace" else name for k in case.path_parameters}
        about = operation.definition.raw.get("x-kubernetes-group-version-kind")
        if isinstance(case.body, dict) and isinstance(about, dict):
            case.body = draw(_likely(case.body, about, name))
    return case


@st.composite
def _likely(draw: st.DrawFn, body: dict[str, Any], about: dict[str, str], name: str) -> dict[str, Any]:
    """`body` as an object of the kind that is asked for, or what there is of that kind with a part of `body`."""
    kind = about["kind"]
    version = f"{about['group']}/{about['version']}".removeprefix("/")
    resource = next((r for r in STORED if (r.group_version, r.kind) == (version, kind)), None)
    part = body
    if resource is not None and draw(st.integers(0, 3)):
        keys = draw(st.lists(st.sampled_from(sorted(body)), max_size=1)) if body else []
        part = {**minimal(resource), **{key: body[key] for key in keys}}
    meta = part.get("metadata")
    meta = {**(meta if isinstance(meta, dict) else {}), "name": name}
    return {**part, "kind": kind, "apiVersion": version, "metadata": meta}


@pytest.mark.timeout(120 * MORE)
@pytest.mark.parametrize("version", _VERSIONS)
def test_operations(version: str, documents: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    with asyncio.Runner() as runner:
        context = serving()
        web = runner.run(context.__aenter__())
        asked = _Version(web, documents[version])
        runner.run(asked.fill(version.partition("/")[2]))

        # One server for all, so that a failure does not come again in the same way: its message has what was asked.
        @examples(_COUNT.get(version, 40), phases=[Phase.generate], derandomize=MORE == 1, database=None)
        @given(_cases(asked))
        def ask(case: Case) -> None:
            runner.run(asked.send(case))
            assert [r.getMessage() for r in caplog.records if r.exc_info or r.levelno >= logging.ERROR] == []

        try:
            ask()
            runner.run(asked.sweep())
        finally:
            runner.run(context.__aexit__(None, None, None))
