"""Where the API server is and who we are: kubeconfig files, as kubectl reads them.

Written here and read here: contexts, certificates embedded or in files, tokens and token files. Credential plugins
(`exec`) are refused with a sentence, not ignored.
"""

from __future__ import annotations

import base64
import os
from typing import Any

import msgspec

from podling.errors import PodlingError


class KubeconfigError(PodlingError):
    """A kubeconfig that says nothing usable, and what to do."""


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """One server and one identity. `ca`, `cert` and `key` are PEM."""

    server: str
    ca: bytes = b""
    cert: bytes = b""
    key: bytes = b""
    token: str = ""
    token_file: str = ""
    insecure: bool = False
    namespace: str = "default"


def default_path() -> str:
    """The first file of $KUBECONFIG, or ~/.kube/config."""
    named = [p for p in os.environ.get("KUBECONFIG", "").split(os.pathsep) if p]
    return named[0] if named else os.path.expanduser("~/.kube/config")


def load(path: str | None = None, *, context: str | None = None) -> Config:
    """The configuration of `context` (the file's current one by default). Raises KubeconfigError."""
    import yaml

    path = path or default_path()
    try:
        with open(path, "rb") as file:
            loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
            data = yaml.load(file, Loader=loader)
    except OSError as error:
        raise KubeconfigError(f"cannot read the kubeconfig {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise KubeconfigError(f"the kubeconfig {path} is not YAML: {error}") from error
    if not isinstance(data, dict):
        raise KubeconfigError(f"the kubeconfig {path} is empty: write one with `podling kubeconfig`")
    return parse(data, context=context, directory=os.path.dirname(os.path.abspath(path)))


def parse(data: dict[str, Any], *, context: str | None = None, directory: str = ".") -> Config:
    """As `load`, from the parsed document; relative file names are relative to `directory`."""
    wanted = context or data.get("current-context") or ""
    if not wanted:
        raise KubeconfigError("the kubeconfig has no current-context: name one")
    chosen = _entry(data, "contexts", "context", wanted)
    cluster = _entry(data, "clusters", "cluster", chosen.get("cluster", ""))
    user = _entry(data, "users", "user", chosen["user"]) if chosen.get("user") else {}
    if "exec" in user or "auth-provider" in user:
        raise KubeconfigError(
            f'user "{chosen["user"]}" takes its credentials from a plugin, which is not supported: '
            "use a client certificate or a token"
        )
    token_file = user.get("tokenFile", "")
    return Config(
        server=cluster.get("server", ""),
        ca=_bytes(cluster, "certificate-authority", directory),
        cert=_bytes(user, "client-certificate", directory),
        key=_bytes(user, "client-key", directory),
        token=user.get("token", ""),
        token_file=os.path.join(directory, token_file) if token_file else "",
        insecure=bool(cluster.get("insecure-skip-tls-verify", False)),
        namespace=chosen.get("namespace") or "default",
    )


def dump(config: Config, *, name: str = "podling", user: str = "podling-admin") -> str:
    """`config` as the text of a kubeconfig whose only context is `name`. JSON, which is YAML."""

    def b64(pem: bytes) -> str:
        return base64.b64encode(pem).decode()

    cluster: dict[str, Any] = {"server": config.server}
    if config.ca:
        cluster["certificate-authority-data"] = b64(config.ca)
    if config.insecure:
        cluster["insecure-skip-tls-verify"] = True
    identity: dict[str, Any] = {}
    if config.cert:
        identity |= {"client-certificate-data": b64(config.cert), "client-key-data": b64(config.key)}
    if config.token:
        identity["token"] = config.token
    if config.token_file:
        identity["tokenFile"] = config.token_file
    context = {"cluster": name, "user": user, "namespace": config.namespace}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "contexts": [{"name": name, "context": context}],
        "current-context": name,
        "users": [{"name": user, "user": identity}],
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"


def _entry(data: dict[str, Any], plural: str, singular: str, name: str) -> dict[str, Any]:
    for entry in data.get(plural) or []:
        if entry.get("name") == name:
            found: dict[str, Any] = entry.get(singular) or {}
            return found
    raise KubeconfigError(f'the kubeconfig has no {singular} "{name}"')


def _bytes(entry: dict[str, Any], name: str, directory: str) -> bytes:
    """The PEM under `<name>-data` (base64) or in the file under `<name>`; the embedded one wins."""
    if embedded := entry.get(f"{name}-data"):
        return base64.b64decode(embedded)
    if file_name := entry.get(name):
        try:
            with open(os.path.join(directory, file_name), "rb") as file:
                return file.read()
        except OSError as error:
            raise KubeconfigError(f"cannot read {file_name}, the kubeconfig's {name}: {error.strerror}") from error
    return b""
