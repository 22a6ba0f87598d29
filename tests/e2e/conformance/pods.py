"""The pods that the conformance programme makes, as dictionaries."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]

AGNHOST = "localhost/agnhost:1"
BUSYBOX = "localhost/busybox:1"
#: Busybox with the entry point `echo entry` and the arguments `from the image`.
ENTRY = "localhost/entry:1"
#: Busybox that runs as www-data, 33.
AS_USER = "localhost/user:1"


def agnhost(*args: str, name: str = "c", **fields: Any) -> Object:
    return {"name": name, "image": AGNHOST, "args": list(args), **fields}


def shell(script: str, *, name: str = "c", **fields: Any) -> Object:
    return {"name": name, "image": BUSYBOX, "command": ["sh", "-c", script], **fields}


def pod(name: str, *containers: Object, labels: Any = None, annotations: Any = None, **spec: Any) -> Object:
    """A pod that is gone soon after its deletion."""
    metadata = {"name": name, "labels": labels or {"app": name}, "annotations": annotations or {}}
    return {"metadata": metadata, "spec": {"terminationGracePeriodSeconds": 1, "containers": [*containers], **spec}}


def once(name: str, script: str, *, container: Any = None, **spec: Any) -> Object:
    """A pod that runs a script to its end."""
    return pod(name, shell(script, **(container or {})), restartPolicy="Never", **spec)


def netexec(name: str, *args: str, ports: Any = None, node: str = "", **spec: Any) -> Object:
    """A pod with servers at TCP 8080 and UDP 8081 (or as `args` say) that tell its name, Ready once they answer."""
    number = next((int(a.partition("=")[2]) for a in args if a.startswith("--http-port=")), 8080)
    probe = {"httpGet": {"path": "/healthz", "port": number}, "periodSeconds": 1}
    server = agnhost("netexec", *args, readinessProbe=probe, **({"ports": ports} if ports else {}))
    if node:
        spec["nodeSelector"] = {"kubernetes.io/hostname": node}
    return pod(name, server, **spec)


def service(name: str, selector: Any, *ports: Object, **spec: Any) -> Object:
    body: Object = {"metadata": {"name": name}, "spec": {**({"selector": selector} if selector else {}), **spec}}
    if ports:
        body["spec"]["ports"] = [*ports]
    return body


def port(number: int, target: int | str = 0, **fields: Any) -> Object:
    return {"port": number, **({"targetPort": target} if target else {}), **fields}
