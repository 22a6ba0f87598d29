"""Regular expressions: find and findAll, in RE2's syntax."""

from __future__ import annotations

from podling.machinery.cel.functions import Functions, declare
from podling.machinery.cel.strings import compiled


def find(text: str, pattern: str) -> str:
    match = compiled(pattern).search(text)
    return match.group() if match else ""


def find_all(text: str, pattern: str, limit: int = -1) -> list[str]:
    found: list[str] = []
    if limit == 0:
        return found
    for match in compiled(pattern).finditer(text):
        found.append(match.group())
        if len(found) == limit:
            break
    return found


def declare_all(table: Functions) -> None:
    declare(table, "string.find(string) -> string", find)
    declare(table, "string.findAll(string) -> list<string>\nstring.findAll(string, int) -> list<string>", find_all)
