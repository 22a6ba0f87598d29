"""CEL: values, messages, types, bounds. Where Google's own runtime is installed, the two have to agree."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podling.api import core_v1
from podling.machinery import cel
from podling.machinery.cel import schema as cel_schema
from podling.machinery.cel.library.authorizer import Authorizer, Question
from podling.machinery.cel.types import Timestamp, UInt

POD: dict[str, Any] = {
    "metadata": {"name": "web", "namespace": "default", "labels": {"app": "web", "example.com/x": "1"}},
    "spec": {"replicas": 3, "containers": [{"name": "a", "image": "nginx:1"}, {"name": "b", "image": "busybox"}]},
    "weird": None,
}
VARIABLES = {"object": cel.DYN, "text": cel.STRING, "number": cel.INT}


def run(expression: str, **values: Any) -> Any:
    program = cel.compile(expression, VARIABLES)
    return program.evaluate({"object": POD, "text": "hello", "number": 7, **values})


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        # operators
        ("1 + 2 * 3 - 4 / 2 % 3", 5),
        ("-7 / 2", -3),
        ("!!-7", -7),
        ("!!-1.5 + 1.0", -0.5),
        ("-7 % 3", -1),
        ("7u / 2u", UInt(3)),
        ("1.5 + 2.5", 4.0),
        ("1.0 / 0.0", math.inf),
        ("'a' + 'b'", "ab"),
        ("[1] + [2]", [1, 2]),
        ("b'a' + b'b'", b"ab"),
        ("!true || 1 < 2", True),
        ("1 < 2.5 && 2u > 1", True),
        ("dyn(1) == dyn(1.0)", True),
        ("dyn(1) == dyn('1')", False),
        ("dyn(1) == dyn(true)", False),
        ("true ? 1 : 2", 1),
        ("2 in [1, 2]", True),
        ("'a' in {'a': 1}", True),
        ("{'a': 1}['a']", 1),
        ("[1, 2][1]", 2),
        ("1 / 0 == 1 || true", True),
        ("false && 1 / 0 == 1", False),
        ("0x1F", 31),
        ("1e3", 1000.0),
        ("null == null", True),
        ("'\\u00e9\\x41\\101\\n' == 'éAA\\n'", True),
        ("r'\\n'.size()", 2),
        ("'''a'b'''", "a'b"),
        ("// c\n 1", 1),
        # fields
        ("object.spec.replicas", 3),
        ("has(object.spec.x)", False),
        ("has(object.weird.x)", False),
        ("object.metadata.namespace", "default"),
        ("object.?spec.?replicas.orValue(0)", 3),
        ("object.?x.?y.orValue('none')", "none"),
        ("object.?x.hasValue()", False),
        ("object.metadata.labels['example.com/x']", "1"),
        ("object.metadata.labels[?'no'].orValue('d')", "d"),
        ("optional.of(1).optMap(x, x + 1).value()", 2),
        ("optional.none().or(optional.of(2)).value()", 2),
        ("[1, ?object.?x, 3].size()", 2),
        ("{?'a': object.?x}.size()", 0),
        ("optional.of(3).optFlatMap(x, optional.of(x + 1)).value()", 4),
        # macros
        ("object.spec.containers.all(c, c.name < 'c')", True),
        ("object.spec.containers.exists(c, c.image == 'busybox')", True),
        ("object.spec.containers.exists_one(c, c.name == 'a')", True),
        ("[1, 2, 3].filter(x, x > 1)", [2, 3]),
        ("[1, 2, 3].map(x, x > 1, x * 2)", [4, 6]),
        ("object.metadata.labels.all(k, k.size() > 2)", True),
        ("[1, 2].all(i, v, v == i + 1)", True),
        ("{'a': 1}.transformList(k, v, k + string(v))", ["a1"]),
        ("{'a': 1}.transformMap(k, v, v + 1)", {"a": 2}),
        ("[1].transformMapEntry(i, v, {string(v): i})", {"1": 0}),
        ("[{'n': 2}, {'n': 1}].sortBy(x, x.n).map(x, x.n)", [1, 2]),
        ("[1, 2].exists(x, x / (x - 1) == 2 || x == 2)", True),
        ("[[1, 2], [3]].map(x, x.map(y, y + 1))", [[2, 3], [4]]),
        # strings
        ("'hello'.substring(1, 3)", "el"),
        ("'a,b,c'.split(',')", ["a", "b", "c"]),
        ("'a,b,c'.split(',', 2)", ["a", "b,c"]),
        ("['a', 'b'].join('-')", "a-b"),
        ("' x '.trim()", "x"),
        ("'aXa'.lowerAscii()", "axa"),
        ("'aba'.replace('a', 'c', 1)", "cba"),
        ("'tacocat'.indexOf('a', 3)", 5),
        ("'tacocat'.lastIndexOf('a')", 5),
        ("'abc'.charAt(1)", "b"),
        ("strings.quote('a\"b')", '"a\\"b"'),
        ("'%s %d %.2f %x'.format([dyn('a'), dyn(3), dyn(1.5), dyn(255)])", "a 3 1.50 ff"),
        ("'k8s'.matches('^k[0-9]s$')", True),
        ("'abc123'.find('[0-9]+')", "123"),
        ("'a1b2c3'.findAll('[0-9]', 2)", ["1", "2"]),
        # conversions and times
        ("int('42')", 42),
        ("string(1.0)", "1"),
        ("string(true)", "true"),
        ("double('1.5')", 1.5),
        ("uint(3)", UInt(3)),
        ("bool('true')", True),
        ("string(duration('90s'))", "90s"),
        ("duration('1h30m').getMinutes()", 90),
        ("timestamp('2024-02-29T12:00:00Z').getDayOfYear()", 59),
        ("string(timestamp('2024-01-01T00:00:00Z') + duration('1h'))", "2024-01-01T01:00:00Z"),
        ("timestamp('2024-01-01T23:00:00Z').getHours('+02:00')", 1),
        ("type(1) == int && type('') == string", True),
        ("timestamp('2024-01-02T00:00:00Z') - timestamp('2024-01-01T00:00:00Z') == duration('24h')", True),
        # lists and sets
        ("[3, 1, 2].sort()", [1, 2, 3]),
        ("[1, 2, 3].max()", 3),
        ("[1.5, 2.5].sum()", 4.0),
        ("[1, 2].isSorted()", True),
        ("[1, 1, 2].distinct()", [1, 2]),
        ("[1, 2, 3].indexOf(2)", 1),
        ("[[1], [2, 3]].flatten()", [1, 2, 3]),
        ("[1, 2, 3].slice(1, 3)", [2, 3]),
        ("[1, 2].reverse()", [2, 1]),
        ("lists.range(3)", [0, 1, 2]),
        ("sets.contains([1, 2], [2])", True),
        ("sets.equivalent([1, 2], [2, 1, 1])", True),
        ("sets.intersects([1], [2])", False),
        # Kubernetes
        ("quantity('1Gi').isGreaterThan(quantity('1G'))", True),
        ("quantity('50k').add(20).sub(quantity('20')).asInteger()", 50000),
        ("isQuantity('1x')", False),
        ("quantity('1.5').isInteger()", False),
        ("quantity('1') == quantity('1000m')", True),
        ("url('https://[::1]:80/a b?x=1&x=2').getHostname()", "::1"),
        ("url('https://e.com:80/a b').getEscapedPath()", "/a%20b"),
        ("url('https://e.com/?x=1&x=2').getQuery()", {"x": ["1", "2"]}),
        ("isURL('../x')", False),
        ("isURL('https://user:pass@e.com:80/')", True),
        ("ip('10.0.0.1').family()", 4),
        ("isIP('::ffff:1.2.3.4')", False),
        ("ip.isCanonical('::0')", False),
        ("string(ip('127.0.0.1'))", "127.0.0.1"),
        ("cidr('10.0.0.0/8').containsIP('10.1.1.1')", True),
        ("cidr('10.1.0.0/8').masked() == cidr('10.0.0.0/8')", True),
        ("cidr('10.0.0.0/8').containsCIDR(cidr('10.1.0.0/16'))", True),
        ("ip('224.0.0.1').isLinkLocalMulticast()", True),
        ("format.dns1123Label().validate('ok').hasValue()", False),
        ("format.named('uuid').value().validate('x').value()", ["does not match the UUID format"]),
        ("semver('1.2.3-rc.1').isLessThan(semver('1.2.3'))", True),
        ("semver('v1.2', true).minor()", 2),
        ("isSemver('1.2')", False),
        ("semver('1.10.0').compareTo(semver('1.9.0'))", 1),
    ],
)
def test_values(expression: str, value: Any) -> None:
    found = run(expression)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("object.spec.none", "no such key: none"),
        ("object.weird.x", "no such key: x"),
        ("[1][3]", "index out of bounds: 3"),
        ("1 / (number - 7)", "division by zero"),
        ("1 % (number - 7)", "modulus by zero"),
        ("9223372036854775807 + number", "integer overflow"),
        ("object.spec + 1", "no such overload: _+_(map, int)"),
        (f"int('{'9' * 5000}')", f'strconv.ParseInt: parsing "{"9" * 5000}": value out of range'),
        ("int(text)", 'strconv.ParseInt: parsing "hello": invalid syntax'),
        (
            "quantity(text)",
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        ("text.matches(text + '(')", "error parsing regexp: missing ): hello("),
        ("optional.none().value()", "optional.none() dereference"),
        ("[1].map(x, object.no)[0]", "no such key: no"),
        ("text.substring(9)", "index out of range: 9"),
        ("object.spec.replicas && true", "no such overload"),
        ("object.metadata.all(x, 1 / 0 == 1)", "division by zero"),
    ],
)
def test_errors(expression: str, why: str) -> None:
    with pytest.raises(cel.EvaluationError) as caught:
        run(expression)
    assert str(caught.value) == why


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("nope", "1:1: undeclared reference to 'nope' (in container '')\n | nope\n | ^"),
        ("1 +\n  'a'", "1:3: found no matching overload for '_+_' applied to '(int, string)'\n | 1 +\n | ..^"),
        ("text.nope()", "1:10: undeclared reference to 'nope' (in container '')\n | text.nope()\n | .........^"),
        ("text.size(1)", "1:10: found no matching overload for 'size' applied to 'string.(int)'"),
        ("text.x", "1:5: type 'string' does not support field selection"),
        ("1 == 1.0", "1:3: found no matching overload for '_==_' applied to '(int, double)'"),
        ("[1, 'a']", "1:5: expected type 'int' but found 'string'"),
        (
            "1.all(x, true)",
            "expression of type 'int' cannot be range of a comprehension (must be list, map, or dynamic)",
        ),
        ("[1].all(x, 1)", "found no matching overload for '_&&_' applied to '(bool, int)'"),
        (
            "1 +",
            "1:4: Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', "
            "'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}\n | 1 +\n | ...^",
        ),
        ("(1", "1:3: Syntax error: missing ')' at '<EOF>'"),
        ("#", "1:1: Syntax error: token recognition error at: '#'"),
        ("while", "1:1: reserved identifier: while"),
        ("has(text)", "1:5: invalid argument to has() macro"),
        ("duration('x')", "invalid duration argument"),
        ("text.matches('[')", "invalid matches argument"),
        ("Object{}", "1:7: undeclared reference to 'Object' (in container '')"),
        ("99999999999999999999", "invalid int literal"),
        ("(" * 200 + "1" + ")" * 200, "expression recursion limit exceeded"),
        ("+".join("1" * 400), "expression recursion limit exceeded"),
    ],
)
def test_what_does_not_compile(expression: str, why: str) -> None:
    with pytest.raises(cel.CompileError) as caught:
        cel.compile(expression, VARIABLES)
    assert str(caught.value).startswith("compilation failed: ERROR: <input>:") and why in str(caught.value)


def test_all_problems_are_named_in_order() -> None:
    with pytest.raises(cel.CompileError) as caught:
        cel.compile("a + b", VARIABLES)
    assert [line[:22] for line in str(caught.value).splitlines() if "ERROR" in line] == [
        "compilation failed: ER",
        "ERROR: <input>:1:5: un",
    ]


def test_what_the_value_has_to_be() -> None:
    with pytest.raises(cel.CompileError, match=r"^must evaluate to bool$"):
        cel.compile("1", {}, result=cel.BOOL)
    with pytest.raises(cel.CompileError, match=r"^must evaluate to one of \[string null\]$"):
        cel.compile("1", {}, result=(cel.STRING, cel.NULL))
    assert cel.compile("object.x", VARIABLES, result=cel.BOOL).type is cel.DYN


def test_long_chains_of_conditions_compile() -> None:
    assert run(" || ".join(["number == 1"] * 2000) + " || true") is True


def test_variables_that_are_mentioned() -> None:
    program = cel.compile(
        "self.all(x, x > oldSelf)", {"self": cel.list_of(cel.INT), "oldSelf": cel.INT, "other": cel.INT}
    )
    assert {"self", "oldSelf"} <= program.names and "other" not in program.names


def test_cost_is_counted_and_limited() -> None:
    program = cel.compile("object.all(x, x >= 0)", VARIABLES)
    _, few = program.measure({"object": [1] * 10})
    _, many = program.measure({"object": [1] * 1000})
    assert few < 100 < many
    with pytest.raises(cel.CostExceeded, match="operation cancelled: actual cost limit exceeded"):
        program.evaluate({"object": [1] * 100_000}, limit=10_000)
    endless = cel.compile("lists.range(9000).all(a, lists.range(9000).all(b, true)) || true", {})
    with pytest.raises(cel.CostExceeded):
        endless.evaluate({})


def test_authorizer() -> None:
    asked: list[Question] = []

    def decide(question: Question) -> tuple[bool, str, str]:
        asked.append(question)
        return question.verb == "get", "because", ""

    variables = {"authorizer": Authorizer.TYPE}
    text = "authorizer.group('apps').resource('deployments').subresource('scale').namespace('n').name('x').check('get')"
    assert cel.compile(f"{text}.allowed()", variables).evaluate({"authorizer": Authorizer(decide)}) is True
    assert asked[0][1:6] == ("apps", "deployments", "scale", "n", "x")
    text = "authorizer.serviceAccount('n', 'sa').path('/healthz').check('post')"
    program = cel.compile(f"{text}.allowed() || {text}.reason() == 'because'", variables)
    assert program.evaluate({"authorizer": Authorizer(decide)}) is True
    assert asked[1].account == ("n", "sa") and asked[1].path == "/healthz"


SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "count": {"type": "integer"},
        "ratio": {"type": "number"},
        "when": {"type": "string", "format": "date-time"},
        "wait": {"type": "string", "format": "duration"},
        "blob": {"type": "string", "format": "byte"},
        "port": {"x-kubernetes-int-or-string": True},
        "my-field": {"type": "string"},
        "namespace": {"type": "string"},
        "tags": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
        "parts": {
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer"}}},
        },
        "extra": {"type": "object", "additionalProperties": {"type": "integer"}},
        "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    },
}
VALUE = {
    "count": 3,
    "ratio": 2,
    "when": "2024-01-01T00:00:00Z",
    "wait": "90s",
    "blob": "aGk=",
    "port": "http",
    "my-field": "f",
    "namespace": "n",
    "tags": ["a", "b"],
    "parts": [{"k": "x", "v": 1}, {"k": "y", "v": 2}],
    "extra": {"a": 1},
    "open": {"q": 1},
}


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("self.count + 1", 4),
        ("self.ratio / 4.0", 0.5),
        ("self.when.getFullYear()", 2024),
        ("self.wait == duration('1m30s')", True),
        ("string(self.blob)", "hi"),
        ("type(self.port) == string ? self.port : 'n'", "http"),
        ("self.my__dash__field", "f"),
        ("self.__namespace__", "n"),
        ("self.tags == ['b', 'a']", True),
        ("self.tags + ['b', 'c']", ["a", "b", "c"]),
        ("self.parts == [self.parts[1], self.parts[0]]", True),
        ("self.extra.a", 1),
        ("self.open.q", 1),
        ("has(self.count)", True),
        ("(self.parts + self.parts).size()", 2),
        ("self.parts.map(p, p.v).sum()", 3),
    ],
)
def test_types_from_schemas(expression: str, value: Any) -> None:
    type_ = cel_schema.type_of(SCHEMA)
    assert type_ is not None
    assert cel.compile(expression, {"self": type_}).evaluate({"self": VALUE}) == value


def test_schemas_are_checked() -> None:
    type_ = cel_schema.type_of(SCHEMA, root=True)
    assert type_ is not None
    for expression, why in (
        ("self.cuont > 1", "1:5: undefined field 'cuont'"),
        ("self.count == 'a'", "no matching overload"),
        ("self.metadata.labels", "undefined field 'labels'"),
        ("has(self.nope)", "undefined field 'nope'"),
    ):
        with pytest.raises(cel.CompileError, match=why):
            cel.compile(expression, {"self": type_})
    cel.compile("self.metadata.name == self.kind", {"self": type_})


def test_types_of_built_in_kinds() -> None:
    variables = {"object": cel_schema.of_struct(core_v1.Pod)}
    for expression in (
        "object.spec.containers.all(c, c.name.startsWith('a') && c.ports.all(p, p.containerPort > 0))",
        "object.metadata.__namespace__ == 'x' || object.metadata.creationTimestamp < timestamp('2024-01-01T00:00:00Z')",
        "object.spec.containers[0].resources.limits['cpu'] == '1'",
        "object.metadata.labels.app == 'x' && object.spec.hostNetwork",
    ):
        cel.compile(expression, variables, result=cel.BOOL)
    with pytest.raises(cel.CompileError, match="undefined field 'contianers'"):
        cel.compile("object.spec.contianers.size() > 0", variables)
    found = cel.compile("object.metadata.__namespace__", variables).evaluate(
        {"object": {"metadata": {"namespace": "n"}}}
    )
    assert found == "n"


def test_names_are_escaped() -> None:
    assert [cel_schema.escape(n) for n in ("a", "a-b", "a.b/c", "a__b", "namespace", "int", "$x", "0a")] == [
        "a",
        "a__dash__b",
        "a__dot__b__slash__c",
        "a__underscores__b",
        "__namespace__",
        "int",
        None,
        None,
    ]


def test_times_print_as_they_should() -> None:
    assert str(Timestamp(1)) == "1970-01-01T00:00:00.000000001Z"


# -- the other runtime -------------------------------------------------------------------------------------------------

_LEAVES = st.sampled_from(
    [
        "1",
        "2",
        "-3",
        "0",
        "1.5",
        "'a'",
        "'bc'",
        "''",
        "true",
        "false",
        "object.n",
        "object.s",
        "object.l",
        "object.no",
        "[1, 2]",
        "3u",
    ]
)


def _grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.tuples(
            inner, st.sampled_from(["+", "-", "*", "/", "%", "==", "!=", "<", "<=", ">", "&&", "||", "in"]), inner
        ).map(lambda x: f"({x[0]} {x[1]} {x[2]})"),
        st.tuples(inner, inner, inner).map(lambda x: f"({x[0]} ? {x[1]} : {x[2]})"),
        inner.map(lambda x: f"[{x}]"),
        inner.map(lambda x: f"!{x}"),
        inner.map(lambda x: f"size({x})"),
        inner.map(lambda x: f"string({x})"),
        st.tuples(inner, inner).map(lambda x: f"{x[0]}.map(e, {x[1]} == e)"),
        st.tuples(inner, inner).map(lambda x: f"{x[0]}.exists(e, e == {x[1]})"),
        st.tuples(inner, inner).map(lambda x: f"dyn({x[0]}) == {x[1]}"),
        inner.map(lambda x: f"type({x}) == int"),
    )


_OBJECT = {"n": 5, "s": "bc", "l": [1, 2, 5]}

_REFUSAL = re.compile(r"ERROR: <input>:\d+:\d+: (.*)")
_NUMBER = "(?:int|uint|double)"
_ACROSS = re.compile(rf"found no matching overload for '_[<>]=?_' applied to '\({_NUMBER}, {_NUMBER}\)'")


def _only_compares_numbers(why: str) -> bool:
    """Whether all that their checker refuses are `1 < 3u` and its like, which Kubernetes' environment has."""
    refusals = _REFUSAL.findall(why)
    return bool(refusals) and all(_ACROSS.match(refusal) for refusal in refusals)


@settings(max_examples=400, derandomize=True)
@given(st.recursive(_LEAVES, _grown, max_leaves=8))
def test_agrees_with_googles_runtime(expression: str) -> None:
    google = pytest.importorskip("cel_expr_python.cel")
    environment = google.NewEnv(variables={"object": google.Type.DYN})
    try:
        theirs = environment.compile(expression)
    except RuntimeError as error:
        theirs, why = None, str(error)
    try:
        ours = cel.compile(expression, {"object": cel.DYN})
    except cel.CompileError as error:
        # Kubernetes wants all items of a list to be of one type.
        if "expected type" not in str(error):
            assert theirs is None, f"{expression}: only we refuse it: {error}"
        return
    if theirs is None:
        assert _only_compares_numbers(why), f"{expression}: only they refuse it: {why}"
        return
    assert str(ours.type).partition("(")[0] == theirs.return_type().name().lower().partition("<")[0]
    found = theirs.eval(data={"object": _OBJECT})
    failed = found.type().name() == "ERROR"
    try:
        value = ours.evaluate({"object": _OBJECT})
    except cel.EvaluationError as error:
        assert failed, f"{expression}: only we fail: {error}; they say {found.plain_value()}"
        return
    assert not failed, f"{expression}: only they fail: {found.value()}; we say {value}"
    plain = found.plain_value()
    assert plain == value or (plain != plain and value != value)
