"""A table as a whole: the rules that are always there, and the fragments that services or policies add.

`Ruleset` remembers what the kernel has. Changes are collected and come out as one script, that holds only what differs;
several fragments may claim one element (two services an external address), and the first that did has it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

import msgspec

V = TypeVar("V")
Element = tuple[str, str]


class Fragment(msgspec.Struct):
    """A part of a ruleset. `chains`: name -> rules. `sets`: name -> declaration. `elements`: (set or map, key) -> value
    ("" in a set)."""

    chains: dict[str, tuple[str, ...]] = {}
    sets: dict[str, str] = {}
    elements: dict[tuple[str, str], str] = {}


F = TypeVar("F", bound=Fragment)


class Ruleset(Generic[F]):
    """Fragments by key, and the difference between them and what was last said to be installed."""

    def __init__(self, table: str, static: list[str]) -> None:
        self.table = table
        self._static = static
        self._fragments: dict[str, F] = {}
        self._claims: dict[Element, dict[str, str]] = {}
        self._chains: dict[str, tuple[str, ...]] = {}
        self._sets: dict[str, str] = {}
        # What the kernel has of that which has changed since; None where it has nothing.
        self._old_elements: dict[Element, str | None] = {}
        self._old_chains: dict[str, tuple[str, ...] | None] = {}
        self._old_sets: dict[str, str | None] = {}

    def get(self, key: str) -> F | None:
        return self._fragments.get(key)

    def fragments(self) -> dict[str, F]:
        return self._fragments

    def update(self, key: str, fragment: F | None) -> None:
        """`key` now needs `fragment`, or nothing."""
        old = self._fragments.pop(key, None)
        if fragment is not None:
            self._fragments[key] = fragment
        before: Fragment = old or Fragment()
        after: Fragment = fragment or Fragment()
        for element in {**before.elements, **after.elements}:
            self._claim(element, key, after.elements.get(element))
        for name in {**before.chains, **after.chains}:
            _set(self._chains, self._old_chains, name, after.chains.get(name))
        for name in {**before.sets, **after.sets}:
            _set(self._sets, self._old_sets, name, after.sets.get(name))

    def _claim(self, element: Element, key: str, value: str | None) -> None:
        claims = self._claims.setdefault(element, {})
        before = next(iter(claims.values()), None)
        if value is None:
            claims.pop(key, None)
        else:
            claims[key] = value
        after = next(iter(claims.values()), None)
        if after != before:
            self._old_elements.setdefault(element, before)
        if not claims:
            del self._claims[element]

    def _value(self, element: Element) -> str | None:
        return next(iter(self._claims.get(element, {}).values()), None)

    def installed(self) -> None:
        """The kernel has it all: begin to collect anew."""
        self._old_elements, self._old_chains, self._old_sets = {}, {}, {}

    def changes(self) -> str:
        """The script that takes the kernel from what it has to what is wanted; empty if it has it."""
        table = f"inet {self.table}"
        chains = {n: (o, self._chains.get(n)) for n, o in self._old_chains.items() if o != self._chains.get(n)}
        sets = {n: (o, self._sets.get(n)) for n, o in self._old_sets.items() if o != self._sets.get(n)}
        elements = {e: (o, self._value(e)) for e, o in self._old_elements.items() if o != self._value(e)}
        # What is referred to must exist first and go last: chains before elements, elements before chains go.
        lines = [f"add set {table} {name} {{ {new} }}" for name, (_, new) in sets.items() if new is not None]
        lines += [f"add chain {table} {name}" for name, (old, _) in chains.items() if old is None]
        lines += _grouped("delete", table, {e: None for e, (old, _) in elements.items() if old is not None})
        for name, (old, new) in chains.items():
            if old is not None:
                lines.append(f"flush chain {table} {name}")
            lines += [f"add rule {table} {name} {rule}" for rule in new or ()]
        lines += _grouped("add", table, {e: new for e, (_, new) in elements.items() if new is not None})
        lines += [f"delete chain {table} {name}" for name, (_, new) in chains.items() if new is None]
        lines += [f"delete set {table} {name}" for name, (_, new) in sets.items() if new is None]
        return "\n".join(lines) + "\n" if lines else ""

    def full(self) -> str:
        """The script that puts the whole table in place of whatever there is."""
        table = f"inet {self.table}"
        lines = [f"add table {table}", f"delete table {table}", f"table {table} {{"]
        lines += self._static
        lines += [f"\tset {name} {{ {text} }}" for name, text in self._sets.items()]
        lines += ["}"]
        lines += [f"add chain {table} {name}" for name in self._chains]
        lines += [f"add rule {table} {name} {rule}" for name, rules in self._chains.items() for rule in rules]
        lines += _grouped("add", table, {element: self._value(element) for element in self._claims})
        return "\n".join(lines) + "\n"


def _set(now: dict[str, V], old: dict[str, V | None], name: str, value: V | None) -> None:
    before = now.get(name)
    if before == value:
        return
    old.setdefault(name, before)
    if value is None:
        del now[name]
    else:
        now[name] = value


def _grouped(verb: str, table: str, elements: dict[Element, str | None]) -> Iterable[str]:
    """One statement for each set or map."""
    by_name: dict[str, list[str]] = {}
    for (name, key), value in elements.items():
        by_name.setdefault(name, []).append(f"{key} : {value}" if value else key)
    return [f"{verb} element {table} {name} {{ {', '.join(values)} }}" for name, values in by_name.items()]
