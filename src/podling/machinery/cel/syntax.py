"""The syntax of CEL: text into a tree, macros included.

Positions are offsets into the text; errors are shown with the line and a mark under the place, as upstream shows them.
Source: the grammar of github.com/google/cel-spec.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from podling.machinery.cel.types import INT_MAX, INT_MIN, UINT_MAX, UInt


class SyntaxProblem(Exception):
    """What is wrong, and where."""

    def __init__(self, position: int, text: str) -> None:
        super().__init__(text)
        self.position = position
        self.text = text


class Node:
    """A part of an expression."""

    __slots__ = ("pos",)

    def __init__(self, pos: int) -> None:
        self.pos = pos


class Const(Node):
    __slots__ = ("value",)

    def __init__(self, pos: int, value: Any) -> None:
        super().__init__(pos)
        self.value = value


class Ident(Node):
    __slots__ = ("name",)

    def __init__(self, pos: int, name: str) -> None:
        super().__init__(pos)
        self.name = name


class Select(Node):
    """`operand.field`, has(operand.field) if `test`, operand.?field if `optional`."""

    __slots__ = ("field", "operand", "optional", "test")

    def __init__(self, pos: int, operand: Node, field: str, *, test: bool = False, optional: bool = False) -> None:
        super().__init__(pos)
        self.operand, self.field, self.test, self.optional = operand, field, test, optional


class Call(Node):
    """A function, operators included; `target` is what stands before the dot."""

    __slots__ = ("args", "function", "target")

    def __init__(self, pos: int, function: str, args: list[Node], target: Node | None = None) -> None:
        super().__init__(pos)
        self.function, self.args, self.target = function, args, target


class ListNode(Node):
    __slots__ = ("items", "optional")

    def __init__(self, pos: int, items: list[Node], optional: set[int]) -> None:
        super().__init__(pos)
        self.items, self.optional = items, optional


class MapNode(Node):
    """Entries are (key, value, optional)."""

    __slots__ = ("entries",)

    def __init__(self, pos: int, entries: list[tuple[Node, Node, bool]]) -> None:
        super().__init__(pos)
        self.entries = entries


class StructNode(Node):
    """`Name{field: value}`; entries are (position, field, value, optional)."""

    __slots__ = ("entries", "name")

    def __init__(self, pos: int, name: str, entries: list[tuple[int, str, Node, bool]]) -> None:
        super().__init__(pos)
        self.name, self.entries = name, entries


class Comprehension(Node):
    """A macro over a range. `kind` is the macro's name; `second` the second variable's name, if it has two."""

    __slots__ = ("body", "filter", "kind", "range", "second", "var")

    def __init__(
        self, pos: int, kind: str, range_: Node, var: str, body: Node, *, second: str = "", filter_: Node | None = None
    ) -> None:
        super().__init__(pos)
        self.kind, self.range, self.var, self.body = kind, range_, var, body
        self.second, self.filter = second, filter_


class Token(NamedTuple):
    kind: str
    text: str
    pos: int
    value: Any = None


RESERVED = frozenset(
    (
        "as", "break", "const", "continue", "else", "for", "function", "if", "import", "let", "loop", "package",
        "namespace", "return", "var", "void", "while",
    )
)  # fmt: skip
_EXPECTED_PRIMARY = (
    "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}"
)
_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n\f]+|//[^\n]*)
    |(?P<string>[rR]?[bB]?[rR]?(?:\"\"\"(?:\\(?s:.)|[^\\])*?\"\"\"|'''(?:\\(?s:.)|[^\\])*?'''
        |"(?:\\.|[^\\"\n\r])*"|'(?:\\.|[^\\'\n\r])*'))
    |(?P<float>[0-9]+\.[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+|\.[0-9]+(?:[eE][+-]?[0-9]+)?)
    |(?P<int>0x[0-9a-fA-F]+[uU]?|[0-9]+[uU]?)
    |(?P<ident>[_a-zA-Z][_a-zA-Z0-9]*)
    |(?P<op>==|!=|<=|>=|&&|\|\||[<>+\-*/%!?:.,()\[\]{}])""",
    re.VERBOSE,
)
_RAW_STRING = re.compile(r"[rRbB]*[rR][rRbB]*(?:\"\"\"(?s:.)*?\"\"\"|'''(?s:.)*?'''|\"[^\"\n\r]*\"|'[^'\n\r]*')")
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|[xX]([0-9a-fA-F]{2})|([0-3][0-7]{2})|(.))", re.DOTALL)


def tokens(text: str) -> list[Token]:
    found: list[Token] = []
    pos = 0
    while pos < len(text):
        match = _RAW_STRING.match(text, pos)
        kind = "string" if match else ""
        if match is None:
            match = _TOKEN.match(text, pos)
            if match is None:
                raise SyntaxProblem(pos, f"Syntax error: token recognition error at: '{text[pos]}'")
            kind = match.lastgroup or ""
        if kind != "space":
            found.append(_token(kind, match.group(), pos))
        pos = match.end()
    found.append(Token("eof", "<EOF>", len(text)))
    return found


def _token(kind: str, text: str, pos: int) -> Token:
    if kind == "string":
        return Token("literal", text, pos, _string(text, pos))
    if kind == "float":
        return Token("literal", text, pos, float(text))
    if kind == "int":
        return Token("int", text, pos)
    if kind == "ident" and text in ("true", "false", "null"):
        return Token("literal", text, pos, {"true": True, "false": False, "null": None}[text])
    if kind == "ident" and text == "in":
        return Token("op", text, pos)
    return Token(kind, text, pos)


def _string(text: str, pos: int) -> str | bytes:
    start = next(i for i, c in enumerate(text) if c in "\"'")
    prefix, body = text[:start].lower(), text[start:]
    quotes = 3 if len(body) >= 6 and body[:3] in ('"""', "'''") else 1
    body = body[quotes:-quotes]
    if "r" in prefix:
        return body.encode() if "b" in prefix else body

    def replace(match: re.Match[str]) -> str:
        short, long, byte, octal, single = match.groups()
        if short or long or byte or octal:
            code = int(short or long or byte, 16) if not octal else int(octal, 8)
            if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
                raise SyntaxProblem(pos, f"Syntax error: invalid unicode code point in string literal: {text}")
            if "b" in prefix and (byte or octal):
                return chr(0xDC00 + code) if code > 127 else chr(code)
            return chr(code)
        if single in _ESCAPES:
            return _ESCAPES[single]
        if single in "\\\"'`?":
            return single
        raise SyntaxProblem(pos, f"Syntax error: token recognition error at: '{text}'")

    body = _ESCAPE.sub(replace, body)
    return body.encode("utf-8", "surrogateescape") if "b" in prefix else body


_RELATIONS = frozenset(("<", "<=", ">", ">=", "==", "!=", "in"))
#: Deeper nesting is refused, so that no expression can exhaust the stack.
DEPTH = 100


class Parser:
    """`Parser(text).parse()`; raises SyntaxProblem."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = tokens(text)
        self.at = 0
        self.depth = 0

    def parse(self) -> Node:
        node = self.expr()
        token = self.tokens[self.at]
        if token.kind != "eof":
            if token.kind == "op" and token.text in ")]},:":
                raise SyntaxProblem(token.pos, f"Syntax error: extraneous input '{token.text}' expecting <EOF>")
            raise SyntaxProblem(
                token.pos,
                f"Syntax error: mismatched input '{token.text}' expecting {{<EOF>, '==', '!=', 'in', '<', '<=', '>=', "
                "'>', '&&', '||', '[', '{', '.', '-', '?', '+', '*', '/', '%'}",
            )
        return node

    def peek(self, *texts: str) -> bool:
        token = self.tokens[self.at]
        return token.kind == "op" and token.text in texts

    def take(self) -> Token:
        token = self.tokens[self.at]
        self.at += 1
        return token

    def accept(self, *texts: str) -> Token | None:
        return self.take() if self.peek(*texts) else None

    def expect(self, text: str) -> Token:
        if not self.peek(text):
            token = self.tokens[self.at]
            raise SyntaxProblem(token.pos, f"Syntax error: missing '{text}' at '{token.text}'")
        return self.take()

    def expr(self) -> Node:
        self.depth += 1
        if self.depth > DEPTH:
            raise SyntaxProblem(0, f"expression recursion limit exceeded: {DEPTH}")
        node = self.logic("||")
        if (token := self.accept("?")) is not None:
            then = self.logic("||")
            self.expect(":")
            node = Call(token.pos, "_?_:_", [node, then, self.expr()])
        self.depth -= 1
        return node

    def logic(self, operator: str) -> Node:
        """`||` of `&&` of relations."""
        inner = self.relation if operator == "&&" else lambda: self.logic("&&")
        terms = [inner()]
        places: list[int] = []
        while (token := self.accept(operator)) is not None:
            places.append(token.pos)
            terms.append(inner())
        return _balanced(f"_{operator}_", terms, places)

    def relation(self) -> Node:
        node = self.sum()
        while (token := self.accept(*_RELATIONS)) is not None:
            function = "@in" if token.text == "in" else f"_{token.text}_"
            node = Call(token.pos, function, [node, self.sum()])
        return node

    def sum(self) -> Node:
        node = self.product()
        while (token := self.accept("+", "-")) is not None:
            node = Call(token.pos, f"_{token.text}_", [node, self.product()])
        return node

    def product(self) -> Node:
        node = self.unary()
        while (token := self.accept("*", "/", "%")) is not None:
            node = Call(token.pos, f"_{token.text}_", [node, self.unary()])
        return node

    def unary(self) -> Node:
        first = self.tokens[self.at]
        if not self.peek("!", "-"):
            return self.member()
        count = 0
        while self.accept(first.text) is not None:
            count += 1
        if first.text == "-" and count == 1 and self._number(self.at):
            return self.member(negative=True)
        # The sign of a number belongs to it: `!!-3` is -3, but `!-x` is nothing.
        negative = first.text == "!" and self.peek("-") and self._number(self.at + 1)
        if negative:
            self.take()
        node = self.member(negative=negative)
        return Call(first.pos, f"{first.text}_", [node]) if count % 2 else node

    def _number(self, at: int) -> bool:
        """Whether the token there is a number that may have a sign."""
        token = self.tokens[at]
        return token.kind == "int" or (token.kind == "literal" and type(token.value) is float)

    def member(self, *, negative: bool = False) -> Node:
        node = self.primary(negative)
        while True:
            if (token := self.accept(".")) is not None:
                optional = self.accept("?") is not None
                name = self.name()
                if not optional and (paren := self.accept("(")) is not None:
                    node = expand(Call(paren.pos, name, self.arguments(), node))
                else:
                    node = Select(token.pos, node, name, optional=optional)
            elif (token := self.accept("[")) is not None:
                function = "_[?_]" if self.accept("?") is not None else "_[_]"
                node = Call(token.pos, function, [node, self.expr()])
                self.expect("]")
            elif self.peek("{") and (qualified := qualified_name(node)):
                node = self.struct(self.take().pos, qualified)
            else:
                return node

    def name(self) -> str:
        token = self.take()
        if token.kind != "ident":
            where = f"Syntax error: no viable alternative at input '.{token.text}'"
            if token.kind == "eof":
                where = "Syntax error: mismatched input '<EOF>' expecting IDENTIFIER"
            raise SyntaxProblem(token.pos, where)
        return token.text

    def primary(self, negative: bool) -> Node:
        token = self.take()
        if token.kind == "int":
            return Const(token.pos - negative, _integer(token, negative))
        if token.kind == "literal":
            return Const(token.pos - negative, -token.value if negative else token.value)
        if token.kind == "op":
            match token.text:
                case "(":
                    node = self.expr()
                    self.expect(")")
                    return node
                case "[":
                    return self.list(token.pos)
                case "{":
                    return self.map(token.pos)
                case "." if self.tokens[self.at].kind == "ident":
                    token = self.take()
        if token.kind == "ident":
            if (paren := self.accept("(")) is not None:
                return expand(Call(paren.pos, token.text, self.arguments()))
            if token.text in RESERVED:
                raise SyntaxProblem(token.pos, f"reserved identifier: {token.text}")
            return Ident(token.pos, token.text)
        raise SyntaxProblem(token.pos, f"Syntax error: mismatched input '{token.text}' expecting {_EXPECTED_PRIMARY}")

    def arguments(self) -> list[Node]:
        found: list[Node] = []
        if self.accept(")") is None:
            found.append(self.expr())
            while self.accept(",") is not None:
                found.append(self.expr())
            self.expect(")")
        return found

    def list(self, pos: int) -> Node:
        items: list[Node] = []
        optional: set[int] = set()
        while not self.peek("]"):
            if self.accept("?") is not None:
                optional.add(len(items))
            items.append(self.expr())
            if self.accept(",") is None:
                break
        self.expect("]")
        return ListNode(pos, items, optional)

    def map(self, pos: int) -> Node:
        entries: list[tuple[Node, Node, bool]] = []
        while not self.peek("}"):
            optional = self.accept("?") is not None
            key = self.expr()
            self.expect(":")
            entries.append((key, self.expr(), optional))
            if self.accept(",") is None:
                break
        self.expect("}")
        return MapNode(pos, entries)

    def struct(self, pos: int, name: str) -> Node:
        entries: list[tuple[int, str, Node, bool]] = []
        while not self.peek("}"):
            optional = self.accept("?") is not None
            field = self.name()
            colon = self.expect(":")
            entries.append((colon.pos, field, self.expr(), optional))
            if self.accept(",") is None:
                break
        self.expect("}")
        return StructNode(pos, name, entries)


def _balanced(function: str, terms: list[Node], places: list[int]) -> Node:
    """A long chain as a flat tree, so that it is not deep."""
    if len(terms) == 1:
        return terms[0]
    middle = (len(terms) - 1) // 2
    left = _balanced(function, terms[: middle + 1], places[:middle])
    right = _balanced(function, terms[middle + 1 :], places[middle + 1 :])
    return Call(places[middle], function, [left, right])


def _integer(token: Token, negative: bool) -> int:
    text = token.text.rstrip("uU")
    value = int(text, 16) if text.startswith("0x") else int(text)
    value = -value if negative else value
    if token.text[-1] in "uU":
        if not 0 <= value <= UINT_MAX:
            raise SyntaxProblem(token.pos, "invalid uint literal")
        return UInt(value)
    if not INT_MIN <= value <= INT_MAX:
        raise SyntaxProblem(token.pos, "invalid int literal")
    return value


def qualified_name(node: Node | None) -> str:
    """`a.b.c` if that is all there is, else ""."""
    if isinstance(node, Ident):
        return node.name
    if isinstance(node, Select) and not node.test and not node.optional:
        inner = qualified_name(node.operand)
        return f"{inner}.{node.field}" if inner else ""
    return ""


# -- macros -----------------------------------------------------------------------------------------------------------

_ONE = {"all", "exists", "exists_one", "existsOne", "filter"}
_TWO = {"all", "exists", "existsOne"}


def expand(call: Call) -> Node:
    """A call, or what the macro of this name and number of arguments stands for."""
    name, args, target = call.function, call.args, call.target
    if target is None:
        if name == "has" and len(args) == 1:
            operand = args[0]
            if not isinstance(operand, Select) or operand.test:
                raise SyntaxProblem(operand.pos, "invalid argument to has() macro")
            return Select(call.pos, operand.operand, operand.field, test=True)
        return call
    if len(args) == 2 and name in _ONE:
        return Comprehension(call.pos, _plain(name), target, _var(args[0]), args[1])
    if name == "map" and len(args) in (2, 3):
        filter_ = args[1] if len(args) == 3 else None
        return Comprehension(call.pos, "map", target, _var(args[0]), args[-1], filter_=filter_)
    if name == "sortBy" and len(args) == 2:
        return Comprehension(call.pos, "sortBy", target, _var(args[0]), args[1])
    if name in ("optMap", "optFlatMap") and len(args) == 2:
        return Comprehension(call.pos, name, target, _var(args[0]), args[1])
    if len(args) == 3 and name in _TWO:
        return Comprehension(call.pos, _plain(name), target, _var(args[0]), args[2], second=_var(args[1]))
    if name in ("transformList", "transformMap", "transformMapEntry") and len(args) in (3, 4):
        filter_ = args[2] if len(args) == 4 else None
        first, second = _var(args[0]), _var(args[1])
        return Comprehension(call.pos, name, target, first, args[-1], second=second, filter_=filter_)
    return call


def _plain(name: str) -> str:
    return "exists_one" if name == "existsOne" else name


def _var(node: Node) -> str:
    if not isinstance(node, Ident):
        raise SyntaxProblem(node.pos, "argument must be a simple name")
    return node.name


def explain(text: str, problems: list[SyntaxProblem]) -> str:
    """The problems with line, column and a mark, as upstream shows them."""
    shown = []
    lines = text.split("\n")
    for problem in problems:
        before = text[: problem.position]
        line = before.count("\n")
        column = len(before) - (before.rfind("\n") + 1)
        source = lines[line].replace("\t", " ")
        shown.append(f"ERROR: <input>:{line + 1}:{column + 1}: {problem.text}\n | {source}\n | {'.' * column}^")
    return "\n".join(shown)
