"""What a cluster is made of, kept as `cluster.json` in its data directory, and where its files are.

<data>/cluster.json          this configuration; the directory belongs to the cluster that it names
<data>/state.db              the store
<data>/pki/                  certificates and keys
<data>/admin.kubeconfig      full power, for the owner of the directory
<data>/images/               the image store, shared by the nodes of this machine
<data>/nodes/<node>/         a node agent's own: pods, volumes, sandboxes
<data>/logs/                 what the processes say
<run>/                       what does not outlive a reboot: pins of namespaces, sockets, the supervisor's pid
"""

from __future__ import annotations

import ipaddress
import os
import re
import sys
from pathlib import Path

import msgspec

from podling.apiserver.options import Options
from podling.errors import PodlingError

#: The layout of the data directory; a directory of another one is refused.
FORMAT = 1


class ClusterError(PodlingError):
    """A cluster can't be started, stopped or found as asked."""


class ClusterConfig(msgspec.Struct, kw_only=True, omit_defaults=False, forbid_unknown_fields=True):
    """`listen` are the addresses of the API server; `node_bridge` carries the node network on this machine."""

    format: int = FORMAT
    name: str = "podling"
    simulate: bool = False
    nodes: int = 1
    port: int = 6443
    listen: list[str] = []
    cluster_domain: str = "cluster.local"
    pod_cidr: str = "10.244.0.0/16"
    service_cidr: str = "10.96.0.0/16"
    node_cidr: str = "10.213.0.0/24"
    node_port_range: str = "30000-32767"
    insecure_registries: list[str] = []
    kube_apiserver: Options = Options()

    @property
    def node_names(self) -> list[str]:
        """`podling` for a single node; `podling-1`, `podling-2`, ... for several."""
        return [self.name] if self.nodes == 1 else [f"{self.name}-{n}" for n in range(1, self.nodes + 1)]

    @property
    def api_service_ip(self) -> str:
        """The ClusterIP of the `kubernetes` Service: the first of the range."""
        return str(ipaddress.ip_network(self.service_cidr)[1])

    @property
    def dns_ip(self) -> str:
        """The ClusterIP of cluster DNS: the tenth of the range."""
        return str(ipaddress.ip_network(self.service_cidr)[10])

    @property
    def host_ip(self) -> str:
        """This machine's address on the node network (simulated clusters only speak of it)."""
        return str(ipaddress.ip_network(self.node_cidr)[1])

    def node_ip(self, index: int) -> str:
        """The address of the node with `index` (from 0): this machine's own if there is but one node."""
        if self.simulate:
            return "127.0.0.1"
        return self.host_ip if self.nodes == 1 else str(ipaddress.ip_network(self.node_cidr)[11 + index])

    @property
    def server(self) -> str:
        """The API server's URL for people on this machine."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def short_id(self) -> str:
        """At most eight characters out of the name, for network interfaces (15 at most) and nftables tables."""
        return self.name if len(self.name) <= 8 else f"{self.name[:4]}{_checksum(self.name):04x}"


def _checksum(text: str) -> int:
    import zlib

    return zlib.crc32(text.encode()) & 0xFFFF


class Layout(msgspec.Struct, frozen=True):
    """The paths of a cluster."""

    data: Path
    run: Path

    @property
    def config(self) -> Path:
        return self.data / "cluster.json"

    @property
    def store(self) -> Path:
        return self.data / "state.db"

    @property
    def pki(self) -> Path:
        return self.data / "pki"

    @property
    def kubeconfig(self) -> Path:
        return self.data / "admin.kubeconfig"

    @property
    def images(self) -> Path:
        return self.data / "images"

    @property
    def logs(self) -> Path:
        return self.data / "logs"

    @property
    def pid(self) -> Path:
        return self.run / "supervisor.pid"

    def node(self, name: str) -> Path:
        return self.data / "nodes" / name

    def node_run(self, name: str) -> Path:
        return self.run / "nodes" / name

    def log(self, part: str) -> Path:
        """`part` is supervisor, control-plane or a node's name."""
        return self.logs / f"{part}.log"


def default_data_dir(*, simulate: bool = False) -> Path:
    """PODLING_DATA_DIR, or where the system keeps such things: /var/lib for root, the user's own otherwise."""
    if chosen := os.environ.get("PODLING_DATA_DIR"):
        return Path(chosen)
    name = "podling-simulated" if simulate else "podling"
    if sys.platform == "linux" and os.geteuid() == 0:
        return Path("/var/lib") / name
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / name


def layout(data: Path) -> Layout:
    """The run directory lies on a tmpfs where there is one; it is told apart by the data directory's path."""
    data = data.expanduser().absolute()
    if sys.platform == "linux" and os.geteuid() == 0:
        root = Path("/run/podling")
        same = data == Path("/var/lib/podling")
        return Layout(data, root / ("default" if same else f"{data.name}-{_checksum(str(data)):04x}"))
    return Layout(data, data / "run")


def load(paths: Layout) -> ClusterConfig | None:
    """The configuration of the cluster in a data directory; None if there is none. Raises ClusterError."""
    try:
        raw = paths.config.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ClusterError(f"can't read {paths.config}: {error.strerror}") from error
    try:
        version = msgspec.json.decode(raw, type=dict).get("format")
        if version != FORMAT:
            raise ClusterError(
                f"{paths.data} was made by a podling with data format {version}, this one has format {FORMAT}: "
                "use that version, or give another --data-dir"
            )
        return msgspec.json.decode(raw, type=ClusterConfig)
    except msgspec.DecodeError as error:
        raise ClusterError(f"{paths.config} is damaged ({error}): restore it, or give another --data-dir") from error


def save(paths: Layout, config: ClusterConfig) -> None:
    """Write the configuration, whole or not at all."""
    paths.data.mkdir(parents=True, exist_ok=True)
    os.chmod(paths.data, 0o700)
    temporary = paths.config.with_suffix(".new")
    temporary.write_bytes(msgspec.json.format(msgspec.json.encode(config), indent=2) + b"\n")
    os.replace(temporary, paths.config)


def check(config: ClusterConfig) -> None:
    """Raise ClusterError with one sentence if the configuration can't work."""
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,40}[a-z0-9])?", config.name):
        raise ClusterError(f"--name {config.name!r}: use at most 42 lower-case letters, digits and dashes")
    if not 1 <= config.port <= 65535:
        raise ClusterError(f"--port {config.port}: a port is between 1 and 65535")
    most = 1000 if config.simulate else 100
    if not 1 <= config.nodes <= most:
        raise ClusterError(f"--nodes {config.nodes}: between 1 and {most} nodes on one machine")
    networks = []
    for option in ("pod_cidr", "service_cidr", "node_cidr"):
        value = getattr(config, option)
        try:
            networks.append((option, ipaddress.ip_network(value)))
        except ValueError as error:
            raise ClusterError(f"--{option.replace('_', '-')} {value}: {error}") from error
    for n, (option, network) in enumerate(networks):
        for other, second in networks[:n]:
            if network.overlaps(second):
                raise ClusterError(
                    f"--{option.replace('_', '-')} {network} overlaps --{other.replace('_', '-')} {second}"
                )
