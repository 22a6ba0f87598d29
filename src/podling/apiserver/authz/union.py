"""Authorizers asked one after the other: the first that allows or denies has decided.

As long as all of them decide from memory, so does the union; from the first one that must be waited for on, it waits.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

from podling.apiserver.authz.attributes import Attributes, Authorize, Decision, Verdict
from podling.apiserver.authz.rbac import aggregate


class Union:
    """`members` are asked in this order."""

    def __init__(self, members: Sequence[Authorize]) -> None:
        self._members = tuple(members)

    def authorize(self, attributes: Attributes) -> Verdict:
        """If nobody decides, the reason is what all of them said."""
        said: list[Decision] = []
        for index, member in enumerate(self._members):
            verdict = member(attributes)
            if not isinstance(verdict, Decision):
                return self._wait(verdict, index + 1, attributes, said)
            if verdict.allowed or verdict.denied:
                return verdict
            said.append(verdict)
        return _nobody(said)

    async def _wait(
        self, pending: Awaitable[Decision], index: int, attributes: Attributes, said: list[Decision]
    ) -> Decision:
        decision = await pending
        while not (decision.allowed or decision.denied):
            said.append(decision)
            if index == len(self._members):
                return _nobody(said)
            verdict = self._members[index](attributes)
            decision = verdict if isinstance(verdict, Decision) else await verdict
            index += 1
        return decision


def _nobody(said: Sequence[Decision]) -> Decision:
    failures = [d.error for d in said if d.error]
    return Decision(False, "\n".join(d.reason for d in said if d.reason), aggregate(failures) if failures else "")
