"""Who the API server is to webhooks: the users of a kubeconfig, by the name of the server that is called.

A user's name is `host`, `host:port`, `*.domain` or `*`; the most exact one counts. A service is
`<name>.<namespace>.svc`. Source: Kubernetes' "Authenticate apiservers".
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from podling.client import kubeconfig
from podling.client.kubeconfig import Config


class _Document(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    api_version: Literal["apiserver.config.k8s.io/v1", "apiserver.config.k8s.io/v1alpha1"]
    kind: Literal["WebhookAdmissionConfiguration", "WebhookAdmission"]
    kube_config_file: str = ""


class Credentials:
    """Of a kubeconfig file. Raises KubeconfigError for one that can't be read."""

    def __init__(self, path: str) -> None:
        import yaml

        try:
            with open(path, "rb") as file:
                document = yaml.load(file, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        except OSError as error:
            raise kubeconfig.KubeconfigError(f"cannot read the kubeconfig {path}: {error.strerror}") from None
        except yaml.YAMLError as error:
            raise kubeconfig.KubeconfigError(f"the kubeconfig {path} is not YAML: {error}") from None
        if not isinstance(document, dict):
            raise kubeconfig.KubeconfigError(f"the kubeconfig {path} is empty")
        folder = os.path.dirname(os.path.abspath(path))
        names = [str(user.get("name")) for user in document.get("users") or ()]
        self._users = {name: _user(document, name, folder) for name in names}

    def of(self, url: str) -> Config | None:
        """Who to be to the server of a URL; None for nobody in particular."""
        parts = urlsplit(url)
        for name in _names(parts.hostname or "", parts.port or 443):
            if name in self._users:
                return self._users[name]
        return None


def _names(host: str, port: int) -> Iterator[str]:
    """Under which names a user may stand, the most exact one first."""
    labels = host.split(".")
    for number in (f":{port}", *(("",) if port == 443 else ())):
        yield host + number
        for index in range(1, len(labels)):
            yield f"*.{'.'.join(labels[index:])}{number}"
    yield "*"


def _user(document: dict[str, Any], name: str, folder: str) -> Config:
    """A user of a kubeconfig, without a server."""
    context = {"name": "c", "context": {"cluster": "c", "user": name}}
    alone = {"clusters": [{"name": "c", "cluster": {"server": "https://"}}], "contexts": [context]}
    return kubeconfig.parse({**alone, "users": document["users"]}, context="c", directory=folder)


def parse(document: dict[str, Any]) -> Credentials:
    """A WebhookAdmissionConfiguration. ValueError (and PodlingError) if it can't be used."""
    found = msgspec.convert(document, _Document)
    if not found.kube_config_file:
        raise ValueError("kubeConfigFile: Required value: webhooks without credentials need no configuration")
    if not os.path.isabs(found.kube_config_file):
        raise ValueError(f"kubeConfigFile: {found.kube_config_file}: write an absolute path")
    return Credentials(found.kube_config_file)
