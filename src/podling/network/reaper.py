"""Deleting links together: the kernel waits some 20 ms for its readers at each deletion, and just as long for many."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from podling.network.rtnetlink import Netlink


class LinkReaper:
    """Deletes links of the namespace at `netns`. Those that are asked for while it is at it go in the next round."""

    def __init__(self, netns: str) -> None:
        self._netns = netns
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="links")
        self._netlink: Netlink | None = None
        self._doomed: dict[str, None] = {}

    async def delete(self, name: str) -> None:
        """Return when the link is gone; one that is not there is no error."""
        self._doomed[name] = None
        await asyncio.get_running_loop().run_in_executor(self._worker, self._round, name)

    def _round(self, name: str) -> None:
        if name not in self._doomed:
            return  # it went with an earlier one
        if self._netlink is None:
            self._netlink = Netlink(self._netns)
        names = list(self._doomed)
        self._netlink.delete_links(names)
        for done in names:
            self._doomed.pop(done, None)

    def close(self) -> None:
        self._worker.shutdown()
        if self._netlink is not None:
            self._netlink.close()
            self._netlink = None
