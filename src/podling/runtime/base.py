"""What the node agent asks of a container runtime: the verbs of CRI (k8s.io/cri-api runtime.v1), as Python.

Implementations: `oci` (conmon and crun or runc), `fake` (virtual containers, for simulations). A sandbox is a pod's
namespaces and cgroup; containers live in one. All verbs are idempotent as CRI demands: stopping what is stopped and
removing what is gone succeed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Protocol

import msgspec

from podling.errors import PodlingError
from podling.network.base import PortMapping


class RuntimeFailure(PodlingError):
    """A verb failed; the text is fit for an event or a container's waiting message."""


class NotFound(RuntimeFailure):
    """No such container or sandbox."""


class SandboxState(StrEnum):
    READY = "ready"
    NOT_READY = "not_ready"


class ContainerState(StrEnum):
    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"
    UNKNOWN = "unknown"


class SeccompKind(StrEnum):
    RUNTIME_DEFAULT = "RuntimeDefault"
    UNCONFINED = "Unconfined"
    LOCALHOST = "Localhost"


class Resources(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of a cgroup. CPU shares in v1's scale (2 to 262144; v2's weight is derived), quota and period in µs,
    memory in bytes, hugepages as page size ("2MB") -> bytes; None or 0 leaves a value alone."""

    cpu_shares: int = 0
    cpu_quota: int = 0
    cpu_period: int = 0
    memory_limit: int = 0
    pids_limit: int = 0
    oom_score_adj: int = 0
    cpuset_cpus: str = ""
    hugepages: Mapping[str, int] = {}


class DNSConfig(msgspec.Struct, frozen=True):
    """What becomes the sandbox's /etc/resolv.conf."""

    servers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


class SandboxConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A pod's sandbox. `log_directory` is absolute; `cgroup_parent` is a cgroup path such as
    `/kubepods/burstable/pod<uid>` that the runtime makes if it is missing, with `resources` as its limits."""

    name: str
    namespace: str
    uid: str
    attempt: int = 0
    hostname: str = ""
    log_directory: str = ""
    dns: DNSConfig | None = None
    port_mappings: tuple[PortMapping, ...] = ()
    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}
    cgroup_parent: str = ""
    resources: Resources = Resources()
    sysctls: Mapping[str, str] = {}
    host_network: bool = False
    host_pid: bool = False
    host_ipc: bool = False
    share_process_namespace: bool = False
    user_namespace: bool = False
    runtime_handler: str = ""


class SandboxStatus(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    name: str
    namespace: str
    uid: str
    attempt: int
    state: SandboxState
    created_at: datetime
    ips: tuple[str, ...] = ()
    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}
    netns: str = ""


class Mount(msgspec.Struct, frozen=True, kw_only=True):
    """A bind mount. `propagation` is private, rslave (HostToContainer) or rshared (Bidirectional)."""

    host_path: str
    container_path: str
    readonly: bool = False
    recursive_readonly: bool = False
    propagation: str = "private"


class Device(msgspec.Struct, frozen=True):
    host_path: str
    container_path: str
    permissions: str = "rwm"


class SecurityContext(msgspec.Struct, frozen=True, kw_only=True):
    """`run_as_username` is a name out of the image, used when `run_as_user` is None."""

    run_as_user: int | None = None
    run_as_group: int | None = None
    run_as_username: str = ""
    supplemental_groups: tuple[int, ...] = ()
    supplemental_groups_strict: bool = False
    privileged: bool = False
    readonly_rootfs: bool = False
    no_new_privs: bool = False
    add_capabilities: tuple[str, ...] = ()
    drop_capabilities: tuple[str, ...] = ()
    seccomp: SeccompKind = SeccompKind.UNCONFINED
    seccomp_localhost: str = ""
    apparmor_profile: str = ""
    masked_paths: tuple[str, ...] | None = None
    readonly_paths: tuple[str, ...] | None = None


class ContainerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A container to be made. `image` is an image id that the image service has; `command` and `args` override the
    image's entrypoint and cmd as Kubernetes defines; `log_path` is relative to the sandbox's log directory;
    `target_pid_container` joins the PID namespace of that container (kubectl debug --target)."""

    name: str
    attempt: int = 0
    image: str
    image_name: str = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    working_dir: str = ""
    env: tuple[tuple[str, str], ...] = ()
    mounts: tuple[Mount, ...] = ()
    devices: tuple[Device, ...] = ()
    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}
    log_path: str = ""
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False
    resources: Resources = Resources()
    security: SecurityContext = SecurityContext()
    target_pid_container: str = ""
    stop_signal: str = ""


class ContainerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """`reason` is Completed, Error, OOMKilled or, when it never ran, ContainerCannotRun/StartError with `message`."""

    id: str
    sandbox_id: str
    name: str
    attempt: int
    state: ContainerState
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    exit_code: int = 0
    signal: int = 0
    reason: str = ""
    message: str = ""
    image: str = ""
    image_name: str = ""
    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}
    mounts: tuple[Mount, ...] = ()
    log_path: str = ""
    resources: Resources = Resources()
    pid: int = 0
    user: tuple[int, int] | None = None


class ContainerStats(msgspec.Struct, frozen=True, kw_only=True):
    """CPU in cumulative core nanoseconds, memory and file system in bytes, at `timestamp`."""

    id: str
    timestamp: datetime
    cpu_usage_ns: int = 0
    cpu_user_ns: int = 0
    cpu_system_ns: int = 0
    cpu_periods: int = 0
    cpu_throttled_periods: int = 0
    cpu_throttled_ns: int = 0
    memory_working_set: int = 0
    memory_usage: int = 0
    memory_rss: int = 0
    memory_page_faults: int = 0
    memory_major_page_faults: int = 0
    memory_cache: int = 0
    memory_mapped_file: int = 0
    memory_swap: int = 0
    oom_kills: int = 0
    read_bytes: int = 0
    written_bytes: int = 0
    pids: int = 0
    rootfs_used: int = 0
    rootfs_inodes: int = 0


class RuntimeEvent(msgspec.Struct, frozen=True):
    """Something changed in a sandbox: `kind` is started, exited or removed. The hint to look; the status is truth."""

    kind: str
    sandbox_id: str
    container_id: str = ""


class ExecResult(msgspec.Struct, frozen=True):
    stdout: bytes
    stderr: bytes
    exit_code: int


class ExecTimeout(RuntimeFailure):
    """The command did not end in time; it was killed."""


#: Gives the next bytes, b"" at the end.
Source = Callable[[], Awaitable[bytes]]
#: Takes bytes; returns when more may be given (back pressure).
Sink = Callable[[bytes], Awaitable[None]]
#: Terminal sizes as (width, height), one each time the window changes.
Resizes = AsyncIterator[tuple[int, int]]


class Streams(msgspec.Struct, kw_only=True):
    """The ends of an exec, attach or port forward. With a tty everything comes on `stdout`."""

    stdin: Source | None = None
    stdout: Sink | None = None
    stderr: Sink | None = None
    resize: Resizes | None = None


class Runtime(Protocol):
    """Failures are RuntimeFailure, absent things NotFound (never from stop and remove)."""

    name: str

    async def version(self) -> str:
        """Such as `1.8.1`; node status shows `<name>://<version>`."""

    async def start(self) -> None:
        """Find what survived the last run: sandboxes and containers are adopted, exits that happened are known."""

    async def close(self) -> None:
        """Let go of everything without stopping any container."""

    def problem(self) -> str:
        """Why no container can be started, "" if they can. Cheap."""

    async def run_sandbox(self, config: SandboxConfig) -> str: ...

    async def stop_sandbox(self, sandbox_id: str) -> None:
        """Kill what is left in it and take it off the network."""

    async def remove_sandbox(self, sandbox_id: str) -> None: ...

    async def sandbox_status(self, sandbox_id: str) -> SandboxStatus: ...

    async def list_sandboxes(self) -> list[SandboxStatus]: ...

    async def create_container(self, sandbox_id: str, config: ContainerConfig) -> str: ...

    async def start_container(self, container_id: str) -> None: ...

    async def stop_container(self, container_id: str, timeout: float) -> None:
        """Stop signal, then SIGKILL after `timeout` seconds; returns when it has exited."""

    async def remove_container(self, container_id: str) -> None: ...

    async def container_status(self, container_id: str) -> ContainerStatus: ...

    async def list_containers(self, sandbox_id: str | None = None) -> list[ContainerStatus]: ...

    async def update_resources(self, container_id: str, resources: Resources) -> None: ...

    async def update_sandbox_resources(self, sandbox_id: str, resources: Resources) -> None: ...

    async def reopen_log(self, container_id: str) -> None:
        """The log file was moved away: begin a new one."""

    async def exec_sync(self, container_id: str, argv: tuple[str, ...], timeout: float | None) -> ExecResult:
        """Output is cut at 16 MiB. Raises ExecTimeout."""

    async def exec(self, container_id: str, argv: tuple[str, ...], *, tty: bool, streams: Streams) -> int:
        """Run a command beside the container's own; returns its exit code."""

    async def attach(self, container_id: str, streams: Streams) -> None:
        """Connect to the main process until either side ends."""

    async def port_forward(self, sandbox_id: str, port: int, stdin: Source, stdout: Sink) -> None:
        """Connect to localhost:`port` inside the sandbox's network namespace and copy both ways."""

    async def container_stats(self, container_id: str) -> ContainerStats: ...

    def events(self) -> AsyncIterator[RuntimeEvent]:
        """From now on, without end. One consumer."""
