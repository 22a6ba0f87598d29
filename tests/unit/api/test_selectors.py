"""Label and field selectors: grammar, matching, upstream's words for what can't be read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podling.api import meta_v1, selectors
from podling.api.selectors import SelectorError


@pytest.mark.parametrize(
    ("text", "labels", "matches"),
    [
        ("", {"a": "b"}, True),
        ("a=b", {"a": "b"}, True),
        ("a==b", {"a": "c"}, False),
        ("a!=b", {}, True),
        ("a!=b", {"a": "b"}, False),
        ("a in (b,c)", {"a": "c"}, True),
        ("a in (b,c)", {}, False),
        ("a notin (b,c)", {}, True),
        ("a notin (b,c)", {"a": "b"}, False),
        ("a", {"a": ""}, True),
        ("!a", {"a": ""}, False),
        ("!a", {"b": "x"}, True),
        ("a>1", {"a": "2"}, True),
        ("a<1", {"a": "2"}, False),
        ("a>1", {"a": "x"}, False),
        ("a=", {"a": ""}, True),
        ("a in ()", {"a": ""}, True),
        ("in in (in,notin)", {"in": "notin"}, True),
        ("a=b,example.com/c in (d , e) , !f", {"a": "b", "example.com/c": "e"}, True),
        ("a=b,c=d", {"a": "b"}, False),
    ],
)
def test_label_selector_matches(text: str, labels: dict[str, str], matches: bool) -> None:
    assert selectors.parse(text).matches(labels) is matches


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a in", "unable to parse requirement: found '' expected: '('"),
        ("a,", "found '', expected: identifier after ','"),
        ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
        ("=x", "found '=', expected: !, identifier, or 'end of string'"),
        ("a=b c", "found 'c', expected: ',' or 'end of string'"),
        ("a in (b c)", "unable to parse requirement: found 'c', expected: ',' or ')'"),
        ("!", "unable to parse requirement: found '', expected: identifier"),
        (
            "a>b",
            'unable to parse requirement: values[0]: Invalid value: "b": '
            "for 'Gt', 'Lt' operators, the value must be an integer",
        ),
    ],
)
def test_unreadable_label_selectors(text: str, message: str) -> None:
    with pytest.raises(SelectorError) as error:
        selectors.parse(text)
    assert str(error.value) == message


def test_a_bad_key_is_named() -> None:
    with pytest.raises(SelectorError, match='<nil>: Invalid value: "a@": name part must consist of'):
        selectors.parse("a@=1")


def test_selectors_print_sorted() -> None:
    assert str(selectors.parse("z notin (b,a),x in (c,,a),!y,w!=1,v>3")) == "v>3,w!=1,x in (,a,c),!y,z notin (a,b)"


def test_object_selectors() -> None:
    assert selectors.from_label_selector(None).matches({"a": "b"}) is False
    assert selectors.from_label_selector(meta_v1.LabelSelector()).empty
    selector = meta_v1.LabelSelector(
        match_labels={"app": "web"},
        match_expressions=[meta_v1.LabelSelectorRequirement(key="tier", operator="NotIn", values=["db"])],
    )
    found = selectors.from_label_selector(selector)
    assert str(found) == "app=web,tier notin (db)"
    assert found.matches({"app": "web"}) and not found.matches({"app": "web", "tier": "db"})
    assert found.exact("app") == "web" and found.exact("tier") is None
    bad = meta_v1.LabelSelector(match_expressions=[meta_v1.LabelSelectorRequirement(key="a", operator="Is")])
    with pytest.raises(SelectorError, match='"Is" is not a valid label selector operator'):
        selectors.from_label_selector(bad)
    assert selectors.format_label_selector(bad) == "<error>"
    assert selectors.format_label_selector(meta_v1.LabelSelector()) == "<none>"


words = st.from_regex(r"\A[a-z]([a-z0-9.-]{0,8}[a-z0-9])?\Z")
terms = st.one_of(
    st.builds("{}={}".format, words, words),
    st.builds("{} != {}".format, words, words),
    st.builds(lambda k, v: f"{k} in ({','.join(v)})", words, st.lists(words, min_size=1, max_size=3)),
    st.builds(lambda k, v: f"{k} notin ({','.join(v)})", words, st.lists(words, min_size=1, max_size=3)),
    words,
    words.map("!{}".format),
)


@given(st.lists(terms, max_size=5), st.dictionaries(words, words, max_size=4))
def test_a_printed_selector_selects_the_same(parts: list[str], labels: dict[str, str]) -> None:
    found = selectors.parse(",".join(parts))
    assert selectors.parse(str(found)) == selectors.parse(str(selectors.parse(str(found))))
    assert selectors.parse(str(found)).matches(labels) == found.matches(labels)


@pytest.mark.parametrize(
    ("text", "fields", "matches"),
    [
        ("", {}, True),
        ("status.phase=Running", {"status.phase": "Running"}, True),
        ("status.phase==Running,spec.nodeName!=a", {"status.phase": "Running", "spec.nodeName": "b"}, True),
        ("spec.nodeName=", {}, True),
        ("spec.nodeName!=", {}, False),
        (r"a=x\,y\=z\\", {"a": "x,y=z\\"}, True),
    ],
)
def test_field_selector_matches(text: str, fields: dict[str, str], matches: bool) -> None:
    assert selectors.parse_fields(text).matches(fields) is matches


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x", "invalid selector: 'x'; can't understand 'x'"),
        ("a=b=c", "invalid field selector: unescaped character in value: 61"),
        (r"a=\x", r"invalid field selector: invalid escape sequence: \x"),
        ("a=b\\", "invalid field selector: invalid escape sequence: \\"),
    ],
)
def test_unreadable_field_selectors(text: str, message: str) -> None:
    with pytest.raises(SelectorError) as error:
        selectors.parse_fields(text)
    assert str(error.value) == message


@given(st.text(max_size=20))
def test_escaped_values_come_back(value: str) -> None:
    assert selectors.parse_fields(f"a={selectors.escape(value)}").exact("a") == value


@pytest.mark.parametrize(
    ("selector", "name"),
    [
        ("metadata.name=a", "a"),
        ("x=1,metadata.name==b", "b"),
        ("metadata.name!=a", ""),
        ("", ""),
        (r"x!=\,metadata.name=a", ""),
        ("metadata.name=b,metadata.name=a", "a"),
        ("metadata.name=a=b", ""),
        (r"metadata.name=a\,b", "a,b"),
    ],
)
def test_a_field_selector_may_pin_a_value(selector: str, name: str) -> None:
    assert selectors.pinned(selector, "metadata.name") == name
