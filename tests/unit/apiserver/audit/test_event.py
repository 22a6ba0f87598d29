import json

import msgspec

from podling.api.request import User
from podling.api.struct import encode
from podling.apiserver.audit import event as events
from podling.apiserver.audit.event import Event, ObjectReference, ResponseStatus


def test_what_is_empty_is_left_out_but_for_what_upstream_always_writes() -> None:
    event = Event(level="Metadata", audit_id="1", stage="RequestReceived", verb="get", response_status=ResponseStatus())
    assert json.loads(encode(event)) == {
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata", "auditID": "1",
        "stage": "RequestReceived", "requestURI": "", "verb": "get", "user": {}, "responseStatus": {"metadata": {}},
        "requestReceivedTimestamp": "", "stageTimestamp": "",
    }  # fmt: skip


def test_users_are_told_with_all_that_is_known() -> None:
    user = events.user_info(User("a", ("g", "h"), "u", {"k": ("v",)}))
    assert encode(user) == b'{"username":"a","uid":"u","groups":["g","h"],"extra":{"k":["v"]}}'


def test_long_agents_are_cut() -> None:
    assert events.shortened_agent("x" * 1024) == "x" * 1024
    assert events.shortened_agent("x" * 1025) == "x" * 1024 + "...TRUNCATED"


def test_a_list_holds_events() -> None:
    found = json.loads(events.event_list([Event(audit_id="1"), Event(audit_id="2")]))
    assert found["kind"] == "EventList" and found["apiVersion"] == "audit.k8s.io/v1" and found["metadata"] == {}
    assert [e["auditID"] for e in found["items"]] == ["1", "2"]


def test_the_legacy_format_is_one_line() -> None:
    event = Event(
        audit_id="id", stage="ResponseComplete", request_uri="/api", verb="get", user_agent="kubectl",
        user=events.user_info(User("a", ("g", "h"))), source_ips=["10.0.0.1", "10.0.0.2"],
        object_ref=ObjectReference(namespace="ns"), response_status=ResponseStatus(code=200),
        request_received_timestamp="2026-01-02T03:04:05.120000Z",
    )  # fmt: skip
    assert events.line(event) == (
        '2026-01-02T03:04:05.12Z AUDIT: id="id" stage="ResponseComplete" ip="10.0.0.1" method="get" user="a" '
        'groups="\\"g\\",\\"h\\"" as="<self>" asgroups="<lookup>" user-agent="kubectl" namespace="ns" uri="/api" '
        'response="200"'
    )


def test_the_legacy_format_says_what_is_not_known() -> None:
    line = events.line(Event(impersonated_user=events.user_info(User("b")), request_received_timestamp="T05.000000Z"))
    assert line.startswith("T05Z AUDIT: ")
    for part in ('ip="<unknown>"', 'user="<none>"', 'groups="<none>"', 'as="b"', 'asgroups="<lookup>"'):
        assert part in line
    assert 'namespace="<none>"' in line and 'response="<deferred>"' in line


def test_what_is_no_text_is_replaced() -> None:
    event = Event(user_agent="a\udcff", annotations={"k\udcfe": "v"}, request_object=msgspec.Raw(b'{"a":1}'))
    found = json.loads(events.as_json(event))
    assert (found["userAgent"], found["annotations"], found["requestObject"]) == ("a\ufffd", {"k\ufffd": "v"}, {"a": 1})
    assert events.event_list([event]).decode()
