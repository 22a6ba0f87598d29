"""Several authorizers as one, and attribute-based policies."""

from __future__ import annotations

from collections.abc import Awaitable
from pathlib import Path

import pytest

from podling import clock
from podling.api.request import User
from podling.apiserver.authz import abac
from podling.apiserver.authz.attributes import Attributes, Authorize, Decision, Verdict, settled
from podling.apiserver.authz.union import Union

ALLOW, DENY = Decision(True, "yes"), Decision(False, "never", denied=True)
ASKED = Attributes(User("bob", ("devs",)), "list", "", "v1", "pods", "", "ns")


def at_once(decision: Decision) -> Authorize:
    return lambda attributes: decision


def later(decision: Decision) -> Authorize:
    def authorize(attributes: Attributes) -> Awaitable[Decision]:
        async def decide() -> Decision:
            return decision

        return decide()

    return authorize


def silent(reason: str = "", error: str = "") -> Decision:
    return Decision(False, reason, error)


def asked(*members: Authorize) -> tuple[Verdict, Decision]:
    async def main() -> tuple[Verdict, Decision]:
        verdict = Union(members).authorize(ASKED)
        return verdict, await settled(verdict)

    return clock.run_virtual(main())


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ([silent(), ALLOW, DENY], ALLOW),
        ([silent("a"), DENY, ALLOW], DENY),
        ([silent("a"), silent("b")], silent("a\nb")),
        ([silent("", "x"), silent("b", "y"), silent("", "x")], silent("b", "[x, y]")),
        ([silent("", "x"), ALLOW], ALLOW),
        ([], silent()),
    ],
)
def test_the_first_that_decides_has_decided(members: list[Decision], expected: Decision) -> None:
    verdict, decision = asked(*map(at_once, members))
    assert isinstance(verdict, Decision) and decision == expected
    for waiting in range(len(members)):
        mixed = [later(d) if i >= waiting else at_once(d) for i, d in enumerate(members)]
        assert asked(*mixed)[1] == expected


def policies(tmp_path: Path, *specs: str) -> abac.Abac:
    path = tmp_path / "policy"
    head = '"apiVersion":"abac.authorization.kubernetes.io/v1beta1","kind":"Policy"'
    path.write_text("# who may do what\n\n" + "\n".join(f'{{{head},"spec":{spec}}}' for spec in specs))
    return abac.Abac(abac.load(str(path)))


@pytest.mark.parametrize(
    ("spec", "allowed"),
    [
        ('{"user":"bob","namespace":"*","resource":"*","apiGroup":"*"}', True),
        ('{"user":"eve","namespace":"*","resource":"*","apiGroup":"*"}', False),
        ('{"group":"devs","namespace":"ns","resource":"pods"}', True),
        ('{"group":"devs","namespace":"ns","resource":"pods","readonly":true}', True),
        ('{"group":"devs","namespace":"other","resource":"pods"}', False),
        ('{"group":"ops","user":"bob","namespace":"*","resource":"*"}', False),
        ('{"namespace":"*","resource":"*"}', False),
        ('{"user":"*","nonResourcePath":"*"}', False),
    ],
)
def test_policies_of_a_file(tmp_path: Path, spec: str, allowed: bool) -> None:
    decision = policies(tmp_path, spec).authorize(ASKED)
    assert decision.allowed is allowed
    assert decision.reason == ("" if allowed else "No policy matched.")


def test_policies_for_reading_and_for_paths(tmp_path: Path) -> None:
    found = policies(
        tmp_path,
        '{"user":"bob","namespace":"*","resource":"*","readonly":true}',
        '{"user":"bob","nonResourcePath":"/metrics*","readonly":true}',
    )
    assert not found.authorize(ASKED._replace(verb="create")).allowed
    path = Attributes(ASKED.user, "get", path="/metrics/slis")
    assert found.authorize(path).allowed
    assert not found.authorize(path._replace(path="/api")).allowed


def test_a_line_that_is_no_policy_is_named(tmp_path: Path) -> None:
    path = tmp_path / "policy"
    path.write_text("\n{}\n")
    with pytest.raises(ValueError, match=r"error reading policy file .*, line 2: {}: "):
        abac.load(str(path))
