"""Names: which are well formed, and upstream's words for those that are not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podling.api import names


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        (names.dns_label, ["a", "a-b", "0a", "a" * 63], ["", "A", "-a", "a-", "a.b", "a_b", "a" * 64, "a\n"]),
        (names.dns_subdomain, ["a", "a.b", "a" * 63 + ".b"], ["", "a..b", ".a", "a.", "A", "a" * 254]),
        (names.dns_1035_label, ["a", "a1-b"], ["", "1a", "a.b", "a-"]),
        (names.wildcard_subdomain, ["*.a.b"], ["*", "*a.b", "a.b", "*.*.b"]),
        (names.qualified_name, ["a", "A_b.c", "example.com/a"], ["", "/a", "a/", "a/b/c", "A.com/b", "-a", "a" * 64]),
        (names.label_value, ["", "a", "A.b_c", "a" * 63], ["-", "a b", "a-", "a" * 64]),
        (names.env_var_name, ["a", "1 b", "A.B"], ["", "a=b", "é", "\t"]),
        (names.config_map_key, ["a", ".a", "A_b-c"], ["", ".", "..", "..a", "a/b"]),
        (names.port_name, ["http", "a1-b"], ["", "123", "a--b", "-a", "a" * 16, "A"]),
        (names.percent, ["10%"], ["10", "%", "a%"]),
        (names.c_identifier, ["_a1"], ["1a", "a-b"]),
        (names.http_header_name, ["X-A"], ["", "a b"]),
        (names.path_segment, ["system:a"], [".", "..", "a/b", "a%b"]),
        (names.ip, ["1.2.3.4", "::1", "FE80::1"], ["", "1.2.3", "01.2.3.4", "::ffff:1.2.3.4", "fe80::1%eth0"]),
        (names.cidr, ["10.0.0.0/8", "::/0"], ["10.0.0.0", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/08", "a/1"]),
    ],
)
def test_rule(rule: names.Rule, good: list[str], bad: list[str]) -> None:
    assert {value: rule(value) for value in good} == {value: [] for value in good}
    assert [value for value in bad if not rule(value)] == []


@pytest.mark.parametrize(
    ("problems", "expected"),
    [
        (
            names.dns_label("A"),
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and "
            "end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
            "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
        ),
        (names.dns_label("a.b"), "must not contain dots"),
        (names.dns_label("a" * 64), "must be no more than 63 characters"),
        (
            names.dns_subdomain("A"),
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must "
            "start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
            r"'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
        ),
        (names.label_value("a" * 64), "must be no more than 63 bytes"),
        (names.qualified_name("/a"), "prefix part must be non-empty"),
        (names.port_number(0), "must be between 1 and 65535, inclusive"),
        (names.ip("x"), "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
        (names.ip("010.1.1.1"), "must not have leading 0s"),
        (names.canonical_ip("FE80::1"), 'must be in canonical form ("fe80::1")'),
        (names.cidr("10.0.0.1/8"), "must not have bits set beyond the prefix length"),
        (names.path_segment(".."), "may not be '..'"),
    ],
)
def test_problem_texts(problems: list[str], expected: str) -> None:
    assert problems == [expected]


def test_a_prefix_may_end_with_a_dash() -> None:
    assert names.dns_subdomain("web-", prefix=True) == []
    assert names.dns_subdomain("web-") != []


@given(st.text(alphabet="abc-", max_size=80))
def test_generated_names_extend_their_base(base: str) -> None:
    name = names.generate(base)
    assert len(name) <= 63 and name[:-5] == base[:58] and set(name[-5:]) <= set(names.ALPHABET)


@given(st.from_regex(r"\A[a-z0-9]([-a-z0-9]{0,70}[a-z0-9])?-?\Z"))
def test_a_valid_prefix_gives_valid_names(base: str) -> None:
    if not names.dns_label(base[:58], prefix=True) and not base[:58].endswith("--"):
        assert names.dns_label(names.generate(base)) == []


def test_safe_encode() -> None:
    assert names.safe_encode("6849b84f47") and set(names.safe_encode("0123456789")) <= set(names.ALPHABET)
