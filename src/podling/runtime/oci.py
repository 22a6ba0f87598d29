"""Real containers: one conmon each, over crun or runc, in namespaces that are pinned as files.

Nothing here has to stay alive for a container to run on: conmon holds its streams, writes its log and records its
exit code. A new `OciRuntime` on the same directories adopts all of it. What happens is told by events of the kernel
(inotify on exit files, pidfds), nothing polls.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec

from podling import clock, log
from podling.errors import PodlingError, system_text
from podling.images.base import ImageError, ImageService
from podling.network.base import SandboxNetwork
from podling.runtime import (
    cgroups,
    conmon,
    execs,
    exits,
    forwarding,
    namespaces,
    node,
    processes,
    rootfs,
    sandbox,
    signals,
    spec,
    users,
)
from podling.runtime.base import (
    ContainerConfig,
    ContainerState,
    ContainerStats,
    ContainerStatus,
    ExecResult,
    NotFound,
    Resources,
    RuntimeEvent,
    RuntimeFailure,
    SandboxConfig,
    SandboxState,
    SandboxStatus,
    Sink,
    Source,
    Streams,
)
from podling.runtime.containers import Container, Containers
from podling.runtime.crun import HybridPin, OciCli, find
from podling.runtime.records import ContainerRecord, Layout, Phase, SandboxRecord
from podling.runtime.teardown import teardown as teardown

logger = log.get(__name__)

#: What containerd says of a container whose process could not be started.
_START_FAILED = 128

#: Names of runtime handlers that mean this runtime. Another one promises another kind of isolation.
_HANDLERS = frozenset({"", "crun", "runc"})

_STATES = {
    Phase.MAKING: ContainerState.CREATED,
    Phase.CREATED: ContainerState.CREATED,
    Phase.STARTING: ContainerState.CREATED,
    Phase.RUNNING: ContainerState.RUNNING,
    Phase.EXITED: ContainerState.EXITED,
}


class OciRuntime(Containers):
    """`base.Runtime` over conmon and an OCI runtime.

    `state_dir` holds the records (keep it over reboots), `run_dir` what lives no longer than the machine runs (best a
    tmpfs); both belong to this runtime alone. `runtime_binary` is crun or runc, by default whichever there is.
    `tune_kernel` lets it set `favordynmods` on the machine's cgroups, which makes starting a container and exec some
    10 ms faster; `teardown` clears it again. `seccomp_directory` is where Localhost profiles are looked up.
    """

    def __init__(
        self,
        state_dir: Path,
        run_dir: Path,
        images: ImageService,
        network: SandboxNetwork,
        runtime_binary: str | None = None,
        *,
        seccomp_directory: Path = Path("/var/lib/kubelet/seccomp"),
        tune_kernel: bool = True,
    ) -> None:
        super().__init__(Layout(Path(state_dir), Path(run_dir)), cgroups.detect())
        self._images = images
        self._network = network
        self._program = find(runtime_binary)
        self.name = os.path.basename(self._program)
        pin = HybridPin(self._layout.pin) if self._cgroups.hybrid and self.name == "crun" else None
        self._oci = OciCli(self._program, self._layout.oci, pin)
        self._conmon = conmon.find()
        self._node = node.look(self._cgroups, seccomp_directory)
        self._tune_kernel = tune_kernel

    async def version(self) -> str:
        return await self._oci.version()

    # Beginning and end

    async def start(self) -> None:
        self._layout.make()
        node.share(self._layout.run_dir)
        if self._tune_kernel and cgroups.favor_dynamic_changes(True):
            (self._layout.run_dir / "tuned").touch()
        # The watch comes first: what ends from here on is told, what ended before is found.
        self._watch.start()
        for container in self._layout.load_containers():
            self._containers[container.id] = Container(container)
        for record in self._layout.load_sandboxes():
            self._sandboxes[record.id] = record
        for live in list(self._containers.values()):
            await self._adopt(live)
        for record in list(self._sandboxes.values()):
            self._adopt_sandbox(record)
        # Beside, for the network may come up after the runtime.
        self._spawn(self._return_leases())

    async def _return_leases(self) -> None:
        """Sandboxes that are gone, by a crash or a reboot, have no address to keep from others."""
        try:
            await self._network.retain(r.id for r in self._sandboxes.values() if r.phase is not Phase.STOPPED)
        except PodlingError as error:
            logger.warning("addresses of sandboxes that are gone are not free again: %s", error)

    def _adopt_sandbox(self, record: SandboxRecord) -> None:
        if record.phase is Phase.MAKING:
            logger.info("sandbox %s was not finished; it is taken away", record.id)
            # Beside, for it needs the network, which may come up after the runtime.
            self._spawn(self._discard_sandbox(record))
        elif record.phase is Phase.READY:
            directory = self._layout.namespaces(record.id)
            whole = all(namespaces.is_pinned(directory / kind) for kind in sandbox.own_namespaces(record.config))
            if record.config.share_process_namespace:
                whole = whole and processes.start_time(record.init_pid) == record.init_started
            if not whole:
                record.phase = Phase.STOPPED
                self._note(record)

    async def _adopt(self, live: Container) -> None:
        record = live.record
        if record.phase is Phase.RUNNING:
            if exits.read(self._layout.exits, record.id) is not None:
                self._finish(live)
            else:
                self._watch_conmon(live)
        elif record.phase is Phase.STARTING:
            await self._cgroups.kill(record.cgroup)
            self._set_exited(live, _START_FAILED, "StartError", "the node agent was stopped while it started it")
        elif record.phase is Phase.MAKING:
            await self._discard_container(live)

    async def close(self) -> None:
        self._watch.close()
        self._oci.close()
        for live in self._containers.values():
            self._unwatch_conmon(live)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def problem(self) -> str:
        for program in (self._conmon, self._program):
            if not os.access(program, os.X_OK):
                return f"{program}: no such program"
        return ""

    async def events(self) -> AsyncIterator[RuntimeEvent]:
        while True:
            yield await self._events.get()

    # Sandboxes

    def _sandbox(self, sandbox_id: str) -> SandboxRecord:
        try:
            return self._sandboxes[sandbox_id]
        except KeyError:
            raise NotFound(f'an error occurred when try to find sandbox "{sandbox_id}": not found') from None

    async def run_sandbox(self, config: SandboxConfig) -> str:
        if config.runtime_handler not in _HANDLERS:
            raise RuntimeFailure(f'no runtime for "{config.runtime_handler}" is configured')
        sandbox_id = secrets.token_hex(32)
        record = SandboxRecord(
            id=sandbox_id,
            config=config,
            created_at=clock.now(),
            hostname=config.hostname or config.name,
            cgroup=config.cgroup_parent or f"/podling/{sandbox_id}",
            resources=config.resources,
        )
        if config.user_namespace:
            record.user_base = users.choose_base([other.user_base for other in self._sandboxes.values()])
        self._sandboxes[sandbox_id] = record
        try:
            self._layout.note_parents(record.cgroup)
            self._layout.save(record)
            if config.log_directory:
                os.makedirs(config.log_directory, mode=0o755, exist_ok=True)
            await sandbox.make(self._layout, self._cgroups, record)
            if not config.host_network:
                where = sandbox.netns(self._layout, record)
                record.ips = (await self._network.attach(sandbox_id, where, config.port_mappings)).ips
            if config.share_process_namespace:
                await sandbox.start_init(self._layout, self._oci, record)
            record.phase = Phase.READY
            self._layout.save(record)
        except BaseException as error:
            record.phase = Phase.MAKING
            await self._discard_sandbox(record)
            if isinstance(error, OSError):
                raise RuntimeFailure(f"failed to create pod sandbox: {system_text(error)}") from error
            raise
        self._tell("started", sandbox_id)
        return sandbox_id

    async def _discard_sandbox(self, record: SandboxRecord) -> None:
        await sandbox.stop_init(self._cgroups, self._oci, record)
        if not record.config.host_network:
            await self._network.detach(record.id, sandbox.netns(self._layout, record))
        shared = any(other.cgroup == record.cgroup and other is not record for other in self._sandboxes.values())
        await sandbox.unmake(self._layout, self._cgroups, record, keep_cgroup=shared)
        self._layout.forget(record)
        self._sandboxes.pop(record.id, None)

    async def stop_sandbox(self, sandbox_id: str) -> None:
        record = self._sandboxes.get(sandbox_id)
        if record is None:
            return
        await asyncio.gather(*(self.stop_container(live.record.id, 0) for live in self._of(sandbox_id)))
        if record.phase is Phase.STOPPED:
            return
        await sandbox.stop_init(self._cgroups, self._oci, record)
        if not record.config.host_network:
            await self._network.detach(sandbox_id, sandbox.netns(self._layout, record))
        sandbox.release(self._layout, record)
        if record.phase is Phase.READY:
            record.phase, record.ips = Phase.STOPPED, ()
            self._note(record)
            self._tell("exited", sandbox_id)

    async def remove_sandbox(self, sandbox_id: str) -> None:
        record = self._sandboxes.get(sandbox_id)
        if record is None:
            return
        await self.stop_sandbox(sandbox_id)
        await asyncio.gather(*(self.remove_container(live.record.id) for live in self._of(sandbox_id)))
        await self._discard_sandbox(record)
        self._tell("removed", sandbox_id)

    def _of(self, sandbox_id: str) -> list[Container]:
        return [live for live in self._containers.values() if live.record.sandbox_id == sandbox_id]

    async def sandbox_status(self, sandbox_id: str) -> SandboxStatus:
        return self._sandbox_status(self._sandbox(sandbox_id))

    def _sandbox_status(self, record: SandboxRecord) -> SandboxStatus:
        config = record.config
        return SandboxStatus(
            id=record.id,
            name=config.name,
            namespace=config.namespace,
            uid=config.uid,
            attempt=config.attempt,
            state=SandboxState.READY if record.phase is Phase.READY else SandboxState.NOT_READY,
            created_at=record.created_at,
            ips=record.ips,
            labels=config.labels,
            annotations=config.annotations,
            netns=sandbox.netns(self._layout, record) if record.phase is Phase.READY else "",
        )

    async def list_sandboxes(self) -> list[SandboxStatus]:
        return [self._sandbox_status(record) for record in self._sandboxes.values() if record.phase is not Phase.MAKING]

    async def update_sandbox_resources(self, sandbox_id: str, resources: Resources) -> None:
        record = self._sandbox(sandbox_id)
        _attempt("update the sandbox's resources", self._cgroups.update, record.cgroup, resources)
        record.resources = _merged(record.resources, resources)
        self._note(record)

    # Containers

    def _container(self, container_id: str) -> Container:
        try:
            return self._containers[container_id]
        except KeyError:
            raise NotFound(f'an error occurred when try to find container "{container_id}": not found') from None

    def _running(self, container_id: str) -> ContainerRecord:
        record = self._container(container_id).record
        if record.phase is not Phase.RUNNING:
            raise RuntimeFailure(f'container "{container_id}" is not running (state: {_STATES[record.phase]})')
        return record

    async def create_container(self, sandbox_id: str, config: ContainerConfig) -> str:
        pod = self._sandbox(sandbox_id)
        if pod.phase is not Phase.READY:
            raise RuntimeFailure(f'failed to create container: sandbox "{sandbox_id}" is not running')
        node.check_propagation(config.mounts)
        image = await self._images.status(config.image)
        if image is None:
            raise RuntimeFailure(f'failed to create container: image "{config.image}" not found')
        container_id = secrets.token_hex(32)
        record = ContainerRecord(
            id=container_id,
            sandbox_id=sandbox_id,
            config=config,
            created_at=clock.now(),
            image=image.id,
            cgroup=f"{pod.cgroup}/{container_id}",
            log_path=_log_path(pod.config, config),
            stop_signal=config.stop_signal or image.config.stop_signal or "SIGTERM",
            resources=config.resources,
        )
        live = self._containers[container_id] = Container(record)
        try:
            self._layout.save(record)
            root = self._layout.rootfs(container_id)
            root.mkdir(parents=True)
            await self._images.mount(image.id, container_id, str(root))
            user = rootfs.resolve_user(
                rootfs.read(str(root), "/etc/passwd"),
                rootfs.read(str(root), "/etc/group"),
                image.config.user,
                config.security,
            )
            config = await self._shifted(pod, config, container_id)
            made = spec.build(config, image.config, user, self._placement(pod, config, container_id), self._node)
            self._prepare_root(str(root), made["process"]["cwd"], image.config.volumes, config)
            (self._layout.bundle(container_id) / "config.json").write_bytes(msgspec.json.encode(made))
            record.user = (user.uid, user.gid)
            record.phase = Phase.CREATED
            self._layout.save(record)
        except (OSError, ImageError) as error:
            await self._discard_container(live)
            raise RuntimeFailure(f"failed to create container: {_said(error)}") from error
        except BaseException:
            await self._discard_container(live)
            raise
        return container_id

    async def _shifted(self, pod: SandboxRecord, config: ContainerConfig, container_id: str) -> ContainerConfig:
        """In a user namespace files and volumes have to belong to the pod's range of ids."""
        if not pod.user_base:
            return config
        await asyncio.to_thread(users.shift_owners, str(self._layout.rootfs(container_id)), pod.user_base)
        pinned = str(self._layout.namespaces(pod.id) / "user")
        shifted = []
        for number, volume in enumerate(config.mounts):
            target = self._layout.bundle(container_id) / f"volume-{number}"
            if Path(volume.host_path).is_dir():
                target.mkdir()
            else:
                target.touch()
            users.mount_shifted(volume.host_path, str(target), pinned)
            shifted.append(msgspec.structs.replace(volume, host_path=str(target)))
        return msgspec.structs.replace(config, mounts=tuple(shifted))

    def _prepare_root(self, root: str, cwd: str, volumes: tuple[str, ...], config: ContainerConfig) -> None:
        """Directories that the process or the image expects to be there."""
        mounted = tuple(mount.container_path.rstrip("/") for mount in config.mounts)
        for path in (cwd, *volumes):
            if not any(path == each or path.startswith(each + "/") for each in mounted):
                rootfs.make_directory(root, path)

    def _placement(self, pod: SandboxRecord, config: ContainerConfig, container_id: str) -> spec.Placement:
        directory = self._layout.namespaces(pod.id)
        spaces = {namespaces.OCI_NAMES[kind]: str(directory / kind) for kind in sandbox.own_namespaces(pod.config)}
        spaces["mount"] = ""
        if self._cgroups.version == 2 and not config.security.privileged:
            spaces["cgroup"] = ""
        if config.target_pid_container:
            spaces["pid"] = f"/proc/{self._running(config.target_pid_container).pid}/ns/pid"
        elif pod.config.share_process_namespace:
            spaces["pid"] = str(directory / "pid")
        elif not pod.config.host_pid:
            spaces["pid"] = ""
        files = self._layout.sandboxes / pod.id
        return spec.Placement(
            rootfs=str(self._layout.rootfs(container_id)),
            cgroup=f"{pod.cgroup}/{container_id}",
            namespaces=spaces,
            shm=sandbox.shm(self._layout, pod),
            resolv_conf=str(files / "resolv.conf"),
            hostname_file=str(files / "hostname"),
            hostname=pod.hostname,
            user_base=pod.user_base,
        )

    async def _discard_container(self, live: Container) -> None:
        record = live.record
        self._unwatch_conmon(live)
        await self._oci.delete(record.id)
        await self._cgroups.remove(record.cgroup)
        root = self._layout.rootfs(record.id)
        if root.exists():
            await self._images.unmount(record.id, str(root))
        node.remove_tree(self._layout.bundle(record.id))
        (self._layout.exits / record.id).unlink(missing_ok=True)
        self._layout.forget(record)
        self._containers.pop(record.id, None)

    async def start_container(self, container_id: str) -> None:
        live = self._container(container_id)
        async with live.lock:
            record = live.record
            if record.phase is not Phase.CREATED:
                state = _STATES[record.phase]
                raise RuntimeFailure(f'container "{container_id}" is in state {state}: it can be started once')
            record.phase = Phase.STARTING
            try:
                self._layout.save(record)
                await self._launch(record)
            except BaseException as error:
                await self._cgroups.kill(record.cgroup)
                await self._oci.delete(container_id)
                self._set_exited(live, _START_FAILED, "StartError", _said(error))
                if isinstance(error, OSError):
                    raise RuntimeFailure(f"failed to start container: {_said(error)}") from error
                raise
            record.phase = Phase.RUNNING
            record.started_at = clock.now()
            self._note(record)
            self._tell("started", record.sandbox_id, container_id)
            if exits.read(self._layout.exits, container_id) is not None:
                self._finish(live)
            else:
                self._watch_conmon(live)

    async def _launch(self, record: ContainerRecord) -> None:
        bundle = self._layout.bundle(record.id)
        if record.log_path:
            os.makedirs(os.path.dirname(record.log_path), mode=0o755, exist_ok=True)
        record.pid = await conmon.create(
            self._conmon, self._oci.argv(), record.id, record.config, bundle, self._layout.exits, record.log_path
        )
        record.pid_started = processes.start_time(record.pid)
        record.conmon_pid = int((bundle / "conmon.pid").read_text())
        record.conmon_started = processes.start_time(record.conmon_pid)
        await self._oci.start(record.id)

    async def stop_container(self, container_id: str, timeout: float) -> None:
        live = self._containers.get(container_id)
        if live is None:
            return
        record = live.record
        async with live.lock:  # Not in the middle of its start.
            if record.phase is not Phase.RUNNING:
                return
        if timeout > 0:
            signals.send(record.pid, record.pid_started, signals.number(record.stop_signal))
            try:
                async with asyncio.timeout(timeout):
                    await live.exited.wait()
                return
            except TimeoutError:
                pass
        await self._cgroups.kill(record.cgroup)
        try:
            async with asyncio.timeout(10):
                await live.exited.wait()
        except TimeoutError:
            raise RuntimeFailure(f'container "{container_id}" was killed, but its end was not reported') from None

    async def remove_container(self, container_id: str) -> None:
        live = self._containers.get(container_id)
        if live is None:
            return
        await self.stop_container(container_id, 0)
        async with live.lock:
            if self._containers.get(container_id) is not live:
                return
            await self._cgroups.kill(live.record.cgroup)
            await self._discard_container(live)
        self._tell("removed", live.record.sandbox_id, container_id)

    # What is asked of containers

    async def container_status(self, container_id: str) -> ContainerStatus:
        return _container_status(self._container(container_id).record)

    async def list_containers(self, sandbox_id: str | None = None) -> list[ContainerStatus]:
        chosen = self._containers.values() if sandbox_id is None else self._of(sandbox_id)
        return [_container_status(live.record) for live in chosen if live.record.phase is not Phase.MAKING]

    async def update_resources(self, container_id: str, resources: Resources) -> None:
        record = self._container(container_id).record
        if record.phase is Phase.RUNNING:
            _attempt("update the container's resources", self._cgroups.update, record.cgroup, resources)
        record.resources = _merged(record.resources, resources)
        self._note(record)

    async def reopen_log(self, container_id: str) -> None:
        conmon.reopen_log(self._layout.bundle(self._running(container_id).id))

    async def exec_sync(self, container_id: str, argv: tuple[str, ...], timeout: float | None) -> ExecResult:
        record = self._running(container_id)
        try:
            return await execs.run_sync(self._oci, self._layout.bundle(record.id), record.id, argv, timeout)
        except OSError as error:
            raise RuntimeFailure(f"failed to exec in container: {system_text(error)}") from error

    async def exec(self, container_id: str, argv: tuple[str, ...], *, tty: bool, streams: Streams) -> int:
        record = self._running(container_id)
        return await execs.run(self._oci, self._layout.bundle(record.id), record.id, argv, tty, streams)

    async def attach(self, container_id: str, streams: Streams) -> None:
        record = self._running(container_id)
        await conmon.attach(self._layout.bundle(record.id), streams, tty=record.config.tty)

    async def port_forward(self, sandbox_id: str, port: int, stdin: Source, stdout: Sink) -> None:
        record = self._sandbox(sandbox_id)
        if record.phase is not Phase.READY:
            raise RuntimeFailure(f'sandbox "{sandbox_id}" is not running')
        await forwarding.forward(sandbox.netns(self._layout, record), port, stdin, stdout)

    async def container_stats(self, container_id: str) -> ContainerStats:
        record = self._container(container_id).record
        usage = self._cgroups.usage(record.cgroup)
        written, inodes = await self._images.written(record.id)
        return ContainerStats(
            id=container_id,
            timestamp=clock.now(),
            cpu_usage_ns=usage.cpu_ns,
            memory_working_set=usage.working_set,
            memory_usage=usage.memory,
            memory_rss=usage.rss,
            memory_page_faults=usage.page_faults,
            memory_major_page_faults=usage.major_page_faults,
            pids=usage.pids,
            cpu_user_ns=usage.cpu_user_ns,
            cpu_system_ns=usage.cpu_system_ns,
            cpu_periods=usage.cpu_periods,
            cpu_throttled_periods=usage.cpu_throttled_periods,
            cpu_throttled_ns=usage.cpu_throttled_ns,
            memory_cache=usage.cache,
            memory_mapped_file=usage.mapped_file,
            memory_swap=usage.swap,
            oom_kills=self._cgroups.oom_kills(record.cgroup),
            read_bytes=usage.read_bytes,
            written_bytes=usage.written_bytes,
            rootfs_used=written,
            rootfs_inodes=inodes,
        )


def _container_status(record: ContainerRecord) -> ContainerStatus:
    config = record.config
    return ContainerStatus(
        id=record.id,
        sandbox_id=record.sandbox_id,
        name=config.name,
        attempt=config.attempt,
        state=_STATES[record.phase],
        created_at=record.created_at,
        started_at=record.started_at,
        finished_at=record.finished_at,
        exit_code=record.exit_code,
        signal=record.signal,
        reason=record.reason,
        message=record.message,
        image=record.image,
        image_name=config.image_name,
        labels=config.labels,
        annotations=config.annotations,
        mounts=config.mounts,
        log_path=record.log_path,
        resources=record.resources,
        pid=record.pid if record.phase is Phase.RUNNING else 0,
        user=record.user,
    )


def _log_path(pod: SandboxConfig, config: ContainerConfig) -> str:
    return os.path.join(pod.log_directory, config.log_path) if pod.log_directory and config.log_path else ""


def _merged(old: Resources, new: Resources) -> Resources:
    """`new` where it says something."""
    changed = {name: value for name in Resources.__struct_fields__ if (value := getattr(new, name))}
    return msgspec.structs.replace(old, **changed)


def _said(error: BaseException) -> str:
    return system_text(error) if isinstance(error, OSError) else str(error)


def _attempt(what: str, work: Any, *args: object) -> None:
    try:
        work(*args)
    except OSError as error:
        raise RuntimeFailure(f"failed to {what}: {system_text(error)}") from error
