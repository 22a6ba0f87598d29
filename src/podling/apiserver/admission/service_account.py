"""ServiceAccount: a pod runs as an account of its namespace, and finds a token of it in its file system."""

from __future__ import annotations

from podling.api import core_v1, names
from podling.apiserver.admission.base import CREATE, Attributes, Plugin
from podling.apiserver.admission.refusal import forbidden

MOUNT_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
VOLUME_PREFIX = "kube-api-access-"
#: An hour and a few seconds: the few mark tokens that old clients may use longer.
TOKEN_SECONDS = 3607
MIRROR = "kubernetes.io/config.mirror"


class ServiceAccount(Plugin):
    name = "ServiceAccount"
    operations = frozenset((CREATE,))
    resources = frozenset(("pods",))
    mutates = True
    validates = True

    async def mutate(self, attributes: Attributes) -> None:
        pod: core_v1.Pod = attributes.obj
        if pod.spec is None or MIRROR in (pod.metadata.annotations or {}):
            # Nothing is added to a mirror pod; that it asks for nothing is found out before other faults are.
            return await self.validate(attributes)
        spec = pod.spec
        if not spec.service_account_name:
            spec.service_account_name = "default"
        spec.service_account = spec.service_account_name
        account = self._account(attributes, spec.service_account_name)
        if _automount(spec, account):
            mount_token(spec)
        if not spec.image_pull_secrets and account.image_pull_secrets:
            spec.image_pull_secrets = [core_v1.LocalObjectReference(name=s.name) for s in account.image_pull_secrets]

    def _account(self, attributes: Attributes, name: str) -> core_v1.ServiceAccount:
        account: core_v1.ServiceAccount | None = self.app.get("serviceaccounts", attributes.namespace, name)
        if account is None:
            raise forbidden(
                attributes,
                f'error looking up service account {attributes.namespace}/{name}: serviceaccount "{name}" not found',
            )
        return account

    async def validate(self, attributes: Attributes) -> None:
        pod: core_v1.Pod = attributes.obj
        if pod.spec is None or MIRROR not in (pod.metadata.annotations or {}):
            return
        if pod.spec.service_account_name:
            raise forbidden(attributes, "a mirror pod may not reference service accounts")
        for volume in pod.spec.volumes or []:
            sources = (volume.projected.sources if volume.projected is not None else None) or []
            if any(s.service_account_token is not None for s in sources):
                raise forbidden(attributes, "a mirror pod may not use ServiceAccountToken volume projections")


def _automount(spec: core_v1.PodSpec, account: core_v1.ServiceAccount) -> bool:
    """The pod's wish counts before the account's."""
    if spec.automount_service_account_token is not None:
        return spec.automount_service_account_token
    return account.automount_service_account_token is not False


def mount_token(spec: core_v1.PodSpec) -> None:
    """Mount the token volume in every container that has nothing at its place."""
    existing = next((v.name for v in spec.volumes or [] if v.name.startswith(VOLUME_PREFIX)), "")
    name = existing or VOLUME_PREFIX + names.suffix()
    mounted = False
    for container in [*(spec.init_containers or []), *spec.containers]:
        mounts = container.volume_mounts or []
        if any(m.mount_path == MOUNT_PATH for m in mounts):
            continue
        mount = core_v1.VolumeMount(name=name, read_only=True, mount_path=MOUNT_PATH)
        container.volume_mounts = [*mounts, mount]
        mounted = True
    if mounted and not existing:
        spec.volumes = [*(spec.volumes or []), token_volume(name)]


def token_volume(name: str) -> core_v1.Volume:
    """Token, CA and namespace."""
    field = core_v1.ObjectFieldSelector(api_version="v1", field_path="metadata.namespace")
    return core_v1.Volume(
        name=name,
        projected=core_v1.ProjectedVolumeSource(
            default_mode=0o644,
            sources=[
                core_v1.VolumeProjection(
                    service_account_token=core_v1.ServiceAccountTokenProjection(
                        expiration_seconds=TOKEN_SECONDS, path="token"
                    )
                ),
                core_v1.VolumeProjection(
                    config_map=core_v1.ConfigMapProjection(
                        name="kube-root-ca.crt", items=[core_v1.KeyToPath(key="ca.crt", path="ca.crt")]
                    )
                ),
                core_v1.VolumeProjection(
                    downward_api=core_v1.DownwardAPIProjection(
                        items=[core_v1.DownwardAPIVolumeFile(path="namespace", field_ref=field)]
                    )
                ),
            ],
        ),
    )
