"""The parameters of operations: their names, types, and what they mean."""

from __future__ import annotations

from typing import Any

#: Query parameters: name -> (type, description).
QUERY: dict[str, tuple[str, str]] = {
    "allowWatchBookmarks": (
        "boolean",
        'allowWatchBookmarks requests watch events with type "BOOKMARK", which tell how far the watch has come.',
    ),
    "command": ("string", "The command to execute, one argument a parameter. It is not run in a shell."),
    "container": ("string", "The container that is meant; not needed if the pod has one."),
    "continue": ("string", "The token of the next page, from the list before."),
    "dryRun": ("string", "All: everything happens but the storing."),
    "fieldManager": ("string", "The name of the actor that makes the change, for managed fields."),
    "fieldSelector": ("string", "Only objects whose fields match are meant."),
    "fieldValidation": (
        "string",
        "What becomes of unknown and duplicate fields. Ignore: they are dropped. Warn: they are dropped with a warning "
        "each. Strict: the request fails.",
    ),
    "follow": ("boolean", "Go on with what is written to the log from now on."),
    "force": ("boolean", "Take over fields of other managers in an apply request."),
    "gracePeriodSeconds": ("integer", "Seconds before the object is deleted; zero means at once."),
    "ignoreStoreReadErrorWithClusterBreakingPotential": ("boolean", "Delete an object that can't be read."),
    "insecureSkipTLSVerifyBackend": ("boolean", "Take the log from a node whose serving certificate is not verified."),
    "labelSelector": ("string", "Only objects whose labels match are meant."),
    "limit": ("integer", "How many objects a page has at most."),
    "limitBytes": ("integer", "How many bytes of the log are returned at most."),
    "orphanDependents": ("boolean", "Deprecated: use propagationPolicy."),
    "path": ("string", "The path that is asked for at the other end."),
    "ports": ("integer", "The ports to forward, if the connection is a WebSocket."),
    "pretty": ("string", "If 'true', the output is formatted for people."),
    "previous": ("boolean", "The log of the container before the last restart."),
    "propagationPolicy": ("string", "What becomes of dependents: Orphan, Background or Foreground."),
    "resourceVersion": ("string", "The version that a read may or must have."),
    "resourceVersionMatch": ("string", "How resourceVersion is meant: Exact or NotOlderThan."),
    "sendInitialEvents": ("boolean", "Begin a watch with what there is, and a bookmark at its end."),
    "sinceSeconds": ("integer", "Only what was written in the last seconds."),
    "stderr": ("boolean", "Pass on what the command writes to its standard error."),
    "stdin": ("boolean", "Pass on what is sent to the command's standard input."),
    "stdout": ("boolean", "Pass on what the command writes to its standard output."),
    "stream": ("string", "Which of the container's streams is returned: All, Stdout or Stderr."),
    "tailLines": ("integer", "How many lines from the end of the log are returned."),
    "timeoutSeconds": ("integer", "Seconds after which a list or watch ends."),
    "timestamps": ("boolean", "Begin each line of the log with the time when it was written."),
    "tty": ("boolean", "The command has a terminal."),
    "watch": ("boolean", "Watch for changes instead of returning a list."),
}
LIST = (
    "allowWatchBookmarks", "continue", "fieldSelector", "labelSelector", "limit", "resourceVersion",
    "resourceVersionMatch", "sendInitialEvents", "timeoutSeconds", "watch",
)  # fmt: skip
WRITE = ("dryRun", "fieldManager", "fieldValidation")
PATCH = (*WRITE, "force")
DELETE = (
    "dryRun", "gracePeriodSeconds", "ignoreStoreReadErrorWithClusterBreakingPotential", "orphanDependents",
    "propagationPolicy",
)  # fmt: skip
DELETE_COLLECTION = tuple(sorted({*DELETE, *LIST} - {"allowWatchBookmarks", "watch"}))
#: Of subresources that are connected to, or answer with text.
CONNECT: dict[tuple[str, str], tuple[str, ...]] = {
    ("pods", "attach"): ("container", "stderr", "stdin", "stdout", "tty"),
    ("pods", "exec"): ("command", "container", "stderr", "stdin", "stdout", "tty"),
    ("pods", "portforward"): ("ports",),
    ("pods", "log"): (
        "container", "follow", "insecureSkipTLSVerifyBackend", "limitBytes", "previous", "sinceSeconds", "stream",
        "tailLines", "timestamps",
    ),
    ("pods", "proxy"): ("path",),
    ("services", "proxy"): ("path",),
    ("nodes", "proxy"): ("path",),
}  # fmt: skip


def query(name: str, flavour: int) -> dict[str, Any]:
    """A parameter behind the path."""
    kind, text = QUERY[name]
    return _shaped({"name": name, "in": "query", "description": text}, kind, flavour)


def in_path(name: str, kind: str, flavour: int) -> dict[str, Any]:
    """A parameter within the path, of an operation on `kind`."""
    text = {
        "namespace": "object name and auth scope, such as for teams and projects",
        "path": "path to the resource",
    }.get(name, f"name of the {kind}")
    return _shaped({"name": name, "in": "path", "required": True, "description": text}, "string", flavour)


def _shaped(parameter: dict[str, Any], kind: str, flavour: int) -> dict[str, Any]:
    shape = {"type": kind, "uniqueItems": True}
    return {**parameter, **shape} if flavour == 2 else {**parameter, "schema": shape}
