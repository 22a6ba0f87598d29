"""Impersonation: a user who may is taken for another one.

Two kinds of right lead there. The old one is `impersonate` on users, groups, uids and userextras: whoever has it may do
all that the other may. Constrained impersonation takes two: `impersonate:<mode>` says who may be played, and
`impersonate-on:<mode>:<verb>` what may be done in that role. Modes are a node that the asking service account runs on,
any node, a service account, and any other user. The constrained modes are asked first, and the mode that worked last
for a user before all others. Source: Kubernetes' "User impersonation" and KEP-5284.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping

import msgspec

from podling import clock
from podling.api import errors
from podling.api import names as naming
from podling.api.request import User
from podling.apiserver.authn import metrics, names
from podling.apiserver.authz.attributes import Attributes, Authorize, forbidden, quoted, settled
from podling.machinery import validation

_GROUP = {"group": "authentication.k8s.io", "version": "v1"}
_NODE = "system:node:"
#: From so many groups or extra values on, the right to all of them is looked for first.
_MANY = 4
_USERS_KEPT = 10_000
_ASSOCIATED_KEYS = "authentication.kubernetes.io/associated-node-keys"


class Wanted(msgspec.Struct, frozen=True):
    """What the headers say."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: Mapping[str, tuple[str, ...]] = {}

    @property
    def only_named(self) -> bool:
        return not (self.groups or self.uid or self.extra)


class Mode(msgspec.Struct, frozen=True):
    """A constrained mode: its name, and whether it is for this wish of this user."""

    name: str
    applies: Callable[[Wanted, User], bool]


MODES = (
    Mode("associated-node", lambda wanted, user: wanted.only_named and _runs_on(user, wanted.name)),
    Mode("arbitrary-node", lambda wanted, user: wanted.only_named and node_of(wanted.name) is not None),
    Mode("serviceaccount", lambda wanted, user: wanted.only_named and names.split_account(wanted.name) is not None),
    Mode("user-info", lambda wanted, user: node_of(wanted.name) is None and names.split_account(wanted.name) is None),
)
_OLD = len(MODES)


class Impersonation:
    """Judges by `authorize`."""

    def __init__(self, authorize: Authorize) -> None:
        self._authorize = authorize
        #: Which mode a user was allowed last.
        self._last: OrderedDict[str, int] = OrderedDict()

    async def impersonated(self, user: User, headers: Mapping[str, str], asked: Attributes) -> tuple[User, str]:
        """Whom `user` is taken for in the request that is `asked` (`user`, if nobody is named), and by which
        constrained right. StatusError 400, 403."""
        wanted = read(headers)
        if wanted is None:
            return user, ""
        began = clock.real_seconds()
        first: errors.StatusError | None = None
        for index in self._order(user):
            if index < _OLD and not MODES[index].applies(wanted, user):
                continue
            try:
                found = await self._attempt(index, user, wanted, asked)
            except errors.StatusError as error:
                first = first or error
                continue
            self._remember(user.name, index)
            mode = "legacy" if index == _OLD else MODES[index].name
            metrics.impersonated(mode, clock.real_seconds() - began)
            return found, "" if index == _OLD else f"impersonate:{mode}"
        metrics.impersonated("", clock.real_seconds() - began)
        assert first is not None
        raise first

    def _order(self, user: User) -> Iterator[int]:
        last = self._last.get(user.name)
        if last is not None:
            yield last
        for index in range(_OLD + 1):
            if index != last:
                yield index

    def _remember(self, name: str, index: int) -> None:
        self._last[name] = index
        self._last.move_to_end(name)
        if len(self._last) > _USERS_KEPT:
            self._last.popitem(last=False)

    async def _attempt(self, index: int, user: User, wanted: Wanted, asked: Attributes) -> User:
        if index == _OLD:
            return await self._check(user, wanted, "impersonate")
        mode = MODES[index].name
        if mode == "associated-node":
            # That the account runs there is known: the authorizer is asked about any node, and told no particulars.
            user = msgspec.structs.replace(user, extra={_ASSOCIATED_KEYS: tuple(sorted(user.extra))})
        await self._demand(asked._replace(user=user, verb=f"impersonate-on:{mode}:{asked.verb}"))
        return await self._check(user, wanted, f"impersonate:{mode}")

    async def _check(self, user: User, wanted: Wanted, verb: str) -> User:
        """The other user, if `user` may play every part of it."""
        constrained = verb != "impersonate"
        more = _GROUP if constrained else {"version": "v1"}
        groups = wanted.groups
        account, node = names.split_account(wanted.name), node_of(wanted.name) if constrained else None
        if account is not None:
            place = {"namespace": account[0], "name": account[1]}
            await self._demand(Attributes(user, verb, resource="serviceaccounts", **place, **more))
            groups = groups or names.account_groups(account[0])
        elif node is not None:
            name = "*" if verb == "impersonate:associated-node" else node
            await self._demand(Attributes(user, verb, resource="nodes", name=name, **more))
            groups = ("system:nodes",)
        else:
            await self._demand(Attributes(user, verb, resource="users", name=wanted.name, **more))
        if wanted.uid:
            await self._demand(Attributes(user, verb, **_GROUP, resource="uids", name=wanted.uid))
        await self._check_groups(Attributes(user, verb, resource="groups", **more), wanted.groups, constrained)
        await self._check_extra(Attributes(user, verb, **_GROUP, resource="userextras"), wanted.extra, constrained)
        return User(wanted.name, _completed(wanted.name, groups), wanted.uid, wanted.extra)

    async def _check_groups(self, question: Attributes, groups: tuple[str, ...], constrained: bool) -> None:
        if constrained:
            if "" in groups:
                raise forbidden(question, "impersonating the empty string group is not allowed")
            if names.MASTERS in groups:
                why = "impersonating the system:masters group is not allowed"
                raise forbidden(question._replace(name=names.MASTERS), why)
            if len(groups) >= _MANY and await self._may(question._replace(name="*")):
                return
        for group in groups:
            await self._demand(question._replace(name=group))

    async def _check_extra(self, question: Attributes, extra: Mapping[str, tuple[str, ...]], constrained: bool) -> None:
        if constrained and extra:
            if why := _bad_extra(extra):
                raise forbidden(question, why)
            many = max(len(extra), sum(len(values) for values in extra.values())) >= _MANY
            if many and await self._may(question._replace(subresource="*", name="*")):
                return
        for key, values in extra.items():
            for value in values:
                await self._demand(question._replace(subresource=key, name=value))

    async def _may(self, attributes: Attributes) -> bool:
        return (await settled(self._authorize(attributes))).allowed

    async def _demand(self, attributes: Attributes) -> None:
        decision = await settled(self._authorize(attributes))
        if not decision.allowed:
            why = ": ".join(text for text in (decision.error, decision.reason) if text)
            raise forbidden(attributes, why)


def read(headers: Mapping[str, str]) -> Wanted | None:
    """What is wished for; None if nothing is. StatusError 400 for the parts of a user without its name."""
    name = next(iter(names.values(headers, "impersonate-user")), "")
    uid = next(iter(names.values(headers, "impersonate-uid")), "")
    wanted = Wanted(
        name, tuple(names.values(headers, "impersonate-group")), uid, names.extra(headers, "impersonate-extra-")
    )
    if name:
        return wanted
    if wanted.only_named:
        return None
    raise errors.bad_request(f"requested {_shown(wanted)} without impersonating a user name")


def node_of(name: str) -> str | None:
    """The node that a user's name is that of; None if it is not one."""
    node = name.removeprefix(_NODE)
    return node if name.startswith(_NODE) and not naming.dns_subdomain(node) else None


def _runs_on(user: User, name: str) -> bool:
    """Whether `user` is a service account whose token is bound to the node that `name` is the user of."""
    node = node_of(name)
    if node is None or names.split_account(user.name) is None:
        return False
    return tuple(user.extra.get(names.NODE_NAME, ())) == (node,)


def _bad_extra(extra: Mapping[str, tuple[str, ...]]) -> str:
    """Why this is no extra that may be played under constraints; "" if it is fine."""
    for key, values in extra.items():
        if not key:
            return "impersonating the empty string key in extra is not allowed"
        if found := validation.domain_prefixed_path(key, validation.Path("extra").child("key")):
            texts = [str(finding) for finding in found]
            why = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
            return f"impersonating an invalid key in extra is not allowed: {why}"
        if key != key.lower():
            return f"impersonating a non-lowercase key in extra is not allowed: {quoted(key)}"
        if not values:
            return "impersonating empty values in extra is not allowed"
        if "" in values:
            return "impersonating the empty string value in extra is not allowed"
    return ""


def _completed(name: str, groups: tuple[str, ...]) -> tuple[str, ...]:
    """Everybody is in one of the two groups of authenticated and unauthenticated users."""
    default = names.UNAUTHENTICATED if name == names.ANONYMOUS else names.AUTHENTICATED
    if default in groups or names.UNAUTHENTICATED in groups:
        return groups
    return (*groups, default)


def _shown(wanted: Wanted) -> str:
    """As Go prints such a user."""
    groups = f"[]string{{{', '.join(quoted(g) for g in wanted.groups)}}}" if wanted.groups else "[]string(nil)"
    extra = "map[string][]string(nil)"
    if wanted.extra:
        pairs = (f"{quoted(k)}:[]string{{{', '.join(quoted(v) for v in vs)}}}" for k, vs in wanted.extra.items())
        extra = f"map[string][]string{{{', '.join(pairs)}}}"
    return f'&user.DefaultInfo{{Name:"", UID:{quoted(wanted.uid)}, Groups:{groups}, Extra:{extra}}}'


__all__ = ["Impersonation", "Mode", "Wanted", "node_of", "read"]
