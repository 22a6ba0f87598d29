"""Shell scripts as trees: the part of the shell's grammar that the small shell of simulations plays."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""(?P<skip>[ \t]+|\\\n|(?:(?<=\s)|^)\#[^\n]*)
      | (?P<op>2>&1|1?>&2|[12]?>>|[12]?>|&&|\|\||[;&|<()\n])
      | (?P<word>(?:[^\s;&|<>()'"\\$]|\\.|'[^']*'|"(?:[^"\\]|\\.)*"|\$\([^)]*\)|\$\{[^}]*\}|\$)+)""",
    re.VERBOSE | re.DOTALL,
)
_CLOSING = frozenset({"done", "fi", "do", "then", "else", "elif", "}", ")"})
_ENDS_COMMAND = frozenset({";", "\n", "&&", "||", "&", ")"})


class Unparsable(Exception):
    """The script uses what the small shell does not know."""


@dataclass(frozen=True)
class Simple:
    """A command: its words as written, quotes and all, and its redirections (operator, word)."""

    words: tuple[str, ...]
    redirects: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Sequence:
    items: tuple[Node, ...] = ()


@dataclass(frozen=True)
class Background:
    body: Node


@dataclass(frozen=True)
class AndOr:
    """`left && right`, or `left || right` if not `both`."""

    left: Node
    right: Node
    both: bool


@dataclass(frozen=True)
class Not:
    body: Node


@dataclass(frozen=True)
class If:
    condition: Node
    body: Node
    otherwise: Node


@dataclass(frozen=True)
class Loop:
    """Goes round while the condition's success is `wanted` (`until` wants failure)."""

    condition: Node
    body: Node
    wanted: bool


@dataclass(frozen=True)
class For:
    name: str
    words: tuple[str, ...]
    body: Node


Node = Simple | Sequence | Background | AndOr | Not | If | Loop | For


def parse(script: str) -> Node:
    """The script's tree; Unparsable if it needs a real shell."""
    return _Parser(script).parse()


def _tokens(script: str) -> Iterator[str]:
    at = 0
    while at < len(script):
        match = _TOKEN.match(script, at)
        if match is None:
            raise Unparsable(script[at:])
        if match.lastgroup != "skip":
            yield match.group()
        at = match.end()


class _Parser:
    """Recursive descent over the tokens."""

    def __init__(self, script: str) -> None:
        self._tokens = list(_tokens(script))
        self._at = 0

    def parse(self) -> Node:
        node = self._sequence()
        if self._at < len(self._tokens):
            raise Unparsable(self._tokens[self._at])
        return node

    def _peek(self) -> str | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _next(self) -> str:
        token = self._peek()
        if token is None:
            raise Unparsable("unexpected end")
        self._at += 1
        return token

    def _took(self, *tokens: str) -> bool:
        if self._peek() in tokens:
            self._at += 1
            return True
        return False

    def _expect(self, token: str) -> None:
        if self._next() != token:
            raise Unparsable(f"expected {token}")

    def _sequence(self) -> Node:
        items: list[Node] = []
        while True:
            while self._took(";", "\n"):
                pass
            token = self._peek()
            if token is None or token in _CLOSING:
                return Sequence(tuple(items))
            item = self._and_or()
            items.append(Background(item) if self._took("&") else item)

    def _and_or(self) -> Node:
        node = self._command()
        while (operator := self._peek()) in ("&&", "||"):
            self._at += 1
            node = AndOr(node, self._command(), operator == "&&")
        return node

    def _command(self) -> Node:
        for word, wanted in (("while", True), ("until", False)):
            if self._took(word):
                return Loop(self._sequence(), self._body("do", "done"), wanted)
        if self._took("if"):
            return self._if()
        if self._took("for"):
            return self._for()
        if self._took("{"):
            return self._closed("}")
        if self._took("("):
            return self._closed(")")
        if self._took("!"):
            return Not(self._command())
        return self._simple()

    def _body(self, opening: str, closing: str) -> Node:
        self._expect(opening)
        return self._closed(closing)

    def _closed(self, closing: str) -> Node:
        body = self._sequence()
        self._expect(closing)
        return body

    def _if(self) -> Node:
        condition = self._sequence()
        self._expect("then")
        body = self._sequence()
        if self._took("elif"):
            return If(condition, body, self._if())
        otherwise = self._sequence() if self._took("else") else Sequence()
        self._expect("fi")
        return If(condition, body, otherwise)

    def _for(self) -> Node:
        name = self._next()
        self._expect("in")
        words: list[str] = []
        while not self._took(";", "\n"):
            words.append(self._next())
        return For(name, tuple(words), self._body("do", "done"))

    def _simple(self) -> Node:
        words: list[str] = []
        redirects: list[tuple[str, str]] = []
        while (token := self._peek()) is not None and token not in _ENDS_COMMAND:
            self._at += 1
            if token in ("|", "<", "("):
                raise Unparsable(token)
            if token.endswith((">&1", ">&2")):
                redirects.append((token, ""))
            elif token.endswith(">"):
                redirects.append((token, self._next()))
            else:
                words.append(token)
        if not words and not redirects:
            raise Unparsable("empty command")
        return Simple(tuple(words), tuple(redirects))
