"""`podling up`: a cluster in about a second."""

from __future__ import annotations

import argparse
import sys
import time

from podling.apiserver import options
from podling.cluster import lifecycle
from podling.cluster.config import ClusterConfig, default_data_dir, layout

DEFAULTS = ClusterConfig()
#: Options that become fields of ClusterConfig, with their help.
OPTIONS = {
    "name": "the cluster's name, also that of its kubeconfig context",
    "nodes": "node agents on this machine, each in a network namespace of its own if more than one",
    "port": "the API server's port",
    "pod_cidr": "the range of pod addresses",
    "service_cidr": "the range of service addresses",
    "node_cidr": "the range of node addresses",
}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--simulate", action="store_true", help="simulated nodes: no root, no containers, any machine")
    parser.add_argument("--foreground", action="store_true", help="stay in the foreground until interrupted")
    parser.add_argument(
        "--insecure-registry", action="append", default=[], metavar="HOST", help="a registry without TLS (repeatable)"
    )
    parser.add_argument(
        "--kube-apiserver-arg",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a flag of the API server under kube-apiserver's name, kept for later starts (repeatable)",
    )
    for name, text in OPTIONS.items():
        default = getattr(DEFAULTS, name)
        parser.add_argument(
            "--" + name.replace("_", "-"), type=type(default), default=None, help=f"{text} (default {default})"
        )


def run(arguments: argparse.Namespace) -> int:
    began = time.perf_counter()
    data = arguments.data_dir or default_data_dir(simulate=arguments.simulate)
    paths = layout(data)
    given = {n: getattr(arguments, n) for n in OPTIONS if getattr(arguments, n) is not None}
    if arguments.simulate:
        given["simulate"] = True
    if arguments.insecure_registry:
        given["insecure_registries"] = arguments.insecure_registry
    config = lifecycle.settle(paths, ClusterConfig(**given), set(given))
    if arguments.kube_apiserver_arg:
        config.kube_apiserver = options.parse(arguments.kube_apiserver_arg, config.kube_apiserver)
    if arguments.foreground:
        return lifecycle.foreground(paths, config)
    started = lifecycle.up(paths, config, lambda text: print(f"  {text}", file=sys.stderr, flush=True))
    if not started:
        print(f"The cluster {config.name} runs already ({config.server}).")
    else:
        print(f"The cluster {config.name} is ready after {time.perf_counter() - began:.1f} s ({config.server}).")
    print(hints(arguments, paths.kubeconfig))
    return 0


def hints(arguments: argparse.Namespace, kubeconfig: object) -> str:
    """What to type next."""
    option = f" --data-dir {arguments.data_dir}" if arguments.data_dir else ""
    return (
        f"  podling kubectl{option} get pods -A\n"
        f"  export KUBECONFIG={kubeconfig}     # for kubectl, helm and others\n"
        f"  podling down{option}"
    )
