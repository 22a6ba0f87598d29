"""Which certificates a cluster needs, for whom; and the administrator's kubeconfig.

Made before the parts start, by a process that imports little: keys and signatures take about as long as the imports of
all else.
"""

from __future__ import annotations

from podling.cluster.config import ClusterConfig, Layout
from podling.cluster.pki import KeyPair, Pki, kubeconfig, write_kubeconfig

#: Who a node's service proxy, network policies and cluster DNS are.
PROXY_USER = "system:kube-proxy"
#: Who the API server is when it calls a node agent.
API_SERVER = "kube-apiserver-kubelet-client"
#: And when it calls an aggregated API server.
FRONT_PROXY = "front-proxy-client"


def make(config: ClusterConfig, paths: Layout) -> None:
    """Make what is missing or near its end."""
    pki = Pki(paths.pki, config.name)
    pki.service_account_key()
    api_server(pki, config)
    kubelet_client(pki)
    admin = pki.client("admin", "kubernetes-admin", ("system:masters",))
    write_kubeconfig(
        paths.kubeconfig,
        kubeconfig(
            server=config.server,
            ca=pki.ca.certificate,
            cluster=config.name,
            user=f"{config.name}-admin",
            certificate=admin.certificate,
            key=admin.key,
        ),
    )
    for index, name in enumerate(config.node_names):
        user = f"system:node:{name}"
        pki.client(f"node-{name}", user, ("system:nodes",))
        pki.client(f"proxy-{name}", PROXY_USER, ("system:node-proxiers",))
        pki.serving(f"kubelet-{name}", user, dns=(name,), ips=(config.node_ip(index),))


def api_server(pki: Pki, config: ClusterConfig) -> KeyPair:
    """The API server's, for every name and address that it is reached by."""
    names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost", config.name]
    names.append(f"kubernetes.default.svc.{config.cluster_domain}")
    addresses = ["127.0.0.1", "::1", config.api_service_ip, config.host_ip, *config.listen]
    return pki.serving("apiserver", "kube-apiserver", dns=names, ips=addresses)


def kubelet_client(pki: Pki) -> KeyPair:
    """What the API server shows to node agents."""
    return pki.client("apiserver-kubelet-client", API_SERVER, ("system:masters",))


def front_proxy_client(pki: Pki) -> KeyPair:
    """What the API server shows to aggregated API servers: who shows it may say for whom a request is."""
    return pki.client("front-proxy-client", FRONT_PROXY, authority=pki.front_proxy_ca)
