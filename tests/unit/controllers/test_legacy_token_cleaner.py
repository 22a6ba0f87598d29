"""Secrets with tokens of old: marked invalid after a period without use, removed after another."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from controllers.cluster import Cluster
from controllers.test_namespaces import in_cluster
from controllers.test_tokens import secret
from podling import clock
from podling.api import core_v1
from podling.api.meta_v1 import ObjectMeta
from podling.api.struct import clone
from podling.controllers.base import Config
from podling.controllers.legacy_token_cleaner import INVALID_SINCE, LAST_USED, TRACKING, LegacyTokenCleanerController

DAY = 86400.0
PERIOD = 10


def today(offset: int = 0) -> str:
    return (clock.now() + timedelta(days=offset)).strftime("%Y-%m-%d")


async def prepare(cluster: Cluster, *, listed: bool = True, since: str | None = None, **labels: str) -> None:
    """The secret `s` of an account that lists it, tracked since long ago."""
    data = {"since": since or "2000-01-01"}
    await cluster.client.create(
        core_v1.ConfigMap(metadata=ObjectMeta(name=TRACKING, namespace="kube-system"), data=data)
    )
    refs = [core_v1.ObjectReference(name="s")] if listed else None
    account = core_v1.ServiceAccount(metadata=ObjectMeta(name="bot", namespace="default"), secrets=refs)
    await cluster.client.create(account)
    made = secret("s", "bot")
    made.metadata.labels = labels or None
    await cluster.client.create(made)


async def labels(cluster: Cluster) -> dict[str, str] | None:
    """Of the secret; None if it is gone."""
    found = await cluster.list(core_v1.Secret)
    return dict(found[0].metadata.labels or {}) if found else None


def run(test: Any) -> None:
    config = Config(root_ca="CA", legacy_token_clean_up_period=PERIOD * DAY)
    in_cluster(test, LegacyTokenCleanerController, config=config, namespaces=("default", "kube-system"))


def test_an_unused_secret_is_marked_and_a_period_later_removed() -> None:
    async def main(cluster: Cluster) -> None:
        await prepare(cluster)
        await asyncio.sleep(PERIOD * DAY - 60)
        assert await labels(cluster) == {}
        await asyncio.sleep(120)
        assert await labels(cluster) == {INVALID_SINCE: today()}
        await asyncio.sleep(PERIOD * DAY - 120)
        assert await labels(cluster) is not None
        await asyncio.sleep(DAY + 240)
        assert await labels(cluster) is None

    run(main)


def test_a_use_puts_it_off() -> None:
    async def main(cluster: Cluster) -> None:
        await prepare(cluster)
        await asyncio.sleep(5 * DAY)
        used = clone(await cluster.get(core_v1.Secret, "s"))
        used.metadata.labels = {LAST_USED: today()}
        await cluster.client.update(used)
        await asyncio.sleep(PERIOD * DAY - 60)
        assert INVALID_SINCE not in (await labels(cluster) or {})
        await asyncio.sleep(DAY + 120)
        assert INVALID_SINCE in (await labels(cluster) or {})

    run(main)


@pytest.mark.parametrize("case", [{"listed": False}, {LAST_USED: "yesterday"}], ids=["by hand", "no date"])
def test_what_nobody_can_tell_about_stays(case: dict[str, Any]) -> None:
    async def main(cluster: Cluster) -> None:
        await prepare(cluster, **case)
        await asyncio.sleep(50 * DAY)
        found = await labels(cluster)
        assert found is not None and INVALID_SINCE not in found

    run(main)


def test_nothing_goes_before_uses_have_been_tracked_for_a_period() -> None:
    async def main(cluster: Cluster) -> None:
        await prepare(cluster, since=today(4))
        await asyncio.sleep((PERIOD + 4) * DAY - 60)
        assert await labels(cluster) == {}
        await asyncio.sleep(DAY + 120)
        assert INVALID_SINCE in (await labels(cluster) or {})

    run(main)


def test_a_secret_of_a_pod_stays_as_long_as_the_pod() -> None:
    async def main(cluster: Cluster) -> None:
        await prepare(cluster)
        pull = [core_v1.LocalObjectReference(name="s")]
        spec = core_v1.PodSpec(containers=[core_v1.Container(name="c", image="x")], image_pull_secrets=pull)
        await cluster.client.create(core_v1.Pod(metadata=ObjectMeta(name="p", namespace="default"), spec=spec))
        await asyncio.sleep(2 * PERIOD * DAY)
        assert await labels(cluster) == {}
        await cluster.client.delete(core_v1.Pod, "p", "default")
        await cluster.settle(1)
        assert await labels(cluster) == {INVALID_SINCE: today()}

    run(main)


def test_who_takes_the_mark_away_has_a_day_to_use_the_token() -> None:
    async def main(cluster: Cluster) -> None:
        await prepare(cluster)
        await asyncio.sleep(PERIOD * DAY + 60)
        allowed = clone(await cluster.get(core_v1.Secret, "s"))
        allowed.metadata.labels = None
        await cluster.client.update(allowed)
        await asyncio.sleep(DAY - 60)
        assert await labels(cluster) == {}
        await asyncio.sleep(120)
        assert await labels(cluster) == {INVALID_SINCE: today()}

    run(main)
