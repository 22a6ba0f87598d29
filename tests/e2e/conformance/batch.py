"""Many pods at once: a module declares them beside its tests, a fixture creates them all, and tests wait for theirs."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from tests.e2e.conformance.client import Namespace, Object


class Batch:
    """The pods of a module."""

    def __init__(self) -> None:
        self._pods: list[Object] = []

    def add(self, *pods: Object) -> None:
        self._pods += pods

    def run(self, space: Namespace) -> Iterator[Namespace]:
        """Create the pods of all tests of the module in the namespace."""
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda pod: space.create("pods", pod), self._pods))
        yield space
