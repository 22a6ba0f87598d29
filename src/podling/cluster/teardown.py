"""Takes away what a real cluster left in the kernel: containers, mounts, namespaces, links, routes, tables, cgroups.

It works from the cluster's configuration and what lies in its directories, so it also cleans up after a crash.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
from pathlib import Path

from podling import log
from podling.cluster import networking
from podling.cluster.config import ClusterConfig, Layout

_log = log.get(__name__)

_MNT_DETACH = 2


def tear_down(config: ClusterConfig, paths: Layout) -> None:
    """Safe to repeat. Data and images stay."""
    asyncio.run(_tear_down(config, paths))
    unmount_below(paths.data)
    unmount_below(paths.run)


async def _tear_down(config: ClusterConfig, paths: Layout) -> None:
    from podling.cluster.node import open_images
    from podling.network.bridge import BridgeNetwork
    from podling.network.node_network import NodeNetwork
    from podling.proxy.syncer import remove_table
    from podling.runtime import teardown as runtime

    images = open_images(config, paths)
    try:
        for name in config.node_names:
            await runtime.teardown(paths.node(name) / "runtime", paths.node_run(name), images)
    finally:
        await images.close()
    if config.nodes == 1:
        # The ranges do not matter here: links, routes and rules go by their names.
        await BridgeNetwork(networking.pod_network(config, paths, 0, (config.pod_cidr,))).teardown()
        remove_table(f"{config.short_id}-services", "")
    # The namespaces of several nodes take their links, routes and tables with them.
    await NodeNetwork(networking.node_network(config)).teardown_all()


def unmount_below(directory: Path) -> None:
    """Unmount everything at or below the directory, the deepest first."""
    libc = ctypes.CDLL(None, use_errno=True)
    prefix = str(directory)
    points = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = line.split()[4].encode().decode("unicode_escape")
        if point == prefix or point.startswith(prefix + "/"):
            points.append(point)
    for point in reversed(points):
        if libc.umount2(os.fsencode(point), _MNT_DETACH):
            _log.warning("can't unmount %s: %s", point, os.strerror(ctypes.get_errno()))
