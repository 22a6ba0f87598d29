"""Starting one container: image, configuration, create, start, postStart (kuberuntime_container.go, startContainer)."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping

import msgspec

from podling import log
from podling.api import core_v1
from podling.images.base import Image
from podling.kubelet import actions, container_config, env, hosts_file, pods, sandbox_config
from podling.kubelet.backoff import duration
from podling.kubelet.container_statuses import Failure
from podling.kubelet.env import ConfigError, Sources
from podling.kubelet.hooks import HookFailed
from podling.kubelet.image_puller import PullFailure
from podling.kubelet.pod_kill import Killer
from podling.kubelet.pods import AnyContainer
from podling.kubelet.shared import Shared
from podling.runtime.base import ContainerConfig, ContainerStatus, NotFound, RuntimeFailure

_log = log.get(__name__)


class StartFailed(Exception):
    """`failure` is the container's waiting state; try again in `retry_after` seconds."""

    def __init__(self, failure: Failure, retry_after: float) -> None:
        super().__init__(failure.message)
        self.failure, self.retry_after = failure, retry_after


#: Configuration errors are looked at again after this many seconds (upstream's backOffPeriod).
CONFIG_RETRY = 10.0


class Where(msgspec.Struct):
    """The sandbox that containers are started in, and what its pod has mounted."""

    sandbox_id: str
    ips: tuple[str, ...]
    volumes: Mapping[str, str]
    log_directory: str


def restart_key(pod: core_v1.Pod, container: AnyContainer) -> str:
    """What the restart back-off is kept under."""
    return f"{pods.full_name(pod)}_{pods.uid(pod)}_{container.name}_{actions.container_hash(container)}"


class Starter:
    """Starts containers of pods."""

    def __init__(self, shared: Shared, killer: Killer) -> None:
        self._shared, self._killer = shared, killer

    def check_backoff(self, pod: core_v1.Pod, container: AnyContainer, last: ContainerStatus | None) -> None:
        """Raises StartFailed while a container that has ended must wait; else counts the coming restart."""
        if last is None or last.finished_at is None:
            return
        shared, key = self._shared, restart_key(pod, container)
        remaining = shared.restarts.remaining(key, last.finished_at)
        if remaining > 0:
            described = pods.described(pod)
            text = f"Back-off restarting failed container {container.name} in pod {described}"
            shared.tell_container(pod, container.name, "Warning", "BackOff", text)
            delay = duration(shared.restarts.get(key))
            message = f"back-off {delay} restarting failed container={container.name} pod={described}"
            raise StartFailed(Failure("CrashLoopBackOff", message), remaining)
        shared.restarts.next(key, last.finished_at)

    async def image(self, pod: core_v1.Pod, container: AnyContainer) -> Image:
        """The container's image. Raises StartFailed."""
        shared = self._shared
        name = container.name
        try:
            return await shared.puller.ensure(
                pod, container, lambda type_, reason, text: shared.tell_container(pod, name, type_, reason, text)
            )
        except PullFailure as error:
            shared.tell_container(pod, name, "Warning", "Failed", f"Error: {error.failure.reason}")
            raise StartFailed(error.failure, error.retry_after) from None

    async def sources(self, pod: core_v1.Pod) -> Sources:
        """What the environments of the pod's containers refer to."""
        return await env.fetch_sources(self._shared.client, pod, (c for _, c in pods.containers(pod)))

    async def create(
        self,
        pod: core_v1.Pod,
        container: AnyContainer,
        *,
        attempt: int,
        image: Image,
        where: Where,
        sources: Sources,
        target: str = "",
    ) -> str:
        """Make and start the container; its id. Raises StartFailed."""
        shared = self._shared
        shared.measures.started(pod, container)
        try:
            config = self._config(pod, container, attempt, image, where, sources, target)
        except (ConfigError, RuntimeFailure, OSError, ValueError) as error:
            raise self._failed(pod, container, "CreateContainerConfigError", str(error)) from None
        try:
            container_id = await shared.runtime.create_container(where.sandbox_id, config)
        except RuntimeFailure as error:
            raise self._failed(pod, container, "CreateContainerError", str(error)) from None
        shared.tell_container(pod, container.name, "Normal", "Created", "Container created")
        try:
            await shared.runtime.start_container(container_id)
        except RuntimeFailure as error:
            raise self._failed(pod, container, "RunContainerError", str(error)) from None
        shared.tell_container(pod, container.name, "Normal", "Started", "Container started")
        self._link_log(pod, container.name, container_id, os.path.join(where.log_directory, config.log_path))
        return container_id

    async def post_start(self, pod: core_v1.Pod, container: AnyContainer, container_id: str, ip: str) -> None:
        """The postStart hook; its failure kills the container. Raises StartFailed."""
        handler = container.lifecycle.post_start if container.lifecycle else None
        if handler is None:
            return
        try:
            await self._shared.hooks.run(pod, container, container_id, handler, ip)
        except HookFailed as error:
            self._shared.tell_container(pod, container.name, "Warning", "FailedPostStartHook", "PostStartHook failed")
            try:
                found = await self._shared.runtime.container_status(container_id)
            except NotFound:
                found = None
            if found is not None:
                await self._killer.kill(pod, found, ip, message="FailedPostStartHook", reason=actions.POST_START)
            raise StartFailed(Failure("PostStartHookError", str(error)), 0.0) from None

    def _failed(self, pod: core_v1.Pod, container: AnyContainer, reason: str, message: str) -> StartFailed:
        self._shared.tell_container(pod, container.name, "Warning", "Failed", f"Error: {message}")
        self._shared.measures.failed(pod, container, reason)
        return StartFailed(Failure(reason, message), CONFIG_RETRY)

    def _config(
        self,
        pod: core_v1.Pod,
        container: AnyContainer,
        attempt: int,
        image: Image,
        where: Where,
        sources: Sources,
        target: str,
    ) -> ContainerConfig:
        shared = self._shared
        context = env.Context(
            sources=sources,
            services=shared.services(),
            node_name=shared.config.node_name,
            ips=where.ips or (shared.host_ips if pods.is_host_network(pod) else ()),
            host_ips=shared.host_ips,
            volumes=where.volumes,
            allocatable=shared.allocatable(),
        )
        environment = env.environment(pod, container, context)
        mounts = container_config.mounts(
            pod,
            container,
            where.volumes,
            environment,
            self._subpath(pod, container),
            self._files(pod, container, where),
        )
        return container_config.container_config(
            pod,
            container,
            attempt=attempt,
            image=image,
            environment=environment,
            mounts=mounts,
            devices=container_config.devices(pod, container, where.volumes),
            node=container_config.Node(shared.memory_capacity, os.path.join(shared.config.root_dir, "seccomp")),
            target_pid_container=target,
        )

    def _subpath(self, pod: core_v1.Pod, container: AnyContainer) -> container_config.PrepareSubpath:
        def prepare(volume: str, path: str, mount: core_v1.VolumeMount) -> str:
            from podling.volumes import subpath

            index = next(i for i, m in enumerate(container.volume_mounts or ()) if m is mount)
            directory = pod_directory(shared_root, pods.uid(pod))
            try:
                return subpath.prepare(volume, path, directory, mount.name, container.name, index)
            except (OSError, ValueError) as error:
                _log.info("subPath %s of %s: %s", path, pods.key(pod), error)
                raise ConfigError(
                    f'failed to prepare subPath for volumeMount "{mount.name}" of container "{container.name}"'
                ) from None

        shared_root = self._shared.config.root_dir
        return prepare

    def _files(self, pod: core_v1.Pod, container: AnyContainer, where: Where) -> container_config.Files:
        """Write the files that are the container's own: /etc/hosts anew, and an empty termination log."""
        root = pod_directory(self._shared.config.root_dir, pods.uid(pod))
        hosts = termination = ""
        if not self._shared.host_files:
            return container_config.Files()
        if where.ips or pods.is_host_network(pod):
            hosts = os.path.join(root, "etc-hosts")
            os.makedirs(root, mode=0o750, exist_ok=True)
            _write(hosts, self._hosts(pod, where.ips), 0o644)
        if container.termination_message_path:
            directory = os.path.join(root, "containers", container.name)
            os.makedirs(directory, mode=0o750, exist_ok=True)
            termination = os.path.join(directory, secrets.token_hex(4))
            _write(termination, "", 0o666)
        return container_config.Files(hosts, termination)

    def _hosts(self, pod: core_v1.Pod, ips: tuple[str, ...]) -> str:
        if pods.is_host_network(pod):
            try:
                with open("/etc/hosts", encoding="utf-8") as file:
                    own = file.read()
            except OSError:
                own = ""
            shared = self._shared
            return hosts_file.host_network(own, shared.config.node_name, shared.host_ips, pod.spec.host_aliases)
        hostname, domain = sandbox_config.hostname_and_domain(pod, self._shared.config.cluster_domain)
        return hosts_file.managed(ips, hostname, domain, pod.spec.host_aliases)

    def _link_log(self, pod: core_v1.Pod, container: str, container_id: str, path: str) -> None:
        """The name under which node log agents look for the log."""
        directory = self._shared.config.container_log_dir
        if not directory:
            return
        try:
            os.makedirs(directory, exist_ok=True)
            os.symlink(path, os.path.join(directory, container_config.log_link(pod, container, container_id)))
        except FileExistsError:
            pass
        except OSError as error:
            _log.warning("no link to the log of %s in %s: %s", container, pods.key(pod), error)

    def unlink_log(self, pod: core_v1.Pod, container: str, container_id: str) -> None:
        directory = self._shared.config.container_log_dir
        if directory:
            try:
                os.unlink(os.path.join(directory, container_config.log_link(pod, container, container_id)))
            except OSError:
                pass


def pod_directory(root_dir: str, uid: str) -> str:
    """Where the node agent keeps a pod's files."""
    return os.path.join(root_dir, "pods", uid)


def _write(path: str, text: str, mode: int) -> None:
    """In place: a running container has the file itself mounted, not its name."""
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(path, mode)
