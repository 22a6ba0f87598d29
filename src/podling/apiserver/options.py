"""What an administrator may set of the API server: kube-apiserver's own flags, under their own names.

`podling up --kube-apiserver-arg NAME=VALUE` gives one; they are kept in `cluster.json`. A flag becomes a field here
(dashes are underscores), its type says how its value is read, its default is upstream's.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from podling.api import times
from podling.errors import PodlingError


class OptionError(PodlingError):
    """A flag that does not exist, or a value that it can't have."""


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Files are absolute paths on the machine of the control plane; an empty path leaves the feature off."""

    #: Admission plugins beside the default ones, or without some of them.
    enable_admission_plugins: list[str] = []
    disable_admission_plugins: list[str] = []
    #: How long an event stays after its last write, in seconds; 0 keeps it for ever. Written as a duration: `1h0m0s`.
    event_ttl: float = 3600.0


def parse(arguments: Iterable[str], base: Options | None = None) -> Options:
    """`NAME=VALUE` words, with or without leading dashes, over `base`. Raises OptionError with what would be right."""
    known = {f.name.replace("_", "-"): f for f in msgspec.structs.fields(Options)}
    found = {}
    for argument in arguments:
        name, equals, text = argument.removeprefix("--").partition("=")
        field = known.get(name)
        if field is None:
            raise OptionError(f"--kube-apiserver-arg {argument}: no such flag; known are {', '.join(sorted(known))}")
        if not equals:
            raise OptionError(f"--kube-apiserver-arg {argument}: write {name}=VALUE")
        found[field.name] = _value(field.type, name, text)
    return msgspec.structs.replace(base or Options(), **found)


def _value(type_: object, name: str, text: str) -> object:
    if type_ == list[str]:
        return [part for part in (p.strip() for p in text.split(",")) if part]
    if type_ is bool:
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
        raise OptionError(f"--kube-apiserver-arg {name}={text}: write true or false")
    if type_ is int:
        if text.isdecimal():
            return int(text)
        raise OptionError(f"--kube-apiserver-arg {name}={text}: write a whole number that is not negative")
    if type_ is float:
        try:
            return times.parse_duration(text) / 1e9
        except ValueError as error:
            raise OptionError(f"--kube-apiserver-arg {name}={text}: {error}; write 1h, 5m30s or 250ms") from None
    return text
