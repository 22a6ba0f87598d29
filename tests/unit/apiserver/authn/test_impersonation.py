"""Who may be played, by the old right and by constrained ones."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest
from multidict import CIMultiDict

from podling import clock
from podling.api.errors import StatusError
from podling.api.request import User
from podling.apiserver.authn.impersonation import Impersonation, read
from podling.apiserver.authz.attributes import Attributes, Decision

ADMIN = User("admin", ("ops",))
LIST_PODS = Attributes(ADMIN, "list", "", "v1", "pods", "", "default")
AGENT = User(
    "system:serviceaccount:kube-system:agent",
    ("system:serviceaccounts",),
    extra={"authentication.kubernetes.io/node-name": ("n1",), "authentication.kubernetes.io/pod-name": ("p",)},
)


class Judge:
    """Allows what `rule` says, and remembers what it was asked."""

    def __init__(self, rule: Callable[[Attributes], bool] = lambda a: a.verb == "impersonate") -> None:
        self.rule = rule
        self.asked: list[Attributes] = []
        self.impersonation = Impersonation(self.authorize)

    def authorize(self, attributes: Attributes) -> Decision:
        self.asked.append(attributes)
        return Decision(self.rule(attributes), "" if self.rule(attributes) else "no")

    def play(self, headers: Any, user: User = ADMIN) -> tuple[User, str]:
        sent = CIMultiDict(headers)
        return clock.run_virtual(self.impersonation.impersonated(user, sent, LIST_PODS._replace(user=user)))

    def fails(self, headers: Any, user: User = ADMIN) -> StatusError:
        with pytest.raises(StatusError) as caught:
            self.play(headers, user)
        return caught.value


@pytest.mark.parametrize(
    ("headers", "expected", "asked"),
    [
        (
            [("Impersonate-User", "bob")],
            User("bob", ("system:authenticated",)),
            [("", "users", "", "", "bob")],
        ),
        (
            [("Impersonate-User", "bob"), ("Impersonate-Group", "a"), ("Impersonate-Group", "b")],
            User("bob", ("a", "b", "system:authenticated")),
            [("", "users", "", "", "bob"), ("", "groups", "", "", "a"), ("", "groups", "", "", "b")],
        ),
        (
            [("Impersonate-User", "system:serviceaccount:ns:bot")],
            User(
                "system:serviceaccount:ns:bot",
                ("system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated"),
            ),
            [("", "serviceaccounts", "", "ns", "bot")],
        ),
        (
            [("Impersonate-User", "system:anonymous")],
            User("system:anonymous", ("system:unauthenticated",)),
            [("", "users", "", "", "system:anonymous")],
        ),
        (
            [
                ("Impersonate-User", "bob"),
                ("Impersonate-Uid", "42"),
                ("Impersonate-Extra-Acme.com%2fProject", "x"),
                ("Impersonate-Extra-Acme.com%2fProject", "y"),
            ],
            User("bob", ("system:authenticated",), "42", {"acme.com/project": ("x", "y")}),
            [
                ("", "users", "", "", "bob"),
                ("authentication.k8s.io", "uids", "", "", "42"),
                ("authentication.k8s.io", "userextras", "acme.com/project", "", "x"),
                ("authentication.k8s.io", "userextras", "acme.com/project", "", "y"),
            ],
        ),
    ],
)
def test_every_part_of_a_user_is_asked_for(
    headers: list[tuple[str, str]], expected: User, asked: list[tuple[str, str, str, str, str]]
) -> None:
    judge = Judge()
    assert judge.play(headers) == (expected, "")
    old = [a for a in judge.asked if a.verb == "impersonate"]
    assert [(a.group, a.resource, a.subresource, a.namespace, a.name) for a in old] == asked
    assert {a.user.name for a in judge.asked} == {"admin"}


def test_who_named_nobody_stays_who_they_are() -> None:
    assert Judge().play([]) == (ADMIN, "")


def test_the_mode_that_worked_last_is_asked_first() -> None:
    judge = Judge()
    judge.play([("Impersonate-User", "bob")])
    judge.asked.clear()
    judge.play([("Impersonate-User", "eve")])
    assert [a.verb for a in judge.asked] == ["impersonate"]


def test_the_refusal_names_the_constrained_right() -> None:
    error = Judge(lambda a: False).fails([("Impersonate-User", "bob")])
    assert (error.code, str(error)) == (
        403,
        'pods is forbidden: User "admin" cannot impersonate-on:user-info:list resource "pods" in API group "" '
        'in the namespace "default": no',
    )


@pytest.mark.parametrize(
    ("headers", "shown"),
    [
        ({"impersonate-group": "devs"}, 'UID:"", Groups:[]string{"devs"}, Extra:map[string][]string(nil)'),
        ({"impersonate-uid": "7"}, 'UID:"7", Groups:[]string(nil), Extra:map[string][]string(nil)'),
        (
            {"impersonate-extra-team": "a"},
            'UID:"", Groups:[]string(nil), Extra:map[string][]string{"team":[]string{"a"}}',
        ),
    ],
)
def test_parts_of_nobody_make_no_sense(headers: Mapping[str, str], shown: str) -> None:
    with pytest.raises(StatusError) as caught:
        read(headers)
    what = f'requested &user.DefaultInfo{{Name:"", {shown}}} without impersonating a user name'
    assert (caught.value.code, str(caught.value)) == (400, what)


def constrained(*allowed: tuple[str, str, str]) -> Callable[[Attributes], bool]:
    """(verb, resource, name)"""
    return lambda a: (a.verb, a.resource, a.name) in allowed


def test_a_user_is_played_for_one_verb_alone() -> None:
    rule = constrained(("impersonate-on:user-info:list", "pods", ""), ("impersonate:user-info", "users", "bob"))
    judge = Judge(rule)
    assert judge.play([("Impersonate-User", "bob")]) == (
        User("bob", ("system:authenticated",)),
        "impersonate:user-info",
    )
    other = LIST_PODS._replace(verb="create")
    with pytest.raises(StatusError):
        clock.run_virtual(judge.impersonation.impersonated(ADMIN, {"impersonate-user": "bob"}, other))


def test_a_node_agent_plays_the_node_that_it_runs_on() -> None:
    rule = constrained(
        ("impersonate-on:associated-node:list", "pods", ""), ("impersonate:associated-node", "nodes", "*")
    )
    judge = Judge(rule)
    user, constraint = judge.play([("Impersonate-User", "system:node:n1")], AGENT)
    assert user == User("system:node:n1", ("system:nodes", "system:authenticated"))
    assert constraint == "impersonate:associated-node"
    assert judge.asked[0].user.extra == {
        "authentication.kubernetes.io/associated-node-keys": (
            "authentication.kubernetes.io/node-name",
            "authentication.kubernetes.io/pod-name",
        )
    }
    assert judge.fails([("Impersonate-User", "system:node:n2")], AGENT).code == 403


def test_any_node_and_any_account_have_modes_of_their_own() -> None:
    rule = constrained(
        ("impersonate-on:arbitrary-node:list", "pods", ""),
        ("impersonate:arbitrary-node", "nodes", "n7"),
        ("impersonate-on:serviceaccount:list", "pods", ""),
        ("impersonate:serviceaccount", "serviceaccounts", "bot"),
    )
    judge = Judge(rule)
    assert judge.play([("Impersonate-User", "system:node:n7")])[1] == "impersonate:arbitrary-node"
    user, constraint = judge.play([("Impersonate-User", "system:serviceaccount:ns:bot")])
    assert constraint == "impersonate:serviceaccount"
    assert user.groups == ("system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated")


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (("Impersonate-Group", "system:masters"), "impersonating the system:masters group is not allowed"),
        (("Impersonate-Group", ""), "impersonating the empty string group is not allowed"),
        (("Impersonate-Extra-nodomain", "x"), "impersonating an invalid key in extra is not allowed"),
        (("Impersonate-Extra-acme.com%2fa", ""), "impersonating the empty string value in extra is not allowed"),
    ],
)
def test_constrained_rights_never_reach_the_masters(more: tuple[str, str], why: str) -> None:
    judge = Judge(lambda a: a.verb.startswith(("impersonate:", "impersonate-on:")))
    assert why in str(judge.fails([("Impersonate-User", "bob"), more]))


def test_many_groups_are_asked_for_at_once() -> None:
    judge = Judge(lambda a: a.verb.startswith("impersonate-on:") or a.resource == "users" or a.name == "*")
    headers = [("Impersonate-User", "bob"), *(("Impersonate-Group", f"g{i}") for i in range(200))]
    user, constraint = judge.play(headers)
    assert len(user.groups) == 201 and constraint == "impersonate:user-info"
    assert len(judge.asked) < 10


def test_decisions_that_take_time_are_waited_for() -> None:
    def later(attributes: Attributes) -> Awaitable[Decision]:
        async def decide() -> Decision:
            return Decision(attributes.verb == "impersonate")

        return decide()

    impersonation = Impersonation(later)
    user, _ = clock.run_virtual(impersonation.impersonated(ADMIN, {"impersonate-user": "bob"}, LIST_PODS))
    assert user.name == "bob"
