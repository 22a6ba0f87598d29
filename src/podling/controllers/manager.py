"""The controller manager: all controllers in one process, sharing their caches.

`ControllerManager.run` is what a leader does; without other instances it is simply run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from podling import log
from podling.client.client import ApiClient
from podling.client.informer import Informers
from podling.controllers import metrics
from podling.controllers.base import Config, Context, Controller

_log = log.get(__name__)


def all_controllers() -> tuple[type[Controller], ...]:
    """Every controller, the garbage collector last: it follows what is left with metadata alone."""
    from podling.controllers.bootstrap_tokens import BootstrapSignerController, TokenCleanerController
    from podling.controllers.clusterrole_aggregation import ClusterRoleAggregationController
    from podling.controllers.cronjob import CronJobController
    from podling.controllers.csr_approving import CsrApprovingController
    from podling.controllers.csr_cleaner import CsrCleanerController
    from podling.controllers.csr_signing import CsrSigningController
    from podling.controllers.daemonset import DaemonSetController
    from podling.controllers.deployment import DeploymentController
    from podling.controllers.disruption import DisruptionController
    from podling.controllers.endpoints import EndpointsController
    from podling.controllers.endpointslice import EndpointSliceController
    from podling.controllers.endpointslice_mirroring import EndpointSliceMirroringController
    from podling.controllers.ephemeral_volume import EphemeralVolumeController
    from podling.controllers.garbage_collector import GarbageCollector
    from podling.controllers.horizontal_pod_autoscaler import HorizontalPodAutoscalerController
    from podling.controllers.job import JobController
    from podling.controllers.legacy_token_cleaner import LegacyTokenCleanerController
    from podling.controllers.local_path_provisioner import LocalPathProvisioner
    from podling.controllers.namespace import NamespaceController
    from podling.controllers.node_ipam import NodeIpamController
    from podling.controllers.node_lifecycle import NodeLifecycleController
    from podling.controllers.persistent_volume import PersistentVolumeController
    from podling.controllers.pod_gc import PodGarbageCollector
    from podling.controllers.pv_protection import PvProtectionController
    from podling.controllers.pvc_protection import PvcProtectionController
    from podling.controllers.replicaset import ReplicaSetController
    from podling.controllers.replication_controller import ReplicationControllerController
    from podling.controllers.resourcequota import ResourceQuotaController
    from podling.controllers.root_ca import RootCaController
    from podling.controllers.service_addresses import ServiceAddressController
    from podling.controllers.service_cidr import ServiceCidrController
    from podling.controllers.serviceaccount import ServiceAccountController
    from podling.controllers.serviceaccount_token import ServiceAccountTokenController
    from podling.controllers.statefulset import StatefulSetController
    from podling.controllers.taint_eviction import TaintEvictionController
    from podling.controllers.ttl_after_finished import TtlAfterFinishedController
    from podling.controllers.vac_protection import VacProtectionController

    return (
        ReplicaSetController,
        DeploymentController,
        ReplicationControllerController,
        DaemonSetController,
        StatefulSetController,
        JobController,
        CronJobController,
        HorizontalPodAutoscalerController,
        DisruptionController,
        ResourceQuotaController,
        PersistentVolumeController,
        EphemeralVolumeController,
        LocalPathProvisioner,
        PvcProtectionController,
        PvProtectionController,
        VacProtectionController,
        TtlAfterFinishedController,
        NamespaceController,
        ServiceAccountController,
        ServiceAccountTokenController,
        LegacyTokenCleanerController,
        BootstrapSignerController,
        TokenCleanerController,
        RootCaController,
        ClusterRoleAggregationController,
        CsrApprovingController,
        CsrSigningController,
        CsrCleanerController,
        EndpointSliceController,
        EndpointsController,
        EndpointSliceMirroringController,
        ServiceAddressController,
        ServiceCidrController,
        NodeIpamController,
        NodeLifecycleController,
        TaintEvictionController,
        PodGarbageCollector,
        GarbageCollector,
    )


class ControllerManager:
    """Starts controllers over one client and one set of informers, and ends them.

    `controllers` are classes; all of them by default. With `informers` given, those are used and stay open.
    """

    def __init__(
        self,
        client: ApiClient,
        config: Config | None = None,
        *,
        controllers: Iterable[type[Controller]] | None = None,
        informers: Informers | None = None,
    ) -> None:
        self._owns_informers = informers is None
        self.informers = informers or Informers(client.with_agent("kube-controller-manager/podling"))
        self._context = Context(client, self.informers, config or Config())
        self._kinds = tuple(controllers) if controllers is not None else all_controllers()
        self.controllers: list[Controller] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start all, and return when their caches are filled."""
        self.controllers = [kind(self._context) for kind in self._kinds]
        self.informers.start()
        self._tasks = [asyncio.create_task(self._run(c), name=c.name) for c in self.controllers]
        await self.informers.wait_synced()

    async def run(self) -> None:
        """Start all and work until cancelled."""
        await self.start()
        try:
            await asyncio.gather(*self._tasks)
        finally:
            await self.close()

    def ended(self) -> list[str]:
        """Controllers that should run and do not."""
        return [task.get_name() for task in self._tasks if task.done()]

    async def close(self) -> None:
        """End all; the last events are written."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(c.close() for c in self.controllers))
        if self._owns_informers:
            await self.informers.close()

    @staticmethod
    async def _run(controller: Controller) -> None:
        metrics.RUNNING.set(1, metrics.MANAGER, controller.name)
        try:
            await controller.run()
        except Exception:
            _log.exception("%s ended", controller.name)
            raise
        finally:
            metrics.RUNNING.set(0, metrics.MANAGER, controller.name)
