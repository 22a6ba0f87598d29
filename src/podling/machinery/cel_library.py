"""Kubernetes' own functions of CEL: lists, regular expressions, URLs, quantities, addresses, formats, versions, and the
authorizer. Source: k8s.io/apiserver pkg/cel/library.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple
from urllib.parse import SplitResult, parse_qs, urlsplit

from podling.api import names, quantity
from podling.machinery.cel_convert import parse_timestamp
from podling.machinery.cel_functions import STANDARD, Function, Functions, declare
from podling.machinery.cel_operators import add
from podling.machinery.cel_strings import compiled
from podling.machinery.cel_types import (
    INT_MAX,
    INT_MIN,
    NONE,
    Duration,
    EvaluationError,
    Opaque,
    Optional,
    equal,
    opaque,
)


def _attempt(make: Callable[..., Any]) -> Callable[..., bool]:
    """Whether `make` has a value for its arguments."""

    def works(*args: Any) -> bool:
        try:
            make(*args)
        except EvaluationError:
            return False
        return True

    return works


# -- lists ------------------------------------------------------------------------------------------------------------


def _key(item: Any) -> Any:
    return item.ns if hasattr(item, "ns") else item


def is_sorted(items: list[Any]) -> bool:
    return all(_key(a) <= _key(b) for a, b in pairwise(items))


def _extreme(name: str, choose: Callable[..., Any]) -> Callable[[list[Any]], Any]:
    def extreme(items: list[Any]) -> Any:
        if not items:
            raise EvaluationError(f"{name} called on empty list")
        return choose(items, key=_key)

    return extreme


def _sum(zero: Any) -> Callable[[list[Any]], Any]:
    def total(items: list[Any]) -> Any:
        if not items:
            return zero
        found = items[0]
        for item in items[1:]:
            found = add(found, item)
        return found

    return total


def index_of(items: list[Any], item: Any) -> int:
    return next((i for i, other in enumerate(items) if equal(item, other)), -1)


def last_index_of(items: list[Any], item: Any) -> int:
    return next((i for i in range(len(items) - 1, -1, -1) if equal(item, items[i])), -1)


def _lists(table: Functions) -> None:
    for kind in ("int", "uint", "double", "bool", "duration", "timestamp", "string", "bytes"):
        declare(table, f"list<{kind}>.isSorted() -> bool", is_sorted)
        declare(table, f"list<{kind}>.max() -> {kind}", _extreme("max", max))
        declare(table, f"list<{kind}>.min() -> {kind}", _extreme("min", min))
    for kind, zero in (("int", 0), ("uint", 0), ("double", 0.0), ("duration", Duration(0))):
        declare(table, f"list<{kind}>.sum() -> {kind}", _sum(zero))
    declare(table, "list<A>.indexOf(A) -> int", index_of)
    declare(table, "list<A>.lastIndexOf(A) -> int", last_index_of)


# -- regular expressions ----------------------------------------------------------------------------------------------


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


# -- URLs -------------------------------------------------------------------------------------------------------------


class Url(Opaque):
    __slots__ = ("parts", "text")
    TYPE = opaque("kubernetes.URL")

    def __init__(self, text: str) -> None:
        self.text = text
        self.parts = _split_url(text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Url) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)


def _split_url(text: str) -> SplitResult:
    def failed(why: str) -> EvaluationError:
        return EvaluationError(f'URL parse error during conversion from string: parse "{text}": {why}')

    if not text:
        raise failed("empty url")
    if any(ord(c) < 32 or ord(c) == 127 for c in text):
        raise failed("net/url: invalid control character in URL")
    if ":" in text.partition("/")[0] and not re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*:", text):
        raise failed("first path segment in URL cannot contain colon" if text[0] != ":" else "missing protocol scheme")
    if re.search(r"%(?![0-9a-fA-F]{2})", text):
        bad = re.search(r"%.{0,2}", text)
        raise failed(f'invalid URL escape "{bad.group() if bad else ""}"')
    try:
        parts = urlsplit(text)
        port = parts.netloc.rpartition("@")[2].rpartition("]")[2].partition(":")[2]
        if port and not port.isdecimal():
            raise failed(f'invalid port ":{port}" after host')
    except ValueError as error:
        raise failed(str(error)) from None
    if not parts.scheme and not text.startswith("/"):
        raise failed("invalid URI for request")
    if " " in parts.netloc:
        raise failed('invalid character " " in host name')
    return parts


def _host(url: Url) -> str:
    return url.parts.netloc.rpartition("@")[2]


def _hostname(url: Url) -> str:
    host = _host(url)
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]


def _port(url: Url) -> str:
    return _host(url).rpartition("]")[2].partition(":")[2]


def _escaped_path(url: Url) -> str:
    return re.sub(r"[^A-Za-z0-9\-._~!$&'()*+,;=:@/%\[\]]", lambda m: "".join(f"%{b:02X}" for b in m[0].encode()),
                  url.parts.path)  # fmt: skip


def _urls(table: Functions) -> None:
    kind = Url.TYPE.name
    declare(table, f"url(string) -> {kind}", Url)
    declare(table, "isURL(string) -> bool", _attempt(Url))
    declare(table, f"{kind}.getScheme() -> string", lambda u: u.parts.scheme)
    declare(table, f"{kind}.getHost() -> string", _host)
    declare(table, f"{kind}.getHostname() -> string", _hostname)
    declare(table, f"{kind}.getPort() -> string", _port)
    declare(table, f"{kind}.getEscapedPath() -> string", _escaped_path)
    declare(table, f"{kind}.getQuery() -> map<string, list<string>>",
            lambda u: parse_qs(u.parts.query, keep_blank_values=True))  # fmt: skip


# -- quantities -------------------------------------------------------------------------------------------------------


class Quantity(Opaque):
    __slots__ = ("amount",)
    TYPE = opaque("kubernetes.Quantity")

    def __init__(self, amount: quantity.Quantity) -> None:
        self.amount = amount

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Quantity) and self.amount == other.amount

    def __hash__(self) -> int:
        return hash(self.amount)


def to_quantity(text: str) -> Quantity:
    try:
        return Quantity(quantity.parse(text))
    except ValueError as error:
        raise EvaluationError(str(error)) from None


def _is_integer(value: Quantity) -> bool:
    return value.amount.nano % 10**9 == 0 and INT_MIN <= value.amount.nano // 10**9 <= INT_MAX


def _as_integer(value: Quantity) -> int:
    if not _is_integer(value):
        raise EvaluationError("cannot convert value to integer")
    return value.amount.nano // 10**9


def _compare(a: Any, b: Any) -> int:
    return int(a > b) - int(a < b)


def _quantities(table: Functions) -> None:
    kind = Quantity.TYPE.name
    declare(table, f"quantity(string) -> {kind}", to_quantity)
    declare(table, "isQuantity(string) -> bool", _attempt(to_quantity))
    declare(table, f"{kind}.sign() -> int", lambda q: q.amount.sign)
    declare(table, f"{kind}.isGreaterThan({kind}) -> bool", lambda a, b: a.amount > b.amount)
    declare(table, f"{kind}.isLessThan({kind}) -> bool", lambda a, b: a.amount < b.amount)
    declare(table, f"{kind}.compareTo({kind}) -> int", lambda a, b: _compare(a.amount, b.amount))
    declare(table, f"{kind}.asApproximateFloat() -> double", lambda q: float(q.amount))
    declare(table, f"{kind}.asInteger() -> int", _as_integer)
    declare(table, f"{kind}.isInteger() -> bool", _is_integer)
    declare(table, f"{kind}.add({kind}) -> {kind}", lambda a, b: Quantity(a.amount + b.amount))
    declare(table, f"{kind}.add(int) -> {kind}", lambda a, b: Quantity(a.amount + quantity.of(b)))
    declare(table, f"{kind}.sub({kind}) -> {kind}", lambda a, b: Quantity(a.amount - b.amount))
    declare(table, f"{kind}.sub(int) -> {kind}", lambda a, b: Quantity(a.amount - quantity.of(b)))


# -- addresses --------------------------------------------------------------------------------------------------------


class Address(Opaque):
    __slots__ = ("address",)
    TYPE = opaque("net.IP")

    def __init__(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
        self.address = address

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Address) and self.address == other.address

    def __hash__(self) -> int:
        return hash(self.address)


class Network(Opaque):
    """An address with a prefix length; bits beyond it are kept, as upstream keeps them."""

    __slots__ = ("interface",)
    TYPE = opaque("net.CIDR")

    def __init__(self, interface: ipaddress.IPv4Interface | ipaddress.IPv6Interface) -> None:
        self.interface = interface

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Network) and str(self.interface) == str(other.interface)

    def __hash__(self) -> int:
        return hash(self.interface)


def to_address(text: str) -> Address:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise EvaluationError(
            f'IP Address "{text}" parse error during conversion from string: ParseAddr("{text}"): unable to parse IP'
        ) from None
    if "%" in text:
        raise EvaluationError(f'IP address "{text}" with zone value is not allowed')
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        raise EvaluationError(f'IPv4-mapped IPv6 address "{text}" is not allowed')
    return Address(address)


def to_network(text: str) -> Network:
    _, slash, length = text.partition("/")
    try:
        if not slash or not re.fullmatch("0|[1-9][0-9]*", length) or "%" in text:
            raise ValueError
        interface = ipaddress.ip_interface(text)
    except ValueError:
        why = f'netip.ParsePrefix("{text}"): ' + ("unable to parse" if slash else "no '/'")
        raise EvaluationError(f"network address parse error during conversion from string: {why}") from None
    if isinstance(interface, ipaddress.IPv6Interface) and interface.ip.ipv4_mapped is not None:
        raise EvaluationError(f'IPv4-mapped IPv6 address "{text}" is not allowed')
    return Network(interface)


def _contains_ip(network: Network, address: Any) -> bool:
    found = to_address(address) if isinstance(address, str) else address
    return found.address in network.interface.network


def _contains_network(network: Network, other: Any) -> bool:
    inner: Any = (to_network(other) if isinstance(other, str) else other).interface.network
    outer: Any = network.interface.network
    return bool(inner.version == outer.version and inner.subnet_of(outer))


def _global_unicast(ip: Address) -> bool:
    a = ip.address
    broadcast = a.version == 4 and int(a) == 0xFFFFFFFF
    return not (a.is_unspecified or a.is_loopback or a.is_multicast or a.is_link_local or broadcast)


def _link_local_multicast(ip: Address) -> bool:
    block = "224.0.0.0/24" if ip.address.version == 4 else "ff02::/16"
    return ip.address in ipaddress.ip_network(block)


def _masked(network: Network) -> Network:
    return Network(ipaddress.ip_interface(network.interface.network.with_prefixlen))


def _addresses(table: Functions) -> None:
    ip, cidr = Address.TYPE.name, Network.TYPE.name
    declare(table, f"ip(string) -> {ip}", to_address)
    declare(table, "isIP(string) -> bool", _attempt(to_address))
    declare(table, "ip.isCanonical(string) -> bool", lambda s: str(to_address(s).address) == s)
    _member(table, ip, "family() -> int", lambda a: a.address.version)
    _member(table, ip, "isUnspecified() -> bool", lambda a: a.address.is_unspecified)
    _member(table, ip, "isLoopback() -> bool", lambda a: a.address.is_loopback)
    _member(table, ip, "isLinkLocalMulticast() -> bool", _link_local_multicast)
    _member(table, ip, "isLinkLocalUnicast() -> bool", lambda a: a.address.is_link_local)
    _member(table, ip, "isGlobalUnicast() -> bool", _global_unicast)
    declare(table, f"string({ip}) -> string", lambda a: str(a.address))
    declare(table, f"cidr(string) -> {cidr}", to_network)
    declare(table, "isCIDR(string) -> bool", _attempt(to_network))
    _member(table, cidr, "containsIP(string) -> bool", _contains_ip)
    _member(table, cidr, f"containsIP({ip}) -> bool", _contains_ip)
    _member(table, cidr, "containsCIDR(string) -> bool", _contains_network)
    _member(table, cidr, f"containsCIDR({cidr}) -> bool", _contains_network)
    _member(table, cidr, f"ip() -> {ip}", lambda n: Address(n.interface.ip))
    _member(table, cidr, "prefixLength() -> int", lambda n: n.interface.network.prefixlen)
    _member(table, cidr, f"masked() -> {cidr}", _masked)
    declare(table, f"string({cidr}) -> string", lambda n: n.interface.with_prefixlen)


def _member(table: Functions, kind: str, rest: str, implementation: Callable[..., Any]) -> None:
    declare(table, f"{kind}.{rest}", implementation)


# -- formats ----------------------------------------------------------------------------------------------------------


class Format(Opaque):
    __slots__ = ("check", "name")
    TYPE = opaque("kubernetes.NamedFormat")

    def __init__(self, name: str, check: Callable[[str], list[str]]) -> None:
        self.name, self.check = name, check

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Format) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)


def _unless(check: Callable[[str], bool], problem: str) -> Callable[[str], list[str]]:
    return lambda text: [] if check(text) else [problem]


def _uri(text: str) -> list[str]:
    try:
        _split_url(text)
    except EvaluationError as error:
        return [str(error).removeprefix("URL parse error during conversion from string: ")]
    return []


def _base64(text: str) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


def _date(text: str) -> bool:
    return _attempt(parse_timestamp)(f"{text}T00:00:00Z")


_UUID = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}", re.IGNORECASE)
FORMATS: dict[str, Format] = {
    f.name[0].lower() + f.name[1:] if not f.name.startswith("DNS") else f"dns{f.name[3:]}": f
    for f in (
        Format("DNS1123Label", names.dns_label),
        Format("DNS1123Subdomain", names.dns_subdomain),
        Format("DNS1035Label", names.dns_1035_label),
        Format("QualifiedName", names.qualified_name),
        Format("DNS1123LabelPrefix", lambda s: names.dns_label(s, prefix=True)),
        Format("DNS1123SubdomainPrefix", lambda s: names.dns_subdomain(s, prefix=True)),
        Format("DNS1035LabelPrefix", lambda s: names.dns_1035_label(s, prefix=True)),
        Format("LabelValue", names.label_value),
        Format("uuid", _unless(lambda s: _UUID.fullmatch(s) is not None, "does not match the UUID format")),
        Format("byte", _unless(_base64, "invalid base64")),
        Format("date", _unless(_date, "invalid date")),
        Format("datetime", _unless(_attempt(parse_timestamp), "invalid datetime")),
    )
} | {"uri": Format("URI", _uri)}


def _validate(format_: Format, text: str) -> Optional:
    problems = format_.check(text)
    return Optional(problems) if problems else NONE


def _formats(table: Functions) -> None:
    kind = Format.TYPE.name
    for name, value in FORMATS.items():
        declare(table, f"format.{name}() -> {kind}", lambda value=value: value)
    declare(table, f"format.named(string) -> optional<{kind}>",
            lambda name: Optional(FORMATS[name]) if name in FORMATS else NONE)  # fmt: skip
    declare(table, f"{kind}.validate(string) -> optional<list<string>>", _validate)


# -- semantic versions ------------------------------------------------------------------------------------------------

_SEMVER = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-((?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)"
    r"(?:\.(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*))?(?:\+[0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*)?"
)


class Semver(Opaque):
    __slots__ = ("key", "numbers")
    TYPE = opaque("kubernetes.Semver")

    def __init__(self, numbers: tuple[int, int, int], pre: str) -> None:
        self.numbers = numbers
        # Without a pre-release comes after all with one; numbers come before words.
        identifiers = [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in pre.split(".")] if pre else []
        self.key = (*numbers, not pre, identifiers)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Semver) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.numbers)


def to_semver(text: str, normalize: bool = False) -> Semver:
    if normalize:
        core, mark, rest = re.fullmatch(r"v?([^-+]*)([-+]?)(.*)", text.strip(), re.DOTALL).groups()  # type: ignore[union-attr]
        parts = [p.lstrip("0") or "0" if p.isdecimal() else p for p in core.split(".")]
        text = ".".join([*parts, *["0"] * (3 - len(parts))]) + mark + rest
    match = _SEMVER.fullmatch(text)
    if match is None:
        what = "Version string empty" if not text else "No Major.Minor.Patch elements found"
        if text.count(".") >= 2:
            what = f"Invalid character(s) found in version {quote(text)}"
        raise EvaluationError(what)
    return Semver((int(match[1]), int(match[2]), int(match[3])), match[4] or "")


def quote(text: str) -> str:
    return f'"{text}"'


def _semvers(table: Functions) -> None:
    kind = Semver.TYPE.name
    declare(table, f"semver(string) -> {kind}\nsemver(string, bool) -> {kind}", to_semver)
    declare(table, "isSemver(string) -> bool\nisSemver(string, bool) -> bool", _attempt(to_semver))
    declare(table, f"{kind}.isGreaterThan({kind}) -> bool", lambda a, b: a.key > b.key)
    declare(table, f"{kind}.isLessThan({kind}) -> bool", lambda a, b: a.key < b.key)
    declare(table, f"{kind}.compareTo({kind}) -> int", lambda a, b: _compare(a.key, b.key))
    for position, name in enumerate(("major", "minor", "patch")):
        declare(table, f"{kind}.{name}() -> int", lambda v, position=position: v.numbers[position])


# -- authorizer -------------------------------------------------------------------------------------------------------


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


def _authorizers(table: Functions) -> None:
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


# -- all --------------------------------------------------------------------------------------------------------------


def kubernetes() -> Functions:
    """CEL's own functions and Kubernetes'."""
    table: Functions = {}
    for name, function in STANDARD.items():
        table[name] = copy = Function(name)
        copy.overloads, copy.total = list(function.overloads), function.total
    _lists(table)
    declare(table, "string.find(string) -> string", find)
    declare(table, "string.findAll(string) -> list<string>\nstring.findAll(string, int) -> list<string>", find_all)
    for part in (_urls, _quantities, _addresses, _formats, _semvers, _authorizers):
        part(table)
    return table


FUNCTIONS = kubernetes()
#: Mutations can escape names for the paths of their patches.
MUTATION_FUNCTIONS = dict(FUNCTIONS)
declare(
    MUTATION_FUNCTIONS,
    "jsonpatch.escapeKey(string) -> string",
    lambda text: text.replace("~", "~0").replace("/", "~1"),
)
