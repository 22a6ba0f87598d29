"""`podling status`: whether the cluster runs, its nodes and its processes."""

from __future__ import annotations

import argparse
import asyncio

from podling.api import core_v1, errors
from podling.client import kubeconfig
from podling.client.client import ApiClient
from podling.client.http import HttpTransport
from podling.cluster import lifecycle, supervisor
from podling.cluster.config import Layout


def configure(parser: argparse.ArgumentParser) -> None:
    pass


def run(arguments: argparse.Namespace) -> int:
    """0 if it runs and all nodes are ready, 3 if not (as service managers have it)."""
    paths = lifecycle.find(arguments.data_dir)
    config = lifecycle.require(paths)
    pid = supervisor.running_pid(paths)
    kind = "simulated " if config.simulate else ""
    if not pid:
        print(f"The {kind}cluster {config.name} is down; its data is in {paths.data}. `podling up` starts it.")
        return 3
    print(f"The {kind}cluster {config.name} runs as process {pid}, with its API at {config.server}.")
    try:
        nodes = asyncio.run(_nodes(paths))
    except (OSError, errors.StatusError) as error:
        print(f"Its API server does not answer: {error}. See `podling logs control-plane`.")
        return 3
    ready = sum(state == "Ready" for _, state in nodes)
    print(f"{ready} of {len(nodes)} nodes ready")
    for name, state in nodes:
        print(f"  {name:30} {state}")
    return 0 if ready == len(nodes) else 3


async def _nodes(paths: Layout) -> list[tuple[str, str]]:
    client = ApiClient(HttpTransport(kubeconfig.load(str(paths.kubeconfig)), timeout=10), user=None)
    try:
        listed = await client.list(core_v1.Node)
    finally:
        await client.close()
    return sorted((node.metadata.name or "", _state(node)) for node in listed.items)


def _state(node: core_v1.Node) -> str:
    condition = next((c for c in node.status.conditions or () if c.type == "Ready"), None)
    if condition is None:
        return "Unknown"
    if condition.status == "True":
        return "Ready"
    return f"NotReady: {condition.message or condition.reason or ''}"
