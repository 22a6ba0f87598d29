"""Pod + Container -> what the runtime is told: environment, cgroups, resolver, hosts file, security."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podling.api import core_v1
from podling.api.struct import from_dict
from podling.images.base import ImageConfig
from podling.kubelet import cgroups, container_config, dns_config, env, hosts_file, pods, sandbox_config, security
from podling.kubelet.backoff import duration
from podling.kubelet.env import ConfigError
from podling.runtime.base import RuntimeFailure, SeccompKind


def make_pod(container: dict[str, Any] | None = None, **spec: Any) -> core_v1.Pod:
    body = {"containers": [{"name": "app", "image": "i", **(container or {})}], **spec}
    meta = {"name": "web", "namespace": "shop", "uid": "u-1", "labels": {"tier": "front"}}
    return from_dict({"metadata": meta, "spec": body}, core_v1.Pod)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$(A)", "1"),
        ("x$(A)y$(B)", "x1y2"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$(NONE)", "$(NONE)"),
        ("$(A", "$(A"),
        ("$A", "$A"),
        ("$", "$"),
        ("a$", "a$"),
        ("$()", "$()"),
        ("$((A))", "$((A))"),
    ],
)
def test_expansion(text: str, expected: str) -> None:
    assert env.expand(text, env.mapping({"A": "1", "B": "2"})) == expected


@given(st.text(alphabet="ab()", max_size=20))
def test_what_has_no_dollar_stays(text: str) -> None:
    assert env.expand(text, env.mapping({})) == text


@given(st.text(alphabet="a$()", max_size=20))
def test_doubled_dollars_are_literal(text: str) -> None:
    assert env.expand(text.replace("$", "$$"), env.mapping({"a": "x"})) == text


def _service(name: str, namespace: str, ip: str, *ports: dict[str, Any]) -> core_v1.Service:
    body = {"metadata": {"name": name, "namespace": namespace}, "spec": {"clusterIP": ip, "ports": list(ports)}}
    return from_dict(body, core_v1.Service)


def test_services_are_told_as_variables() -> None:
    services = [
        _service("kubernetes", "default", "10.96.0.1", {"name": "https", "port": 443}),
        _service("foo-bar", "shop", "10.96.0.9", {"port": 8765}, {"name": "dns", "port": 53, "protocol": "UDP"}),
        _service("none", "shop", "None", {"port": 1}),
        _service("other", "elsewhere", "10.96.0.8", {"port": 1}),
    ]
    found = env.service_variables(services, "shop", links=True)
    assert found["KUBERNETES_SERVICE_HOST"] == "10.96.0.1"
    assert found["KUBERNETES_SERVICE_PORT_HTTPS"] == "443"
    assert {k: v for k, v in found.items() if k.startswith("FOO_BAR")} == {
        "FOO_BAR_SERVICE_HOST": "10.96.0.9",
        "FOO_BAR_SERVICE_PORT": "8765",
        "FOO_BAR_SERVICE_PORT_DNS": "53",
        "FOO_BAR_PORT": "tcp://10.96.0.9:8765",
        "FOO_BAR_PORT_8765_TCP": "tcp://10.96.0.9:8765",
        "FOO_BAR_PORT_8765_TCP_PROTO": "tcp",
        "FOO_BAR_PORT_8765_TCP_PORT": "8765",
        "FOO_BAR_PORT_8765_TCP_ADDR": "10.96.0.9",
        "FOO_BAR_PORT_53_UDP": "udp://10.96.0.9:53",
        "FOO_BAR_PORT_53_UDP_PROTO": "udp",
        "FOO_BAR_PORT_53_UDP_PORT": "53",
        "FOO_BAR_PORT_53_UDP_ADDR": "10.96.0.9",
    }
    assert not any("NONE" in name or "OTHER" in name for name in found)
    assert all(n.startswith("KUBERNETES") for n in env.service_variables(services, "shop", links=False))


def _environment(container: dict[str, Any], **context: Any) -> dict[str, str]:
    pod = make_pod(container)
    maps = {"settings": core_v1.ConfigMap(data={"one": "1", "two": "2"})}
    secrets = {"keys": core_v1.Secret(data={"pw": "czNjcmV0"})}
    given_context = env.Context(
        sources=env.Sources(maps, secrets),  # type: ignore[arg-type]
        node_name="node-1",
        ips=("10.244.0.5",),
        host_ips=("10.213.0.1",),
        allocatable={"cpu": "4", "memory": "8Gi"},
        **context,
    )
    return env.environment(pod, pod.spec.containers[0], given_context)


def test_environment_in_all_forms() -> None:
    def field(path: str) -> dict[str, Any]:
        return {"fieldRef": {"fieldPath": path}}

    container = {
        "resources": {"limits": {"cpu": "500m"}},
        "envFrom": [{"configMapRef": {"name": "settings"}, "prefix": "S_"}, {"secretRef": {"name": "keys"}}],
        "env": [
            {"name": "PLAIN", "value": "x"},
            {"name": "MADE", "value": "$(PLAIN)-$(S_one)-$(LATER)"},
            {"name": "LATER", "value": "y"},
            {"name": "S_two", "value": "over"},
            {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "pw"}}},
            {"name": "GONE", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "no", "optional": True}}},
            {"name": "IP", "valueFrom": field("status.podIP")},
            {"name": "HOST", "valueFrom": field("status.hostIP")},
            {"name": "NODE", "valueFrom": field("spec.nodeName")},
            {"name": "TIER", "valueFrom": field("metadata.labels['tier']")},
            {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}},
            {"name": "MEM", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Gi"}}},
        ],
    }
    assert _environment(container) == {
        "S_one": "1",
        "S_two": "over",
        "pw": "s3cret",
        "PLAIN": "x",
        "MADE": "x-1-$(LATER)",
        "LATER": "y",
        "KEY": "s3cret",
        "IP": "10.244.0.5",
        "HOST": "10.213.0.1",
        "NODE": "node-1",
        "TIER": "front",
        "CPU": "500",
        "MEM": "8",
    }


def test_a_missing_key_is_an_error_in_upstreams_words() -> None:
    source = {"configMapKeyRef": {"name": "settings", "key": "no"}}
    with pytest.raises(ConfigError, match=r"^couldn't find key no in ConfigMap shop/settings$"):
        _environment({"env": [{"name": "A", "valueFrom": source}]})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A=1\n# no\n\nB='two words'\nC=\"3\"", {"A": "1", "B": "two words", "C": "3"}),
        ("broken\nA = x ", {"A": "x"}),
    ],
)
def test_env_files(text: str, expected: dict[str, str]) -> None:
    assert env.parse_env_file(text) == expected


@pytest.mark.parametrize(
    ("resources", "qos"),
    [
        ({}, "BestEffort"),
        ({"requests": {"cpu": "1"}}, "Burstable"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Gi"}}, "Guaranteed"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m", "memory": "1Gi"}}, "Burstable"),
        ({"limits": {"memory": "1Gi"}, "requests": {"memory": "1Gi"}}, "Burstable"),
        ({"requests": {"cpu": "0"}}, "BestEffort"),
    ],
)
def test_qos(resources: dict[str, Any], qos: str) -> None:
    pod = make_pod({"resources": resources})
    assert pods.qos_class(pod) == qos
    parent = {"Guaranteed": "", "Burstable": "/burstable", "BestEffort": "/besteffort"}[qos]
    assert cgroups.pod_cgroup(pod) == f"/kubepods{parent}/podu-1"


@pytest.mark.parametrize(
    ("milli", "shares", "quota"),
    [(0, 2, 0), (1, 2, 1000), (2, 2, 1000), (10, 10, 1000), (250, 256, 25_000), (1000, 1024, 100_000)],
)
def test_cpu_as_cgroup_values(milli: int, shares: int, quota: int) -> None:
    assert cgroups.shares(milli) == shares
    assert cgroups.quota(milli) == quota


def test_the_pods_cgroup_is_limited_only_if_all_of_it_is() -> None:
    limited = {"name": "app", "image": "i", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}
    free = {"name": "free", "image": "i"}
    both = cgroups.pod_resources_config(make_pod(containers=[limited, free]))
    assert (both.cpu_quota, both.memory_limit) == (0, 0)
    alone = cgroups.pod_resources_config(make_pod(containers=[limited]))
    assert (alone.cpu_quota, alone.memory_limit) == (100_000, 1 << 30)


@pytest.mark.parametrize(
    ("resources", "score"),
    [
        ({}, 1000),
        ({"requests": {"memory": "2Gi"}}, 750),
        ({"requests": {"cpu": "1m"}}, 999),
        ({"requests": {"memory": "8Gi"}}, 3),
        ({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Gi"}}, -997),
    ],
)
def test_oom_scores(resources: dict[str, Any], score: int) -> None:
    pod = make_pod({"resources": resources})
    assert cgroups.oom_score(pod, pod.spec.containers[0], 8 << 30) == score


HOST = dns_config.ResolvConf(("192.0.2.1",), ("corp.example",), ("edns0",))


@pytest.mark.parametrize(
    ("spec", "servers", "searches", "options"),
    [
        (
            {},
            ("10.96.0.10",),
            ("shop.svc.cluster.local", "svc.cluster.local", "cluster.local", "corp.example"),
            ("ndots:5",),
        ),
        ({"dnsPolicy": "Default"}, ("192.0.2.1",), ("corp.example",), ("edns0",)),
        ({"hostNetwork": True}, ("192.0.2.1",), ("corp.example",), ("edns0",)),
        (
            {"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"},
            ("10.96.0.10",),
            ("shop.svc.cluster.local", "svc.cluster.local", "cluster.local", "corp.example"),
            ("ndots:5",),
        ),
        (
            {
                "dnsPolicy": "None",
                "dnsConfig": {
                    "nameservers": ["1.1.1.1"],
                    "searches": ["x.y"],
                    "options": [{"name": "ndots", "value": "2"}, {"name": "rotate"}],
                },
            },
            ("1.1.1.1",),
            ("x.y",),
            ("ndots:2", "rotate"),
        ),
        (
            {"dnsConfig": {"options": [{"name": "ndots", "value": "1"}]}},
            ("10.96.0.10",),
            ("shop.svc.cluster.local", "svc.cluster.local", "cluster.local", "corp.example"),
            ("ndots:1",),
        ),
    ],
)
def test_dns(spec: dict[str, Any], servers: Any, searches: Any, options: Any) -> None:
    made = dns_config.pod_dns(make_pod(**spec), HOST, ("10.96.0.10",), "cluster.local").config
    assert (made.servers, made.searches, made.options) == (servers, searches, options)


def test_too_many_nameservers_are_told() -> None:
    pod = make_pod(dnsPolicy="None", dnsConfig={"nameservers": ["1.1.1.1", "2.2.2.2", "3.3.3.3", "4.4.4.4"]})
    made = dns_config.pod_dns(pod, HOST, (), "cluster.local")
    assert made.config.servers == ("1.1.1.1", "2.2.2.2", "3.3.3.3")
    assert made.warnings[0][0] == "DNSConfigForming"


def test_hosts_file() -> None:
    alias = core_v1.HostAlias(ip="10.0.0.1", hostnames=["a", "b"])
    text = hosts_file.managed(["10.244.0.5"], "web", "sub.shop.svc.cluster.local", [alias])
    assert text.startswith("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n")
    assert "10.244.0.5\tweb.sub.shop.svc.cluster.local\tweb\n" in text
    assert text.endswith("\n# Entries added by HostAliases.\n10.0.0.1\ta\tb\n")


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, ("web", "")),
        ({"hostname": "h"}, ("h", "")),
        ({"hostname": "h", "subdomain": "s"}, ("h", "s.shop.svc.cluster.local")),
        ({"hostnameOverride": "x.y"}, ("x.y", "")),
    ],
)
def test_hostnames(spec: dict[str, Any], expected: tuple[str, str]) -> None:
    assert sandbox_config.hostname_and_domain(make_pod(**spec), "cluster.local") == expected


def test_a_name_too_long_for_the_kernel() -> None:
    pod = make_pod(hostname="h" * 60, subdomain="s", setHostnameAsFQDN=True)
    hostname, domain = sandbox_config.hostname_and_domain(pod, "cluster.local")
    with pytest.raises(RuntimeFailure, match="is too long"):
        sandbox_config.node_name_of_host(pod, hostname, domain)


@pytest.mark.parametrize(
    ("pod_context", "context", "user", "error"),
    [
        ({}, {}, "", ""),
        ({"runAsNonRoot": True}, {}, "", "container has runAsNonRoot and image will run as root"),
        ({"runAsNonRoot": True}, {}, "web", "container has runAsNonRoot and image has non-numeric user (web)"),
        ({"runAsNonRoot": True}, {}, "1000:1000", ""),
        ({"runAsNonRoot": True}, {"runAsUser": 0}, "", "container's runAsUser breaks non-root policy"),
        ({"runAsNonRoot": True}, {"runAsUser": 7}, "", ""),
        ({"runAsNonRoot": True}, {"runAsNonRoot": False}, "", ""),
    ],
)
def test_run_as_non_root(pod_context: dict[str, Any], context: dict[str, Any], user: str, error: str) -> None:
    pod = make_pod({"securityContext": context}, securityContext=pod_context)
    image = ImageConfig(user=user)
    if not error:
        security.security_context(pod, pod.spec.containers[0], image, seccomp_root="/s")
        return
    with pytest.raises(ConfigError) as raised:
        security.security_context(pod, pod.spec.containers[0], image, seccomp_root="/s")
    assert str(raised.value).startswith(error)
    assert '(pod: "web_shop(u-1)", container: app)' in str(raised.value)


def test_the_containers_security_context_wins() -> None:
    own = {
        "runAsUser": 5,
        "allowPrivilegeEscalation": False,
        "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]},
        "seccompProfile": {"type": "Localhost", "localhostProfile": "a.json"},
        "procMount": "Unmasked",
        "readOnlyRootFilesystem": True,
    }
    general = {
        "runAsUser": 1,
        "runAsGroup": 2,
        "fsGroup": 3,
        "supplementalGroups": [4, 3],
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    pod = make_pod({"securityContext": own}, securityContext=general)
    made = security.security_context(pod, pod.spec.containers[0], ImageConfig(), seccomp_root="/s")
    assert (made.run_as_user, made.run_as_group, made.supplemental_groups) == (5, 2, (4, 3))
    assert (made.no_new_privs, made.readonly_rootfs) == (True, True)
    assert (made.add_capabilities, made.drop_capabilities) == (("NET_ADMIN",), ("ALL",))
    assert (made.seccomp, made.seccomp_localhost) == (SeccompKind.LOCALHOST, "/s/a.json")
    assert made.masked_paths == () and made.readonly_paths == ()


@pytest.mark.parametrize(
    ("volume", "mount", "readonly"),
    [
        ({"emptyDir": {}}, {}, False),
        ({"emptyDir": {}}, {"readOnly": True}, True),
        ({"hostPath": {"path": "/x"}}, {}, False),
        ({"configMap": {"name": "c"}}, {}, True),
        ({"configMap": {"name": "c"}}, {"readOnly": False}, True),
        ({"secret": {"secretName": "s"}}, {}, True),
        ({"downwardAPI": {"items": []}}, {}, True),
        ({"projected": {"sources": []}}, {}, True),
        ({"image": {"reference": "i"}}, {}, True),
        ({"nfs": {"server": "s", "path": "/p"}}, {}, False),
        ({"nfs": {"server": "s", "path": "/p", "readOnly": True}}, {}, True),
        ({"persistentVolumeClaim": {"claimName": "c"}}, {}, False),
        ({"persistentVolumeClaim": {"claimName": "c", "readOnly": True}}, {}, True),
    ],
)
def test_which_mounts_are_read_only(volume: dict[str, Any], mount: dict[str, Any], readonly: bool) -> None:
    pod = make_pod(
        {
            "volumeMounts": [{"name": "v", "mountPath": "/m", **mount}],
            "volumeDevices": [{"name": "v", "devicePath": "/d"}],
        },
        volumes=[{"name": "v", **volume}],
    )
    container = pod.spec.containers[0]
    (made,) = container_config.mounts(pod, container, {"v": "/v"}, {}, lambda *_: "", container_config.Files())
    assert made.readonly is readonly
    if "persistentVolumeClaim" in volume:
        (device,) = container_config.devices(pod, container, {"v": "/dev/x"})
        assert device.permissions == ("r" if readonly else "rwm")


@pytest.mark.parametrize(
    ("mount", "environment", "expected"),
    [
        ({"subPath": "a/b"}, {}, "a/b"),
        ({"subPathExpr": "x/$(POD)"}, {"POD": "web"}, "x/web"),
        ({"subPathExpr": "$(POD)"}, {}, 'missing value for "POD"'),
        ({"subPathExpr": "$(POD)"}, {"POD": "/etc"}, "error SubPath `/etc` must not be an absolute path"),
        ({"subPathExpr": "$(POD)"}, {"POD": "../x"}, "unable to provision SubPath `../x`: must not contain '..'"),
    ],
)
def test_sub_paths(mount: dict[str, str], environment: dict[str, str], expected: str) -> None:
    given_mount = from_dict({"name": "v", "mountPath": "/m", **mount}, core_v1.VolumeMount)
    try:
        assert container_config.expanded_sub_path(given_mount, environment) == expected
    except ConfigError as error:
        assert str(error) == expected


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (10, "10s"), (80, "1m20s"), (300, "5m0s"), (3600, "1h0m0s"), (1.5, "1.5s"), (0.25, "250ms"),
     (0.393, "393ms"), (2.137, "2.137s")],
)  # fmt: skip
def test_durations_as_go_prints_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text
