"""Removing all that a runtime made, also after a crash: the end of a cluster that is thrown away."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from podling.images.base import ImageService
from podling.network.base import SandboxNetwork
from podling.runtime import cgroups, node, processes, sandbox
from podling.runtime.records import Layout


async def teardown(
    state_dir: Path, run_dir: Path, images: ImageService | None = None, network: SandboxNetwork | None = None
) -> None:
    """Remove all that a runtime on these directories made, whatever state a crash left it in.

    Kills the containers, takes sandboxes off the network, and removes cgroups, mounts, pins and both directories.
    `images` and `network` may be left out if what they keep is removed otherwise.
    """
    layout, groups = Layout(Path(state_dir), Path(run_dir)), cgroups.detect()
    containers, pods = layout.load_containers(), layout.load_sandboxes()
    for path in dict.fromkeys([record.cgroup for record in containers] + [record.cgroup for record in pods]):
        await groups.kill(path)
    for container in containers:
        # conmon ends by itself now that its container has; it still writes into the directories.
        await _gone(container.conmon_pid, container.conmon_started)
        root = layout.rootfs(container.id)
        if images is not None:
            await images.unmount(container.id, str(root))
        await groups.remove(container.cgroup)
    for pod in pods:
        if network is not None and not pod.config.host_network:
            await network.detach(pod.id, sandbox.netns(layout, pod))
        sandbox.release(layout, pod)
        await groups.remove(pod.cgroup)
    _remove_if_empty(groups, layout.parents())
    if (layout.run_dir / "tuned").exists():
        cgroups.favor_dynamic_changes(False)
    for directory in (layout.run_dir, layout.state_dir):
        node.remove_tree(directory)


async def _gone(pid: int, started: int) -> None:
    try:
        pidfd = os.pidfd_open(pid) if pid else -1
    except OSError:
        return
    if pidfd < 0:
        return
    try:
        if processes.start_time(pid) == started:
            async with asyncio.timeout(5):
                await processes.exited(pidfd)
    except TimeoutError:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    finally:
        os.close(pidfd)


def _remove_if_empty(groups: cgroups.Cgroups, paths: list[str]) -> None:
    """`/kubepods/burstable` and the like, unless another node agent on this machine has pods in them."""
    for path in paths:
        for directory in groups.directories(path):
            try:
                directory.rmdir()
            except OSError:
                continue
