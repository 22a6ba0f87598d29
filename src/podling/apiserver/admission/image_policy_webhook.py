"""ImagePolicyWebhook: a server outside says which images may run (imagepolicy.k8s.io/v1alpha1 ImageReview)."""

from __future__ import annotations

from typing import Any

import msgspec

from podling import log
from podling.api import core_v1
from podling.apiserver.admission.base import CREATE, UPDATE, Attributes, Plugin
from podling.apiserver.admission.refusal import forbidden
from podling.apiserver.core import Core
from podling.apiserver.expiring import Expiring
from podling.apiserver.remote_review import RemoteReview, ReviewFailure
from podling.client import kubeconfig
from podling.errors import PodlingError

LOG = log.get(__name__)

_FAILED_OPEN = "alpha.image-policy.k8s.io/failed-open"
_AUDIT = "failed-open.image-policy.k8s.io"


class ImagePolicy(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """Times in seconds, `retry_backoff` in milliseconds; 0 is the usual, less is none."""

    kube_config_file: str
    allow_ttl: int = msgspec.field(default=0, name="allowTTL")
    deny_ttl: int = msgspec.field(default=0, name="denyTTL")
    retry_backoff: int = 0
    default_allow: bool = False


class Configuration(msgspec.Struct, rename="camel"):
    image_policy: ImagePolicy


class ImagePolicyWebhook(Plugin):
    name = "ImagePolicyWebhook"
    operations = frozenset((CREATE, UPDATE))
    resources = frozenset(("pods",))
    subresources = frozenset(("", "ephemeralcontainers"))
    mutates = True
    validates = True

    def __init__(self, app: Core, configuration: Configuration | None = None) -> None:
        super().__init__(app)
        if configuration is None:
            what = "ImagePolicyWebhook needs imagePolicy: name it in the file of admission-control-config-file"
            raise PodlingError(what)
        policy = self._policy = configuration.image_policy
        backoff = (policy.retry_backoff or 500) / 1000
        self._remote = RemoteReview(kubeconfig.load(policy.kube_config_file), backoff=backoff)
        self._known: Expiring[bytes, dict[str, Any]] = Expiring(1024)

    @classmethod
    def parse(cls, document: dict[str, Any]) -> Configuration:
        found = msgspec.convert(document, Configuration)
        kubeconfig.load(found.image_policy.kube_config_file)
        for name, value, most in (
            ("allow cache", found.image_policy.allow_ttl, 1800),
            ("deny cache", found.image_policy.deny_ttl, 1800),
            ("backoff", found.image_policy.retry_backoff, 300_000),
        ):
            if value > most:
                raise ValueError(f"valid value is between 0 and {most} for {name}, got {value}")
        return found

    async def close(self) -> None:
        await self._remote.close()

    async def mutate(self, attributes: Attributes) -> None:
        await self._check(attributes)

    async def validate(self, attributes: Attributes) -> None:
        await self._check(attributes)

    async def _check(self, attributes: Attributes) -> None:
        pod: core_v1.Pod = attributes.obj
        if pod.spec is None or (attributes.operation == UPDATE and not attributes.subresource):
            return
        spec = review_spec(pod, attributes.subresource, attributes.namespace)
        if not spec["containers"]:
            return
        key = msgspec.json.encode(spec)
        status = self._known.get(key)
        if status is None:
            review = {"kind": "ImageReview", "apiVersion": "imagepolicy.k8s.io/v1alpha1", "spec": spec, "status": {}}
            try:
                status = await self._remote.ask(review)
            except ReviewFailure as error:
                self._failed(attributes, str(error))
                return
            allowed = status.get("allowed") is True
            self._known.put(key, status, self._seconds(self._policy.allow_ttl if allowed else self._policy.deny_ttl))
        for name, value in (status.get("auditAnnotations") or {}).items():
            attributes.annotations[f"imagepolicywebhook.image-policy.k8s.io/{name}"] = str(value)
        if status.get("allowed") is not True:
            reason = status.get("reason")
            denied = f"image policy webhook backend denied one or more images: {reason}"
            raise forbidden(attributes, denied if reason else "one or more images rejected by webhook backend")

    @staticmethod
    def _seconds(given: int) -> float:
        return 300.0 if given == 0 else float(given)

    def _failed(self, attributes: Attributes, why: str) -> None:
        LOG.error("error contacting webhook backend: %s", why)
        if not self._policy.default_allow:
            raise forbidden(attributes, why)
        meta = attributes.obj.metadata
        attributes.annotations[_AUDIT] = "true"
        meta.annotations = {**(meta.annotations or {}), _FAILED_OPEN: "true"}


def review_spec(pod: core_v1.Pod, subresource: str, namespace: str) -> dict[str, Any]:
    """What the server is told of a pod."""
    spec = pod.spec or core_v1.PodSpec(containers=[])
    if subresource == "ephemeralcontainers":
        images = [c.image or "" for c in spec.ephemeral_containers or ()]
    else:
        images = [c.image or "" for c in (*spec.containers, *(spec.init_containers or ()))]
    told = {k: v for k, v in (pod.metadata.annotations or {}).items() if ".image-policy.k8s.io/" in k}
    return {"containers": [{"image": i} for i in images], "annotations": told, "namespace": namespace}
