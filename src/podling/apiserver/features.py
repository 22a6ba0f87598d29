"""Feature gates: what of Kubernetes' optional features this server has, under their upstream names and defaults.

Only gates that change what podling does are known; a name that upstream knows and podling does not is refused, since
switching it would be a promise that nobody keeps.
"""

from __future__ import annotations

from collections.abc import Mapping

CBOR = "CBORServingAndStorage"

#: Each with its default.
GATES = {
    # Alpha: CBOR bodies and answers (KEP-4222).
    CBOR: False,
}
#: How far each has come upstream.
STAGES = {CBOR: "ALPHA"}


class GateError(ValueError):
    """A gate that does not exist, or a value that it can't have, in upstream's words."""


def parse(text: str) -> dict[str, bool]:
    """`A=true,B=false`. Raises GateError."""
    found = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = (part.strip() for part in item.partition("="))
        if not equals:
            raise GateError(f"missing bool value for {name}")
        if name not in GATES:
            raise GateError(f"unrecognized feature gate: {name}")
        if value not in _BOOLEANS:
            raise GateError(
                f'invalid value of {name}={value}, err: strconv.ParseBool: parsing "{value}": invalid syntax'
            )
        found[name] = _BOOLEANS[value]
    return found


_BOOLEANS = {
    **dict.fromkeys(("1", "t", "T", "true", "TRUE", "True"), True),
    **dict.fromkeys(("0", "f", "F", "false", "FALSE", "False"), False),
}


def enabled(gates: Mapping[str, bool], name: str) -> bool:
    """Whether a feature is on."""
    return gates.get(name, GATES[name])
