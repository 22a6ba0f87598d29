"""The authorizer: expressions ask whether the request's user, or a service account, may do something."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from podling.api import names
from podling.machinery.cel.functions import Functions, declare
from podling.machinery.cel.types import (
    EvaluationError,
    Opaque,
    opaque,
)


class Question(NamedTuple):
    """What may be done? A path, or a resource. Selectors are texts; `account` is (namespace, name) if it is about
    a service account instead of the request's user."""

    path: str = ""
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    field_selector: str = ""
    label_selector: str = ""
    verb: str = ""
    account: tuple[str, str] | None = None


#: (allowed, reason, error).
Answer = tuple[bool, str, str]
Decide = Callable[[Question], Answer]


class _Asking(Opaque):
    __slots__ = ("decide", "question")

    def __init__(self, decide: Decide, question: Question) -> None:
        self.decide, self.question = decide, question


class Authorizer(_Asking):
    """`authorizer`: made with a function that decides upon a `Question`."""

    __slots__ = ()
    TYPE = opaque("kubernetes.authorization.Authorizer")

    def __init__(self, decide: Decide, question: Question = Question()) -> None:  # noqa: B008 - it is immutable
        super().__init__(decide, question)


class PathCheck(_Asking):
    __slots__ = ()
    TYPE = opaque("kubernetes.authorization.PathCheck")


class GroupCheck(_Asking):
    __slots__ = ()
    TYPE = opaque("kubernetes.authorization.GroupCheck")


class ResourceCheck(_Asking):
    """`authorizer.requestResource`."""

    __slots__ = ()
    TYPE = opaque("kubernetes.authorization.ResourceCheck")


class Decision(Opaque):
    __slots__ = ("answer",)
    TYPE = opaque("kubernetes.authorization.Decision")

    def __init__(self, answer: Answer) -> None:
        self.answer = answer


def _with(question: Question, field: str, value: Any) -> Question:
    return question._replace(**{field: value})


def _narrowed(cls: type[_Asking], field: str, what: str = "") -> Callable[[_Asking, str], _Asking]:
    def narrow(asking: _Asking, value: str) -> _Asking:
        if what and not value.strip():
            raise EvaluationError(f"{what} must not be empty")
        return cls(asking.decide, _with(asking.question, field, value))

    return narrow


def _account(asking: Authorizer, namespace: str, name: str) -> Authorizer:
    if names.dns_subdomain(name):
        raise EvaluationError("Invalid service account name")
    if names.dns_label(namespace):
        raise EvaluationError("Invalid service account namespace")
    return Authorizer(asking.decide, asking.question._replace(account=(namespace, name)))


def _check(asking: _Asking, verb: str) -> Decision:
    return Decision(asking.decide(asking.question._replace(verb=verb)))


def declare_all(table: Functions) -> None:
    a, path, group, resource, decision = (
        c.TYPE.name for c in (Authorizer, PathCheck, GroupCheck, ResourceCheck, Decision)
    )
    declare(table, f"{a}.path(string) -> {path}", _narrowed(PathCheck, "path", "path"))
    declare(table, f"{a}.group(string) -> {group}", _narrowed(GroupCheck, "group"))
    declare(table, f"{a}.serviceAccount(string, string) -> {a}", _account)
    declare(table, f"{group}.resource(string) -> {resource}", _narrowed(ResourceCheck, "resource", "resource"))
    for name, field in (("subresource", "subresource"), ("namespace", "namespace"), ("name", "name"),
                        ("fieldSelector", "field_selector"), ("labelSelector", "label_selector")):  # fmt: skip
        declare(table, f"{resource}.{name}(string) -> {resource}", _narrowed(ResourceCheck, field))
    declare(table, f"{path}.check(string) -> {decision}\n{resource}.check(string) -> {decision}", _check)
    declare(table, f"{decision}.errored() -> bool", lambda d: bool(d.answer[2]))
    declare(table, f"{decision}.error() -> string", lambda d: d.answer[2])
    declare(table, f"{decision}.allowed() -> bool", lambda d: d.answer[0])
    declare(table, f"{decision}.reason() -> string", lambda d: d.answer[1])
