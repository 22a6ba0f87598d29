"""What turns values into stored bytes and back, and the choice among several by prefix (pkg/storage/value)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from podling.errors import PodlingError

#: What everything that is encrypted begins with; JSON begins with a brace.
ENCRYPTED = b"k8s:enc:"


class TransformError(PodlingError):
    """A value can't be read, or not be written, by these keys."""


class Opened(NamedTuple):
    """A value, and the label of what had written it."""

    value: bytes
    label: str


class Transformer(Protocol):
    """`context` is authenticated with the value where that is possible: the key under which it is stored."""

    @property
    def label(self) -> str:
        """What `seal` writes with: another key has another label. It says nothing of the key itself."""

    @property
    def labels(self) -> frozenset[str]:
        """The labels of all that `open` can read, as far as they are known beforehand."""

    async def open(self, data: bytes, context: bytes) -> Opened:
        """Raises TransformError."""

    def seal(self, value: bytes, context: bytes) -> bytes:
        """Raises TransformError."""


class Prefixed(NamedTuple):
    prefix: bytes
    transformer: Transformer


class Choice:
    """Reads by whichever transformers have the value's prefix, and writes by the first."""

    def __init__(self, choices: Sequence[Prefixed], unknown: str) -> None:
        """`unknown` is said of a value with none of the prefixes."""
        self._choices = choices
        self._unknown = unknown

    @property
    def label(self) -> str:
        return self._choices[0].transformer.label

    @property
    def labels(self) -> frozenset[str]:
        return frozenset[str]().union(*(c.transformer.labels for c in self._choices))

    async def open(self, data: bytes, context: bytes) -> Opened:
        failures = []
        for prefix, transformer in self._choices:
            if not data.startswith(prefix):
                continue
            try:
                return await transformer.open(data[len(prefix) :], context)
            except TransformError as error:
                # The same prefix may stand for several keys; and nothing encrypted is plain.
                if prefix and str(error) not in failures:
                    failures.append(str(error))
        if failures:
            raise TransformError(failures[0] if len(failures) == 1 else f"[{', '.join(failures)}]")
        raise TransformError(self._unknown)

    def seal(self, value: bytes, context: bytes) -> bytes:
        prefix, transformer = self._choices[0]
        return prefix + transformer.seal(value, context)
