"""What the runtime has of one pod, as one value: what decisions are made from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from podling.runtime.base import ContainerState, ContainerStatus, SandboxState, SandboxStatus


class PodRuntimeStatus(msgspec.Struct, frozen=True):
    """Sandboxes and containers, the newest first; `messages` are termination messages by container id."""

    sandboxes: tuple[SandboxStatus, ...] = ()
    containers: tuple[ContainerStatus, ...] = ()
    messages: Mapping[str, str] = {}

    @property
    def ips(self) -> tuple[str, ...]:
        """The addresses of the current sandbox."""
        if self.sandboxes and self.sandboxes[0].state is SandboxState.READY:
            return self.sandboxes[0].ips
        return ()

    def find(self, name: str) -> ContainerStatus | None:
        """The newest container of that name."""
        return next((c for c in self.containers if c.name == name), None)

    def find_id(self, container_id: str) -> ContainerStatus | None:
        return next((c for c in self.containers if c.id == container_id), None)

    def active(self, name: str) -> ContainerStatus | None:
        """The newest of that name in the current sandbox."""
        if not self.sandboxes:
            return None
        current = self.sandboxes[0].id
        return next((c for c in self.containers if c.name == name and c.sandbox_id == current), None)

    @property
    def running(self) -> list[ContainerStatus]:
        return [c for c in self.containers if c.state is ContainerState.RUNNING]


def collect(
    sandboxes: Iterable[SandboxStatus], containers: Iterable[ContainerStatus], messages: Mapping[str, str] | None = None
) -> PodRuntimeStatus:
    """In the order that decisions expect."""
    return PodRuntimeStatus(
        tuple(sorted(sandboxes, key=lambda s: (s.created_at, s.attempt), reverse=True)),
        tuple(sorted(containers, key=lambda c: (c.created_at, c.attempt), reverse=True)),
        messages or {},
    )
