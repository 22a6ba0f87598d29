"""Keeps a node's packet filter in step with NetworkPolicies, pods and namespaces.

Without a policy it costs nothing: pods are followed only from the first policy on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from podling.api import core_v1, networking_v1
from podling.client.informer import Informers, key_of
from podling.proxy.config import ProxyConfig
from podling.proxy.policy import Policies, facts, static_rules
from podling.proxy.ruleset import Fragment, Ruleset
from podling.proxy.syncer import Syncer, remove_table


class PolicyEnforcer:
    """`start` returns when the policies that are known are in force; `close` leaves them in force."""

    def __init__(self, informers: Informers, config: ProxyConfig) -> None:
        self.config = config
        self.table = f"{config.table}-policies"
        self._informers = informers
        self._known = informers.of(networking_v1.NetworkPolicy)
        self._policies = Policies(config.families)
        self._ruleset: Ruleset[Fragment] = Ruleset(self.table, static_rules(config.families))
        self._syncer = Syncer(
            "policies",
            self._ruleset,
            netns=config.netns,
            interval=config.interval,
            prepare=self._prepare,
            finished=self._finished,
        )
        self._remove: list[Callable[[], None]] = []
        self._starting: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Wait for the informers (started by their owner), and follow changes from then on."""
        self._remove.append(
            self._known.add_handler(
                on_add=self._put, on_update=lambda _, new: self._put(new), on_delete=self._delete_policy
            )
        )
        await self._known.wait_synced()
        if self._starting is not None:
            await self._starting

    async def close(self) -> None:
        """Stop following; policies stay in force as they are."""
        for remove in self._remove:
            remove()
        self._remove = []
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)
        await self._syncer.close()

    async def teardown(self) -> None:
        """Stop, and remove the rules."""
        await self.close()
        await asyncio.to_thread(remove_table, self.table, self.config.netns)

    @property
    def pending(self) -> bool:
        """Whether a change that is known here is not in the kernel yet."""
        return self._syncer.pending or (self._starting is not None and not self._starting.done())

    def _put(self, policy: networking_v1.NetworkPolicy) -> None:
        self._policies.put_policy(policy)
        if self._starting is None:
            self._starting = asyncio.create_task(self._follow(), name="policies")
        else:
            self._syncer.mark()

    def _delete_policy(self, policy: networking_v1.NetworkPolicy) -> None:
        self._policies.remove_policy(key_of(policy))
        self._syncer.mark()

    async def _follow(self) -> None:
        """With the first policy, learn of pods and namespaces, and begin to enforce."""
        pods, namespaces = self._informers.of(core_v1.Pod), self._informers.of(core_v1.Namespace)
        self._remove += [
            namespaces.add_handler(
                on_add=self._put_namespace,
                on_update=lambda _, new: self._put_namespace(new),
                on_delete=self._delete_namespace,
            ),
            pods.add_handler(
                on_add=self._put_pod,
                on_update=lambda _, new: self._put_pod(new),
                on_delete=self._delete_pod,
            ),
        ]
        await namespaces.wait_synced()
        await pods.wait_synced()
        await self._syncer.start()

    def _put_namespace(self, namespace: core_v1.Namespace) -> None:
        self._policies.put_namespace(namespace.metadata.name or "", dict(namespace.metadata.labels or {}))
        self._notice()

    def _put_pod(self, pod: core_v1.Pod) -> None:
        self._policies.put_pod(key_of(pod), facts(pod, self.config.node_name))
        self._notice()

    def _delete_namespace(self, namespace: core_v1.Namespace) -> None:
        self._policies.put_namespace(namespace.metadata.name or "", None)
        self._notice()

    def _delete_pod(self, pod: core_v1.Pod) -> None:
        self._policies.put_pod(key_of(pod), None)
        self._notice()

    def _notice(self) -> None:
        """Most changes of pods are none to policies: only what is changed wakes the kernel's side."""
        if self._policies.changed:
            self._syncer.mark()

    def _prepare(self) -> None:
        for key, fragment in self._policies.take().items():
            self._ruleset.update(key, fragment)

    async def _finished(self) -> None:
        return
