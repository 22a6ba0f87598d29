"""What a client gets of what it accepts: upstream's rules, to the letter."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podling.api.errors import StatusError
from podling.apiserver.negotiate import (
    CBOR,
    JSON,
    PROTOBUF,
    YAML,
    Media,
    clauses,
    negotiate,
    of_failure,
    wants_gzip,
    wants_pretty,
)

META = "g=meta.k8s.io;v=v1"
PARTIAL = f"as=PartialObjectMetadata;{META}"


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("", JSON),
        ("application/json", JSON),
        ("application/yaml", YAML),
        ("*/*", JSON),
        ("*", JSON),
        ("application/*", JSON),
        ("*/json", None),
        ("text/html", None),
        ("text/html, */*;q=0.1", JSON),
        ("application/x-yaml", None),
        # Upper case is another type.
        ("Application/JSON", None),
        (PROTOBUF, PROTOBUF),
        # What typed Go clients send.
        (f"{PROTOBUF},application/json", PROTOBUF),
        (f"{PROTOBUF}, */*", PROTOBUF),
        (f"application/json;q=0.5,{PROTOBUF};q=0.9", PROTOBUF),
        (f"*/*,{PROTOBUF}", PROTOBUF),
        # A quality of 0 is the lowest one, and a wrong one is that.
        ("application/json;q=0,application/yaml;q=0.5", YAML),
        ("application/json;q=0", JSON),
        ("application/json;q=x,application/yaml;q=0.1", YAML),
        # Parameters that are not known are passed over.
        ("application/json;charset=utf-8", JSON),
        ("application/json;stream=watch", JSON),
        ("application/yaml;stream=watch", None),
        ("application/json;stream=other", None),
        ("application/json;sv=v1", JSON),
        ("application/json;sv=v2", None),
        ("application/json;v=v1", None),
        (f"application/json;as=Table;{META}", JSON),
        (f"application/yaml;as=Table;{META}", YAML),
        (f"{PROTOBUF};as=Table;{META}", None),
        (f"{PROTOBUF};as=Table;{META},application/json", JSON),
        (f"{PROTOBUF};{PARTIAL}", PROTOBUF),
        (f"application/json;as=Nothing;{META}", None),
        ("application/json;as=Table;g=meta.k8s.io;v=v2", None),
        (CBOR, None),
        (f"{CBOR},application/json", JSON),
        (",, ;,application/json", JSON),
    ],
)
def test_one_answer(accept: str, wanted: str | None) -> None:
    if wanted is not None:
        assert negotiate(accept).type == wanted
        return
    with pytest.raises(StatusError) as caught:
        negotiate(accept)
    assert (caught.value.code, caught.value.reason, str(caught.value)) == (
        406,
        "NotAcceptable",
        "only the following media types are accepted: application/json, application/yaml, "
        "application/vnd.kubernetes.protobuf",
    )


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        (f"{PROTOBUF};stream=watch", PROTOBUF),
        (f"{PROTOBUF},application/json", PROTOBUF),
        ("application/json", JSON),
        ("application/yaml", None),
        # The first that is good for an answer decides.
        ("application/yaml,application/json", None),
        ("application/yaml;stream=watch,application/json", JSON),
    ],
)
def test_a_watch(accept: str, wanted: str | None) -> None:
    if wanted is not None:
        assert negotiate(accept, watch=True).type == wanted
        return
    with pytest.raises(StatusError) as caught:
        negotiate(accept, watch=True)
    assert str(caught.value) == (
        "only the following media types are accepted: application/json;stream=watch, "
        "application/vnd.kubernetes.protobuf;stream=watch"
    )


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        (f"{PROTOBUF},application/json", JSON),
        (f"{PROTOBUF};{PARTIAL},application/json", PROTOBUF),
        (PROTOBUF, None),
        ("*/*", JSON),
    ],
)
def test_custom_resources_have_no_protobuf(accept: str, wanted: str | None) -> None:
    if wanted is None:
        with pytest.raises(StatusError, match="are accepted: application/json, application/yaml, "):
            negotiate(accept, custom=True)
    else:
        assert negotiate(accept, custom=True).type == wanted


def test_cbor_is_there_when_it_is_switched_on() -> None:
    assert negotiate(CBOR, cbor=True).type == CBOR
    assert negotiate(f"{CBOR};as=Table;{META},*/*", cbor=True).type == JSON
    with pytest.raises(StatusError, match=r"application/vnd\.kubernetes\.protobuf, application/cbor$"):
        negotiate("text/html", cbor=True)
    with pytest.raises(StatusError, match=r"protobuf;stream=watch, application/cbor-seq$"):
        negotiate(YAML, cbor=True, watch=True)


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        (f"application/json;as=Table;{META},application/json", Media()),
        (f"application/json;as=Table;{META}", Media(pretty=True)),
        (f"application/json;as=Table;{META},application/yaml", Media(YAML)),
        (f"{PROTOBUF},application/json", Media(PROTOBUF)),
        ("text/html", Media(pretty=True)),
        ("application/json;sv=v1", Media(pretty=True)),
    ],
)
def test_a_failure_is_never_hidden(accept: str, wanted: Media) -> None:
    assert of_failure(accept) == wanted


@pytest.mark.parametrize(
    ("accept", "query", "agent", "wanted"),
    [
        ("", {}, "curl/8.0", True),
        ("", {}, "kubectl/v1.37", False),
        ("", {"pretty": "false"}, "curl/8.0", False),
        ("", {"pretty": ""}, "curl/8.0", True),
        ("", {"pretty": "true"}, "", True),
        ("", {"pretty": "1"}, "", True),
        ("", {"pretty": "yes"}, "Mozilla/5.0 (X11)", False),
        ("application/json;pretty=1", {}, "", True),
        ("application/yaml;pretty=1", {}, "curl/8.0", False),
    ],
)
def test_answers_for_people(accept: str, query: dict[str, str], agent: str, wanted: bool) -> None:
    assert negotiate(accept, wants_pretty(query, agent)).pretty is wanted


def test_gzip_is_asked_for_by_name() -> None:
    assert [wants_gzip(text) for text in ("gzip", "br, gzip", "gzip;q=1", "x-gzip", "")] == [
        True, True, False, False, False
    ]  # fmt: skip


@given(st.text(alphabet="ab/*;=,q.01 ", max_size=60))
def test_no_header_breaks_it(accept: str) -> None:
    assert isinstance(clauses(accept), tuple)
    assert isinstance(of_failure(accept), Media)


def test_many_clauses_are_read() -> None:
    found = clauses(",".join(f"a/b{i};q=0.{i % 10}" for i in range(1000)))
    assert len(found) == 1000 and [c.quality for c in found] == sorted((c.quality for c in found), reverse=True)
