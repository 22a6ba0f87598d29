"""What a well-formed name is, per kind of name, and what is said of one that is not.

Every rule takes a value and gives the problems found, in upstream's words; no problems is an empty list.
"""

from __future__ import annotations

import ipaddress
import random
import re
from collections.abc import Callable

Rule = Callable[[str], list[str]]

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = _LABEL + r"(\." + _LABEL + ")*"
_UNDERSCORE_LABEL = "_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_UNDERSCORE_SUBDOMAIN = _UNDERSCORE_LABEL + r"(\." + _UNDERSCORE_LABEL + ")*"
_LABEL_1035 = "[a-z]([-a-z0-9]*[a-z0-9])?"
_KEY = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_VALUE = f"({_KEY})?"
_WILDCARD = r"\*\." + _SUBDOMAIN

_label = re.compile(_LABEL)
_subdomain = re.compile(_SUBDOMAIN)
_underscore_subdomain = re.compile(_UNDERSCORE_SUBDOMAIN)
_label_1035 = re.compile(_LABEL_1035)
_key = re.compile(_KEY)
_value = re.compile(_VALUE)
_wildcard = re.compile(_WILDCARD)

_KEY_PROBLEM = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
)
_SUBDOMAIN_PROBLEM = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', "
    "and must start and end with an alphanumeric character"
)
_EMPTY = "must be non-empty"


def too_long(length: int, unit: str = "characters") -> str:
    return f"must be no more than {length} {unit}"


def in_range(low: int, high: int) -> str:
    return f"must be between {low} and {high}, inclusive"


def pattern_problem(what: str, pattern: str, *examples: str) -> str:
    """`what`, with examples and the pattern that was used."""
    shown = " or ".join(f"'{example}', " for example in examples)
    used = f"regex used for validation is '{pattern}'"
    return f"{what} (e.g. {shown}{used})" if examples else f"{what} ({used})"


def dns_label(value: str, *, prefix: bool = False) -> list[str]:
    """RFC 1123 label; with `prefix`, of a generateName."""
    value = _mask(value) if prefix else value
    problems = [too_long(63)] if len(value) > 63 else []
    if not _label.fullmatch(value):
        if _subdomain.fullmatch(value):
            problems.append("must not contain dots")
        else:
            what = (
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', "
                "and must start and end with an alphanumeric character"
            )
            problems.append(pattern_problem(what, _LABEL, "my-name", "123-abc"))
    return problems


def dns_subdomain(value: str, *, prefix: bool = False) -> list[str]:
    """RFC 1123 subdomain; with `prefix`, of a generateName."""
    value = _mask(value) if prefix else value
    problems = [too_long(253)] if len(value) > 253 else []
    if not _subdomain.fullmatch(value):
        problems.append(pattern_problem(_SUBDOMAIN_PROBLEM, _SUBDOMAIN, "example.com"))
    return problems


def dns_subdomain_underscore(value: str) -> list[str]:
    """RFC 1123 subdomain that may have underscores (DNS search paths)."""
    problems = [too_long(253)] if len(value) > 253 else []
    if not _underscore_subdomain.fullmatch(value):
        what = (
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', "
            "and must start and end with an alphanumeric character"
        )
        problems.append(pattern_problem(what, _UNDERSCORE_SUBDOMAIN, "example.com"))
    return problems


def dns_1035_label(value: str, *, prefix: bool = False) -> list[str]:
    """RFC 1035 label (a Service's name); with `prefix`, of a generateName."""
    value = _mask(value) if prefix else value
    problems = [too_long(63)] if len(value) > 63 else []
    if not _label_1035.fullmatch(value):
        what = (
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', "
            "start with an alphabetic character, and end with an alphanumeric character"
        )
        problems.append(pattern_problem(what, _LABEL_1035, "my-name", "abc-123"))
    return problems


def wildcard_subdomain(value: str) -> list[str]:
    """`*.example.com` (RFC 1034 section 4.3.3)."""
    problems = [too_long(253)] if len(value) > 253 else []
    if not _wildcard.fullmatch(value):
        what = (
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, "
            "which must consist of lower case alphanumeric characters, '-' or '.' "
            "and end with an alphanumeric character"
        )
        problems.append(pattern_problem(what, _WILDCARD, "*.example.com"))
    return problems


def path_segment(value: str, *, prefix: bool = False) -> list[str]:
    """A name that can stand in a URL path (RBAC's names)."""
    if not prefix and value in (".", ".."):
        return [f"may not be '{value}'"]
    return [f"may not contain '{c}'" for c in ("/", "%") if c in value]


def qualified_name(value: str) -> list[str]:
    """A label or annotation key: `name` or `example.com/name`."""
    prefix, slash, name = value.rpartition("/")
    if "/" in prefix:
        return [
            f"a valid label key {pattern_problem(_KEY_PROBLEM, _KEY, 'MyName', 'my.name', '123-abc')}"
            " with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        ]
    problems: list[str] = []
    if slash and not prefix:
        problems.append(f"prefix part {_EMPTY}")
    elif slash:
        if len(prefix) > 253:
            problems.append(f"prefix part {too_long(253, 'bytes')}")
        if not _subdomain.fullmatch(prefix):
            problems.append(f"prefix part {pattern_problem(_SUBDOMAIN_PROBLEM, _SUBDOMAIN, 'example.com')}")
    if not name:
        problems.append(f"name part {_EMPTY}")
    elif len(name.encode()) > 63:
        problems.append(f"name part {too_long(63, 'bytes')}")
    if not _key.fullmatch(name):
        problems.append(f"name part {pattern_problem(_KEY_PROBLEM, _KEY, 'MyName', 'my.name', '123-abc')}")
    return problems


def label_value(value: str) -> list[str]:
    """A label's value."""
    problems = [too_long(63, "bytes")] if len(value.encode()) > 63 else []
    if not _value.fullmatch(value):
        what = f"a valid label must be an empty string or consist of {_KEY_PROBLEM.removeprefix('must consist of ')}"
        problems.append(pattern_problem(what, _VALUE, "MyValue", "my_value", "12345"))
    return problems


def c_identifier(value: str) -> list[str]:
    if re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", value):
        return []
    what = (
        "a valid C identifier must start with alphabetic character or '_', "
        "followed by a string of alphanumeric characters or '_'"
    )
    return [pattern_problem(what, "[A-Za-z_][A-Za-z0-9_]*", "my_name", "MY_NAME", "MyName")]


def env_var_name(value: str) -> list[str]:
    """Any printable ASCII but '='."""
    problems = [] if value else [f"environment variable name {_EMPTY}"]
    if any(not " " <= c <= "~" or c == "=" for c in value):
        problems.append(
            "a valid environment variable name must consist only of printable ASCII characters other than '='"
        )
    return problems


def config_map_key(value: str) -> list[str]:
    """A key of a ConfigMap or Secret."""
    problems = [too_long(253)] if len(value) > 253 else []
    if not re.fullmatch("[-._a-zA-Z0-9]+", value):
        what = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
        problems.append(pattern_problem(what, "[-._a-zA-Z0-9]+", "key.name", "KEY_NAME", "key-name"))
    if value in (".", ".."):
        problems.append(f"must not be '{value}'")
    elif value.startswith(".."):
        problems.append("must not start with '..'")
    return problems


def http_header_name(value: str) -> list[str]:
    if re.fullmatch("[-A-Za-z0-9]+", value):
        return []
    what = "a valid HTTP header must consist of alphanumeric characters or '-'"
    return [pattern_problem(what, "[-A-Za-z0-9]+", "X-Header-Name")]


def percent(value: str) -> list[str]:
    if re.fullmatch("[0-9]+%", value):
        return []
    what = "a valid percent string must be a numeric string followed by an ending '%'"
    return [pattern_problem(what, "[0-9]+%", "1%", "93%")]


def port_name(value: str) -> list[str]:
    """An IANA service name of at most 15 characters."""
    problems = [too_long(15)] if len(value) > 15 else []
    if not re.fullmatch("[-a-z0-9]+", value):
        problems.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not re.search("[a-z]", value):
        problems.append("must contain at least one letter (a-z)")
    if "--" in value:
        problems.append("must not contain consecutive hyphens")
    if value and "-" in (value[0], value[-1]):
        problems.append("must not begin or end with a hyphen")
    return problems


def port_number(value: int) -> list[str]:
    return [] if 1 <= value <= 65535 else [in_range(1, 65535)]


def user_id(value: int) -> list[str]:
    return [] if 0 <= value <= 2**31 - 1 else [in_range(0, 2**31 - 1)]


group_id = user_id

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _without_zeros(value: str) -> str:
    """`010.0.0.1` as `10.0.0.1`: what upstream's lenient parsers read."""
    return ".".join(p.lstrip("0") or "0" if p.isdecimal() else p for p in value.split(".")) if "." in value else value


def _address(value: str) -> Address | None:
    try:
        found = ipaddress.ip_address(value)
    except ValueError:
        return None
    return None if "%" in value else found


def ip(value: str) -> list[str]:
    """An IPv4 or IPv6 address, not necessarily canonical."""
    found = _address(value)
    if found is None:
        if _address(_without_zeros(value)) is not None:
            return ["must not have leading 0s"]
        return ["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"]
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        return ["must not be an IPv4-mapped IPv6 address"]
    return []


def canonical_ip(value: str) -> list[str]:
    """As `ip`, in the one canonical form."""
    problems = ip(value)
    if not problems and str(ipaddress.ip_address(value)) != value:
        problems.append(f'must be in canonical form ("{ipaddress.ip_address(value)}")')
    return problems


def cidr(value: str) -> list[str]:
    """A network such as `10.9.8.0/24`, not necessarily canonical."""
    host, slash, length = value.partition("/")
    address = _address(_without_zeros(host))
    limit = 32 if isinstance(address, ipaddress.IPv4Address) else 128
    if not slash or address is None or not re.fullmatch("[0-9]+", length) or int(length) > limit:
        return ["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"]
    if _address(host) is None or (len(length) > 1 and length[0] == "0"):
        return ["must not have leading 0s in IP or prefix length"]
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return ["must not have an IPv4-mapped IPv6 address"]
    if ipaddress.ip_network(value, strict=False).network_address != address:
        return ["must not have bits set beyond the prefix length"]
    return []


def canonical_cidr(value: str) -> list[str]:
    """As `cidr`, in the one canonical form."""
    problems = cidr(value)
    if not problems and str(ipaddress.ip_network(value)) != value:
        problems.append(f'must be in canonical form ("{ipaddress.ip_network(value)}")')
    return problems


#: Without vowels and without digits that look like letters, so that no bad words come out.
ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


def suffix(length: int = 5) -> str:
    """Random characters for a generated name."""
    return "".join(random.choices(ALPHABET, k=length))


def generate(base: str) -> str:
    """A name from metadata.generateName: `base`, cut to 58 characters, and five random ones."""
    return base[:58] + suffix()


def safe_encode(text: str) -> str:
    """`text`, usually a number, over the alphabet of generated names (pod-template-hash)."""
    return "".join(ALPHABET[ord(c) % len(ALPHABET)] for c in text)


def _mask(name: str) -> str:
    """A generateName's trailing dash as a character that a name may end with."""
    return f"{name[:-2]}a" if len(name) > 1 and name.endswith("-") else name
