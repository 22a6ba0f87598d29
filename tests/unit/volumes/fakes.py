"""A lookup that answers from dictionaries, and short ways to pods."""

import base64
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from podling import clock
from podling.api import authentication_v1, certificates_v1, core_v1, meta_v1, struct, times
from podling.errors import PodlingError
from podling.volumes.base import Context


class FakeLookup:
    def __init__(self) -> None:
        self.config_maps: dict[str, core_v1.ConfigMap] = {}
        self.secrets: dict[str, core_v1.Secret] = {}
        self.claims: dict[str, core_v1.PersistentVolumeClaim] = {}
        self.volumes: dict[str, core_v1.PersistentVolume] = {}
        self.bundles: list[certificates_v1.ClusterTrustBundle] = []
        self.allocatable: dict[str, str] = {"cpu": "2", "memory": "8Gi", "ephemeral-storage": "100Gi"}
        self.token_requests: list[authentication_v1.TokenRequest] = []
        self.tokens_fail = False

    async def config_map(self, namespace: str, name: str) -> core_v1.ConfigMap | None:
        return self.config_maps.get(name)

    async def secret(self, namespace: str, name: str) -> core_v1.Secret | None:
        return self.secrets.get(name)

    async def claim(self, namespace: str, name: str) -> core_v1.PersistentVolumeClaim | None:
        return self.claims.get(name)

    async def persistent_volume(self, name: str) -> core_v1.PersistentVolume | None:
        return self.volumes.get(name)

    async def cluster_trust_bundles(self) -> Iterable[certificates_v1.ClusterTrustBundle]:
        return self.bundles

    async def service_account_token(
        self, namespace: str, name: str, request: authentication_v1.TokenRequest
    ) -> authentication_v1.TokenRequest:
        if self.tokens_fail:
            raise PodlingError("the API server is away")
        self.token_requests.append(request)
        answer = struct.clone(request)
        seconds = request.spec.expiration_seconds or 3600
        answer.status.token = f"token-{len(self.token_requests)}"
        answer.status.expiration_timestamp = times.format(clock.now() + timedelta(seconds=seconds))
        return answer

    def node_allocatable(self) -> Mapping[str, str]:
        return self.allocatable


def config_map(**data: str) -> core_v1.ConfigMap:
    return core_v1.ConfigMap(data=dict(data))


def secret(**data: str) -> core_v1.Secret:
    return core_v1.Secret(data={key: base64.b64encode(text.encode()).decode() for key, text in data.items()})


def pod(*volumes: dict[str, Any], **spec: Any) -> core_v1.Pod:
    """A pod with these volumes (wire form), all mounted into its only container."""
    mounts = [{"name": volume["name"], "mountPath": f"/{volume['name']}"} for volume in volumes]
    document = {
        "metadata": {"name": "web", "namespace": "ns", "uid": "u1", "labels": {"a": "1"}},
        "spec": {
            "containers": [{"name": "c", "image": "x", "volumeMounts": mounts}],
            "volumes": list(volumes),
            **spec,
        },
    }
    return struct.from_dict(document, core_v1.Pod)


def context(of: core_v1.Pod, lookup: FakeLookup, directory: str = "/nowhere") -> Context:
    """Of the pod's first volume."""
    assert of.spec.volumes
    return Context(of, of.spec.volumes[0], directory, "/nowhere", lookup)


def meta(**fields: Any) -> meta_v1.ObjectMeta:
    return meta_v1.ObjectMeta(**fields)
