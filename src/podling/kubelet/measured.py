"""The container runtime and the store of images, with what they are asked for counted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

from podling import clock
from podling.kubelet.measures import Measures

T = TypeVar("T")

#: What upstream's metrics call each of their verbs. Sessions (exec, attach, port forwarding) last as their users want.
RUNTIME = {
    "version": "version",
    "run_sandbox": "run_podsandbox",
    "stop_sandbox": "stop_podsandbox",
    "remove_sandbox": "remove_podsandbox",
    "sandbox_status": "podsandbox_status",
    "list_sandboxes": "list_podsandbox",
    "create_container": "create_container",
    "start_container": "start_container",
    "stop_container": "stop_container",
    "remove_container": "remove_container",
    "container_status": "container_status",
    "list_containers": "list_containers",
    "update_resources": "update_container",
    "update_sandbox_resources": "update_podsandbox_resources",
    "reopen_log": "reopen_container_log",
    "exec_sync": "exec_sync",
    "container_stats": "container_stats",
}
IMAGES = {
    "list": "list_images",
    "status": "image_status",
    "pull": "pull_image",
    "remove": "remove_image",
    "usage": "image_fs_info",
}


class _Measured:
    """Stands for `inner`; the verbs of `operations` are counted."""

    def __init__(self, inner: Any, operations: dict[str, str], measures: Measures) -> None:
        self._inner, self._operations, self._measures = inner, operations, measures

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        operation = self._operations.get(name)
        if operation is not None:
            # Found once: the next time it is an attribute of its own.
            found = self.__dict__[name] = self._counted(found, operation)
        return found

    def _counted(self, verb: Callable[..., Awaitable[Any]], operation: str) -> Callable[..., Awaitable[Any]]:
        async def measured(*arguments: Any, **more: Any) -> Any:
            began, good = clock.real_seconds(), False
            try:
                result = await verb(*arguments, **more)
                good = True
                return result
            finally:
                seconds = clock.real_seconds() - began
                self._measures.operated(operation, seconds, good=good)
                if operation == "run_podsandbox":
                    self._measures.sandbox(arguments[0].runtime_handler, seconds, good=good)

        return measured


def measured(inner: T, operations: dict[str, str], measures: Measures) -> T:
    """`inner`, with the verbs of `operations` counted."""
    return cast(T, _Measured(inner, operations, measures))
