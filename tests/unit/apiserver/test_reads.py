"""get and list: consistency, pages, selectors."""

import msgspec
import pytest

from apiserver.harness import Server, config_map, pod, virtual
from podling.api import core_v1, meta_v1
from podling.apiserver import continuation


async def fill(server: Server, count: int, namespace: str = "default", **meta: object) -> None:
    for i in range(count):
        await server.client.create(config_map(f"c{i:03}", namespace=namespace, **meta))


@virtual
async def test_a_read_sees_the_write_before_it(server: Server) -> None:
    made = await server.client.create(config_map("a"))
    found = await server.client.get(core_v1.ConfigMap, "a", "default")
    assert found.metadata.resource_version == made.metadata.resource_version
    assert found.data == {"k": "v"}


@virtual
async def test_get_of_nothing(server: Server) -> None:
    error = await server.fails("GET", "/api/v1/namespaces/default/configmaps/nope")
    assert (error.code, str(error)) == (404, 'configmaps "nope" not found')
    assert error.status.details == meta_v1.StatusDetails(name="nope", kind="configmaps")


@virtual
async def test_get_at_a_version_that_never_comes(server: Server) -> None:
    path = "/api/v1/namespaces/default/configmaps/a"
    error = await server.fails("GET", path, query={"resourceVersion": "99999"})
    assert error.code == 504
    assert "Too large resource version: 99999, current: " in str(error)
    assert error.status.details and error.status.details.causes
    assert error.status.details.causes[0].reason == "ResourceVersionTooLarge"


@virtual
async def test_a_namespace_is_listed_alone_and_all_in_order(server: Server) -> None:
    for name in ("b", "a-b"):
        await server.client.create(core_v1.Namespace(metadata=meta_v1.ObjectMeta(name=name)))
        await fill(server, 2, name)
    await fill(server, 2, "default")
    one = await server.client.list(core_v1.ConfigMap, "b")
    assert [(o.metadata.namespace, o.metadata.name) for o in one.items] == [("b", "c000"), ("b", "c001")]
    everywhere = await server.client.list(core_v1.ConfigMap)
    keys = [f"{o.metadata.namespace}/{o.metadata.name}" for o in everywhere.items]
    assert keys == sorted(keys) and len(keys) == 6


@virtual
async def test_pages_show_one_state(server: Server) -> None:
    await fill(server, 10)
    path, seen, token, version = "/api/v1/namespaces/default/configmaps", [], "", ""
    while True:
        query = {"limit": "3", **({"continue": token} if token else {})}
        page = await server.ask("GET", path, query=query)
        assert page.objects is not None
        seen += [o.metadata.name for o in page.objects]
        version = version or page.metadata.resource_version
        assert page.metadata.resource_version == version
        assert (page.metadata.remaining_item_count or 0) == 10 - len(seen)
        token = page.metadata.continue_ or ""
        if not token:
            break
        # What changes in between is not seen.
        await server.client.delete(core_v1.ConfigMap, seen[-3], "default")
        await server.client.create(config_map(f"c{len(seen)}new"))
    assert seen == [f"c{i:03}" for i in range(10)]


@virtual
async def test_pages_with_a_selector(server: Server) -> None:
    for i in range(9):
        await server.client.create(config_map(f"c{i}", labels={"odd": str(i % 2)}))
    path = "/api/v1/configmaps"
    first = await server.ask("GET", path, query={"limit": "2", "labelSelector": "odd=1"})
    await server.client.create(config_map("zzz"))
    rest = await server.ask(
        "GET", path, query={"limit": "2", "labelSelector": "odd=1", "continue": first.metadata.continue_}
    )
    assert [o.metadata.name for o in (first.objects or []) + (rest.objects or [])] == ["c1", "c3", "c5", "c7"]
    assert first.metadata.remaining_item_count is None
    assert rest.metadata.resource_version == first.metadata.resource_version


@virtual
async def test_an_expired_token_offers_to_go_on_inconsistently(server: Server) -> None:
    await fill(server, 5)
    path = "/api/v1/namespaces/default/configmaps"
    first = await server.ask("GET", path, query={"limit": "2"})
    await server.client.create(config_map("c9"))
    await server.store.compact(server.store.revision)
    error = await server.fails("GET", path, query={"limit": "2", "continue": first.metadata.continue_})
    assert (error.code, error.reason) == (410, "Expired")
    assert str(error).startswith("The provided continue parameter is too old to display a consistent list result.")
    again = error.status.metadata.continue_ or ""
    rest = await server.ask("GET", path, query={"continue": again, "limit": "500"})
    assert [o.metadata.name for o in rest.objects or []] == ["c002", "c003", "c004", "c9"]
    assert int(rest.metadata.resource_version) > int(first.metadata.resource_version)


@virtual
async def test_exact_and_not_older_than(server: Server) -> None:
    await fill(server, 2)
    version = str(server.store.revision)
    await server.client.delete(core_v1.ConfigMap, "c000", "default")
    path = "/api/v1/configmaps"
    exact = await server.ask("GET", path, query={"resourceVersion": version, "resourceVersionMatch": "Exact"})
    assert [o.metadata.name for o in exact.objects or []] == ["c000", "c001"]
    assert exact.metadata.resource_version == version
    newer = await server.ask("GET", path, query={"resourceVersion": version, "resourceVersionMatch": "NotOlderThan"})
    assert [o.metadata.name for o in newer.objects or []] == ["c001"]
    any_ = await server.ask("GET", path, query={"resourceVersion": "0", "limit": "1"})
    assert len(any_.objects or []) == 1 and not any_.metadata.continue_


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ({"resourceVersionMatch": "Exact"}, "resourceVersionMatch is forbidden unless resourceVersion is provided"),
        ({"resourceVersionMatch": "Exact", "resourceVersion": "0"}, 'is forbidden for resourceVersion "0"'),
        ({"resourceVersionMatch": "X", "resourceVersion": "1"}, 'Unsupported value: "X"'),
        ({"sendInitialEvents": "true"}, "sendInitialEvents is forbidden for list"),
        ({"watch": "1", "sendInitialEvents": "true"}, "sendInitialEvents requires setting resourceVersionMatch to"),
        ({"fieldSelector": "spec.nodeName=a"}, "is not a known field selector"),
        ({"labelSelector": "a in"}, "unable to parse requirement"),
        ({"limit": "x"}, "invalid syntax"),
        ({"continue": "%%%"}, "continue key is not valid"),
        ({"resourceVersion": "abc"}, "invalid syntax"),
    ],
)
@virtual
async def test_options_that_make_no_sense(server: Server, query: dict[str, str], text: str) -> None:
    error = await server.fails("GET", "/api/v1/configmaps", query=query)
    assert error.code in (400, 422)
    assert text in str(error)


_PATH = "/api/v1/namespaces/default/configmaps"
TOKEN = continuation.encode("default/c001", -1)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        *((text, "invalid syntax") for text in ("abc", "-1", "+1", "1_0", " 1", "1.5", "\u00b2", "\u0663")),
        *((text, "value out of range") for text in (str(2**64), "9" * 5000)),
    ],
)
@virtual
async def test_what_is_no_resource_version(server: Server, text: str, what: str) -> None:
    await server.client.create(config_map("a"))
    said = f'strconv.ParseUint: parsing "{text}": {what}'
    shown = f'resourceVersion: Invalid value: "{text}": {said}'
    for path, query, message in (
        (_PATH, {}, f"invalid resource version: {shown}"),
        (_PATH, {"watch": "1"}, shown),
        (f"{_PATH}/a", {}, shown),
    ):
        error = await server.fails("GET", path, query={"resourceVersion": text, **query})
        assert (error.code, error.status.reason, error.status.message) == (400, "BadRequest", message)
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "resourceVersion": text}}
    error = await server.fails("PUT", f"{_PATH}/a", body)
    assert error.code == 422 and f'metadata.resourceVersion: Invalid value: "{text}": {said}' in str(error)


@pytest.mark.parametrize(
    ("query", "code", "text"),
    [
        # What the options say of each other comes before what a version says.
        ({"resourceVersion": "x", "resourceVersionMatch": "X"}, 422, 'Unsupported value: "X"'),
        ({"resourceVersion": "x", "resourceVersionMatch": "Exact"}, 400, "invalid resource version: "),
        ({"resourceVersion": "x", "watch": "1", "sendInitialEvents": "1"}, 422, "sendInitialEvents requires"),
        ({"resourceVersion": "x", "continue": "%"}, 400, "continue key is not valid"),
        ({"resourceVersion": "x", "continue": TOKEN}, 400, "specifying resource version is not allowed when using"),
        ({"resourceVersion": "1", "continue": TOKEN}, 400, "specifying resource version is not allowed when using"),
    ],
)
@virtual
async def test_which_fault_of_a_version_is_told(server: Server, query: dict[str, str], code: int, text: str) -> None:
    error = await server.fails("GET", _PATH, query=query)
    assert error.code == code and text in str(error)


@virtual
async def test_version_zero_beside_a_token_says_nothing(server: Server) -> None:
    await fill(server, 3)
    found = await server.ask("GET", _PATH, query={"resourceVersion": "0", "continue": TOKEN})
    assert [o.metadata.name for o in found.objects or []] == ["c001", "c002"]


@pytest.mark.parametrize("version", [2**63, 2**64 - 1])
@virtual
async def test_the_largest_resource_versions_are_too_large(server: Server, version: int) -> None:
    for more in ({}, {"resourceVersionMatch": "Exact"}, {"limit": "1"}):
        error = await server.fails("GET", _PATH, query={"resourceVersion": str(version), **more})
        assert error.code == 504 and "Too large resource version" in str(error)


@pytest.mark.parametrize("name", ["limit", "timeoutSeconds"])
@pytest.mark.parametrize(
    "text", ["", "x", "1_0", " 1", "1.5", "\u00b2", "\u0663", str(2**63), str(-(2**63) - 1), "9" * 5000]
)
@virtual
async def test_numbers_are_read_as_go_reads_them(server: Server, name: str, text: str) -> None:
    for watch in ({}, {"watch": "1"}):
        error = await server.fails("GET", _PATH, query={name: text, **watch})
        large = text.lstrip("-").isascii() and text.lstrip("-").isdigit()
        what = "value out of range" if large else "invalid syntax"
        assert error.code == 400 and error.status.message == f'strconv.ParseInt: parsing "{text}": {what}'


@virtual
async def test_a_negative_limit_is_none(server: Server) -> None:
    await fill(server, 3)
    version = str(server.store.revision)
    await server.client.delete(core_v1.ConfigMap, "c000", "default")
    for query, count in (({}, 2), ({"resourceVersion": version, "resourceVersionMatch": "Exact"}, 3)):
        found = await server.ask("GET", _PATH, query={"limit": "-1", **query})
        assert len(found.objects or []) == count and not found.metadata.continue_


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("metadata.name=b", ["b"]),
        ("metadata.name!=b", ["a", "c"]),
        ("spec.nodeName=n1", ["a"]),
        ("spec.nodeName=", ["c"]),
        ("spec.nodeName!=n1", ["b", "c"]),
        ("spec.nodeName=n1,metadata.name=b", []),
        ("metadata.namespace=default,metadata.name=c", ["c"]),
        ("status.phase=Pending", ["a", "b", "c"]),
    ],
)
@virtual
async def test_field_selectors(server: Server, selector: str, names: list[str]) -> None:
    for name, node in (("a", "n1"), ("b", "n2"), ("c", None)):
        await server.client.create(pod(name, node_name=node))
    for namespace in (None, "default"):
        found = await server.client.list(core_v1.Pod, namespace, field_selector=selector)
        assert [o.metadata.name for o in found.items] == names


@virtual
async def test_unknown_field_of_a_kind_that_has_some(server: Server) -> None:
    error = await server.fails("GET", "/api/v1/pods", query={"fieldSelector": "spec.foo=a"})
    assert str(error) == "field label not supported: spec.foo"


@virtual
async def test_what_was_stored_before_the_start_is_served(server: Server) -> None:
    from podling.apiserver.app import ApiServer
    from podling.client.client import ApiClient

    made = await server.client.create(config_map("a"))
    second = ApiServer(server.store)
    await second.start()
    try:
        client = ApiClient(second)  # type: ignore[arg-type]
        assert await client.get(core_v1.ConfigMap, "a", "default") == made
        # What another server writes comes by the log.
        await server.client.update(msgspec.structs.replace(made, data={"k": "w"}))
        assert (await client.get(core_v1.ConfigMap, "a", "default")).data == {"k": "w"}
    finally:
        await second.close()
