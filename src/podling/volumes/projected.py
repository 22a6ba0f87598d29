"""projected volumes: several sources in one directory; every pod has one with its service account's token."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from podling.api import core_v1
from podling.errors import PodlingError
from podling.volumes import config_map, downward_api, payloads, secret, trust_bundles
from podling.volumes.atomic_writer import File
from podling.volumes.base import POD, Context, Dependency, VolumeError, aggregate
from podling.volumes.config_map import DEFAULT_MODE
from podling.volumes.content import ContentPlugin
from podling.volumes.tokens import TokenCache


class ProjectedPlugin(ContentPlugin):
    name = "kubernetes.io/projected"

    def __init__(self, tokens: TokenCache) -> None:
        self._tokens = tokens

    async def payload(self, context: Context) -> tuple[dict[str, File], datetime | None]:
        source = context.volume.projected
        assert source is not None
        mode = source.default_mode if source.default_mode is not None else DEFAULT_MODE
        files: dict[str, File] = {}
        refresh: list[datetime] = []
        errors: list[str] = []
        for part in source.sources or ():
            try:
                files |= await self._part(context, part, mode, source.default_user, refresh)
            except PodlingError as error:
                errors.append(str(error))
        if errors:
            raise VolumeError(aggregate(errors))
        return files, min(refresh, default=None)

    async def _part(
        self, context: Context, part: core_v1.VolumeProjection, mode: int, user: int | None, refresh: list[datetime]
    ) -> dict[str, File]:
        namespace, lookup = context.namespace, context.lookup
        if part.secret is not None:
            optional = bool(part.secret.optional)
            found = await secret.get(lookup, namespace, part.secret.name or "", optional=optional)
            return payloads.of_secret(found, part.secret.items, mode, optional=optional, user=user)
        if part.config_map is not None:
            optional = bool(part.config_map.optional)
            source = await config_map.get(lookup, namespace, part.config_map.name or "", optional=optional)
            return payloads.of_config_map(source, part.config_map.items, mode, optional=optional, user=user)
        if part.downward_api is not None:
            return downward_api.files_of(context, part.downward_api.items or (), mode, user)
        if part.service_account_token is not None:
            return await self._token(context, part.service_account_token, mode, user, refresh)
        if part.cluster_trust_bundle is not None:
            bundle = part.cluster_trust_bundle
            text = await trust_bundles.pem(context, bundle)
            return {bundle.path: File(text.encode(), mode, bundle.user if bundle.user is not None else user)}
        if part.pod_certificate is not None:
            raise VolumeError(
                f'podCertificate projections of signer "{part.pod_certificate.signer_name}" are not supported here'
            )
        return {}

    async def _token(
        self,
        context: Context,
        source: core_v1.ServiceAccountTokenProjection,
        mode: int,
        user: int | None,
        refresh: list[datetime],
    ) -> dict[str, File]:
        token = await self._tokens.get(context.lookup, context.pod, source)
        refresh.append(token.refresh_at)
        owner = source.user if source.user is not None else user
        if owner is None:
            owner = common_user(context.pod)
        # Whoever it is, it is the pod's alone; fsGroup opens it to the group afterwards.
        private = owner is not None or context.fs_group is not None
        return {source.path: File(token.text.encode(), 0o600 if private else mode, owner)}

    def dependencies(self, context: Context) -> Iterable[Dependency]:
        assert context.volume.projected is not None
        for part in context.volume.projected.sources or ():
            if part.secret is not None:
                yield Dependency("Secret", context.namespace, part.secret.name or "")
            elif part.config_map is not None:
                yield Dependency("ConfigMap", context.namespace, part.config_map.name or "")
            elif part.downward_api is not None:
                yield POD
            elif part.cluster_trust_bundle is not None:
                yield Dependency("ClusterTrustBundle")


def common_user(pod: core_v1.Pod) -> int | None:
    """The user that all containers of the pod run as, if their security contexts say the same one."""
    general = pod.spec.security_context.run_as_user if pod.spec.security_context else None
    users = set()
    for container in (*pod.spec.containers, *(pod.spec.init_containers or ()), *(pod.spec.ephemeral_containers or ())):
        own = container.security_context.run_as_user if container.security_context else None
        users.add(own if own is not None else general)
    return users.pop() if len(users) == 1 else None
