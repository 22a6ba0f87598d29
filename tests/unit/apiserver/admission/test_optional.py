"""Admission plugins that an administrator switches on, and the configurations of plugins."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from apiserver.authn.provider import ca, listening
from apiserver.harness import Server, config_map, pod, running
from podling import clock
from podling.api import core_v1, meta_v1, networking_v1, storage_v1
from podling.api.errors import StatusError
from podling.api.request import Request, User
from podling.api.struct import clone
from podling.apiserver import assembly, options
from podling.apiserver.admission.default import OPTIONAL, default_chain
from podling.apiserver.authz.attributes import Decision
from podling.apiserver.options import OptionError
from podling.client import kubeconfig
from podling.client.kubeconfig import Config


@asynccontextmanager
async def with_plugins(*names: str, config: Path | None = None) -> AsyncIterator[Server]:
    arguments = [f"enable-admission-plugins={','.join(names)}"]
    if config is not None:
        arguments.append(f"admission-control-config-file={config}")
    async with running(admission=False) as server:
        server.app.admission = default_chain(server.app, options=options.parse(arguments))
        yield server


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def go() -> None:
        await main()

    clock.run_virtual(go())


async def refused(made: Awaitable[Any], code: int = 403) -> str:
    with pytest.raises(StatusError) as caught:
        await made
    assert caught.value.code == code
    return str(caught.value)


def written(folder: Path, **configurations: Any) -> Path:
    path = folder / "admission.yaml"
    plugins = [{"name": name, "configuration": document} for name, document in configurations.items()]
    path.write_text(
        json.dumps({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AdmissionConfiguration", "plugins": plugins})
    )
    return path


def namespace(name: str, **annotations: str) -> core_v1.Namespace:
    named = {f"scheduler.alpha.kubernetes.io/{k}": v for k, v in annotations.items()}
    return core_v1.Namespace(metadata=meta_v1.ObjectMeta(name=name, annotations=named or None))


async def in_namespace(server: Server, made: core_v1.Namespace) -> str:
    await server.client.create(made)
    name = made.metadata.name or ""
    account = core_v1.ServiceAccount(metadata=meta_v1.ObjectMeta(name="default", namespace=name))
    await server.client.create(account)
    return name


def test_none_is_loaded_unless_it_is_wanted() -> None:
    import subprocess
    import sys

    code = "import sys; from podling.apiserver import assembly; print([m for m in sys.modules if 'admission' in m])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "pod_security'" in loaded
    for module, _ in OPTIONAL.values():
        assert f".{module}'" not in loaded


def test_every_optional_plugin_is_there_under_its_name() -> None:
    async def main() -> None:
        names = [n for n in OPTIONAL if n not in ("EventRateLimit", "ImagePolicyWebhook")]
        async with with_plugins(*names) as server:
            found = [p.name for p in server.app.admission.plugins]  # type: ignore[attr-defined]
            assert found[:3] == ["NamespaceAutoProvision", "NamespaceLifecycle", "NamespaceExists"]
            assert set(names) <= set(found) and found[-1] == "ResourceQuota"

    run(main)


def test_images_are_always_pulled() -> None:
    async def main() -> None:
        async with with_plugins("AlwaysPullImages") as server:
            container = core_v1.Container(name="c", image="busybox:1", image_pull_policy="Never")
            init = core_v1.Container(name="i", image="busybox:1")
            volume = core_v1.Volume(name="v", image=core_v1.ImageVolumeSource(reference="x", pull_policy="Never"))
            made = await server.client.create(
                pod("p", containers=[container], init_containers=[init], volumes=[volume])
            )
            assert {c.image_pull_policy for c in (*made.spec.containers, *made.spec.init_containers)} == {"Always"}
            assert next(v for v in made.spec.volumes if v.image).image.pull_policy == "Always"

    run(main)


def test_namespaces_are_made_on_the_way() -> None:
    async def main() -> None:
        async with with_plugins("NamespaceAutoProvision") as server:
            await server.client.create(config_map("a", namespace="new"))
            assert (await server.client.get(core_v1.Namespace, "new")).metadata.name == "new"

    run(main)


def test_namespaces_must_be_there() -> None:
    async def main() -> None:
        async with with_plugins("NamespaceExists") as server:
            why = await refused(server.client.create(config_map("a", namespace="nope")), 404)
            assert why == 'namespaces "nope" not found'

    run(main)


def test_pods_with_devices_tolerate_their_nodes() -> None:
    async def main() -> None:
        async with with_plugins("ExtendedResourceToleration") as server:
            resources = core_v1.ResourceRequirements(
                requests={"acme.com/gpu": "1", "cpu": "1", "example.com/a": "2"},
                limits={"acme.com/gpu": "1", "example.com/a": "2"},
            )
            made = await server.client.create(
                pod("p", containers=[core_v1.Container(name="c", image="x", resources=resources)])
            )
            found = [(t.key, t.operator, t.effect) for t in made.spec.tolerations if "node.kubernetes.io" not in t.key]
            assert found == [("acme.com/gpu", "Exists", "NoSchedule"), ("example.com/a", "Exists", "NoSchedule")]

    run(main)


def test_pods_keep_off_each_other_on_a_node_and_no_further() -> None:
    def apart(key: str) -> core_v1.Affinity:
        term = core_v1.PodAffinityTerm(topology_key=key, label_selector=meta_v1.LabelSelector(match_labels={"a": "b"}))
        return core_v1.Affinity(
            pod_anti_affinity=core_v1.PodAntiAffinity(required_during_scheduling_ignored_during_execution=[term])
        )

    async def main() -> None:
        async with with_plugins("LimitPodHardAntiAffinityTopology") as server:
            await server.client.create(pod("a", affinity=apart("kubernetes.io/hostname")))
            why = await refused(server.client.create(pod("b", affinity=apart("topology.kubernetes.io/zone"))))
            assert why == (
                'pods "b" is forbidden: affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey '
                "topology.kubernetes.io/zone but only key kubernetes.io/hostname is allowed"
            )

    run(main)


def test_external_addresses_may_stay_but_not_come() -> None:
    def service(name: str, *addresses: str) -> core_v1.Service:
        spec = core_v1.ServiceSpec(
            ports=[core_v1.ServicePort(port=80)], external_ips=list(addresses), cluster_ip="None"
        )
        return core_v1.Service(metadata=meta_v1.ObjectMeta(name=name, namespace="default"), spec=spec)

    async def main() -> None:
        async with with_plugins() as server:
            old = clone(await server.client.create(service("old", "198.51.100.1")))
            server.app.admission = default_chain(
                server.app, options=options.parse(["enable-admission-plugins=DenyServiceExternalIPs"])
            )
            why = await refused(server.client.create(service("new", "198.51.100.1")))
            assert why == 'services "new" is forbidden: Use of external IPs is denied by admission control'
            await server.client.create(service("none"))
            old.metadata.labels = {"a": "b"}
            old = clone(await server.client.update(old))
            old.spec.external_ips = ["198.51.100.1", "198.51.100.2"]
            await refused(server.client.update(old))

    run(main)


def test_owners_are_set_by_who_may_delete() -> None:
    allowed: set[tuple[str, str, str]] = set()

    async def main() -> None:
        async with with_plugins("OwnerReferencesPermissionEnforcement") as server:
            owner = await server.client.create(config_map("owner"))
            server.app.authorizer = lambda a: Decision(
                "system:masters" in a.user.groups
                or a.verb == "create"
                or (a.verb, a.resource, a.subresource) in allowed
            )

            async def create(name: str, *, blocking: bool) -> None:
                ref = meta_v1.OwnerReference(
                    api_version="v1", kind="ConfigMap", name="owner", uid=owner.metadata.uid or "",
                    block_owner_deletion=blocking,
                )  # fmt: skip
                obj = config_map(name, owner_references=[ref])
                path = "/api/v1/namespaces/default/configmaps"
                await server.app.send(Request("POST", path, obj=obj, user=User("eve")))

            why = await refused(create("a", blocking=False))
            assert why == (
                'configmaps "a" is forbidden: cannot set an ownerRef on a resource you can\'t delete: , <nil>'
            )
            allowed.add(("delete", "configmaps", ""))
            await create("b", blocking=False)
            assert "a resource you can't set finalizers on: , <nil>" in await refused(create("c", blocking=True))
            allowed.add(("update", "configmaps", "finalizers"))
            await create("d", blocking=True)

    run(main)


def test_pods_of_a_namespace_go_to_its_nodes(tmp_path: Path) -> None:
    selectors = {"clusterDefaultNodeSelector": "pool=shared", "tight": "pool=tight,disk=ssd"}
    path = written(tmp_path, PodNodeSelector={"podNodeSelectorPluginConfig": selectors})

    async def main() -> None:
        async with with_plugins("PodNodeSelector", config=path) as server:
            made = await server.client.create(pod("p", node_selector={"disk": "ssd"}))
            assert made.spec.node_selector == {"pool": "shared", "disk": "ssd"}
            why = await refused(server.client.create(pod("q", node_selector={"pool": "mine"})))
            assert why == (
                'pods "q" is forbidden: pod node label selector conflicts with its namespace node label selector'
            )
            tight = await in_namespace(server, namespace("tight", **{"node-selector": "pool=tight"}))
            other = pod("r", node_selector={"zone": "a"})
            other.metadata.namespace = tight
            assert "conflict with its namespace whitelist" in await refused(server.client.create(other))
            other.spec.node_selector = {"disk": "ssd"}
            assert (await server.client.create(other)).spec.node_selector == {"pool": "tight", "disk": "ssd"}

    run(main)


def test_pods_of_a_namespace_tolerate_what_it_allows(tmp_path: Path) -> None:
    allowed = [{"key": "a", "operator": "Exists"}, {"key": "node.kubernetes.io/not-ready", "operator": "Exists"},
               {"key": "node.kubernetes.io/unreachable", "operator": "Exists"}]  # fmt: skip

    async def main() -> None:
        async with with_plugins("PodTolerationRestriction") as server:
            notes = {
                "defaultTolerations": json.dumps([{"key": "a", "value": "1", "effect": "NoSchedule"}]),
                "tolerationsWhitelist": json.dumps(allowed),
            }
            name = await in_namespace(server, namespace("tight", **notes))

            def tolerating(pod_name: str, **toleration: str) -> core_v1.Pod:
                made = pod(pod_name, tolerations=[core_v1.Toleration(**toleration)] if toleration else None)
                made.metadata.namespace = name
                return made

            made = await server.client.create(tolerating("p"))
            assert ("a", "1", "NoSchedule") in [(t.key, t.value, t.effect) for t in made.spec.tolerations]
            why = await refused(server.client.create(tolerating("q", key="b", operator="Exists")), 500)
            assert "conflict with its namespace whitelist" in why
            conflict = tolerating("r", key="a", operator="Equal", value="2", effect="NoSchedule")
            why = await refused(server.client.create(conflict), 500)
            assert "namespace tolerations and pod tolerations conflict" in why

    run(main)


def test_events_are_limited(tmp_path: Path) -> None:
    limits = [{"type": "Namespace", "qps": 1, "burst": 2}, {"type": "SourceAndObject", "qps": 10, "burst": 10}]
    document = {"apiVersion": "eventratelimit.admission.k8s.io/v1alpha1", "kind": "Configuration", "limits": limits}
    path = written(tmp_path, EventRateLimit=document)

    def event(name: str) -> core_v1.Event:
        about = core_v1.ObjectReference(kind="Pod", name="p", namespace="default")
        return core_v1.Event(metadata=meta_v1.ObjectMeta(name=name, namespace="default"), involved_object=about)

    async def main() -> None:
        async with with_plugins("EventRateLimit", config=path) as server:
            await server.client.create(event("a"))
            await server.client.create(event("b"))
            why = await refused(server.client.create(event("c")), 429)
            assert why == "Too many requests: limit reached on type Namespace for key default"
            await asyncio.sleep(1.1)
            await server.client.create(event("c"))

    run(main)


async def test_images_are_judged_outside(tmp_path: Path) -> None:
    reviews: list[Any] = []

    def answer(request: web.BaseRequest, body: bytes) -> Any:
        review = json.loads(body)
        reviews.append(review)
        images = [c["image"] for c in review["spec"]["containers"]]
        if "broken" in images:
            return web.Response(status=400)
        return {"status": {"allowed": "bad" not in images, "reason": "it is bad"}}

    async with listening(answer) as url:
        file = tmp_path / "kubeconfig"
        file.write_text(kubeconfig.dump(Config(server=url, ca=ca().encode())))

        async def create(name: str, image: str, *, default_allow: bool = False) -> core_v1.Pod:
            policy = {"kubeConfigFile": str(file), "retryBackoff": 1, "defaultAllow": default_allow}
            path = written(tmp_path, ImagePolicyWebhook={"imagePolicy": policy})
            async with with_plugins("ImagePolicyWebhook", config=path) as server:
                notes = {"acme.image-policy.k8s.io/ticket": "1", "other": "2"}
                made = pod(name, containers=[core_v1.Container(name="c", image=image)], meta={"annotations": notes})
                found: core_v1.Pod = await server.client.create(made)
                return found

        await create("p", "good")
        assert len(reviews) == 1 and reviews[0]["spec"] == {
            "containers": [{"image": "good"}],
            "annotations": {"acme.image-policy.k8s.io/ticket": "1"},
            "namespace": "default",
        }
        why = await refused(create("q", "bad"))
        assert why == 'pods "q" is forbidden: image policy webhook backend denied one or more images: it is bad'
        assert "an error on the server" in await refused(create("r", "broken"))
        made = await create("r", "broken", default_allow=True)
        assert (made.metadata.annotations or {})["alpha.image-policy.k8s.io/failed-open"] == "true"


def test_namespaces_without_labels_get_the_configured_level(tmp_path: Path) -> None:
    document = {
        "apiVersion": "pod-security.admission.config.k8s.io/v1", "kind": "PodSecurityConfiguration",
        "defaults": {"enforce": "baseline", "enforce-version": "latest"}, "exemptions": {"namespaces": ["free"]},
    }  # fmt: skip
    path = written(tmp_path, PodSecurity=document)

    async def main() -> None:
        async with with_plugins(config=path) as server:
            assert 'violates PodSecurity "baseline:latest": host namespaces' in await refused(
                server.client.create(pod("p", host_network=True))
            )
            free = pod("p", host_network=True)
            free.metadata.namespace = await in_namespace(server, namespace("free"))
            await server.client.create(free)

    run(main)


def test_ingresses_get_the_default_class() -> None:
    def ingress_class(name: str, default: str) -> networking_v1.IngressClass:
        notes = {"ingressclass.kubernetes.io/is-default-class": default}
        return networking_v1.IngressClass(
            metadata=meta_v1.ObjectMeta(name=name, annotations=notes),
            spec=networking_v1.IngressClassSpec(controller="acme.com/x"),
        )

    def ingress(name: str, **more: Any) -> networking_v1.Ingress:
        backend = networking_v1.IngressBackend(
            service=networking_v1.IngressServiceBackend(name="s", port=networking_v1.ServiceBackendPort(number=80))
        )
        return networking_v1.Ingress(
            metadata=meta_v1.ObjectMeta(name=name, namespace="default", **more),
            spec=networking_v1.IngressSpec(default_backend=backend),
        )

    async def main() -> None:
        async with with_plugins() as server:
            assert (await server.client.create(ingress("none"))).spec.ingress_class_name is None
            await server.client.create(ingress_class("b", "true"))
            await server.client.create(ingress_class("a", "true"))
            await server.client.create(ingress_class("c", "false"))
            assert (await server.client.create(ingress("i"))).spec.ingress_class_name == "a"
            legacy = ingress("l", annotations={"kubernetes.io/ingress.class": "old"})
            assert (await server.client.create(legacy)).spec.ingress_class_name is None

    run(main)


def test_claims_grow_if_their_class_lets_them() -> None:
    def claim(name: str, kind: str) -> core_v1.PersistentVolumeClaim:
        resources = core_v1.VolumeResourceRequirements(requests={"storage": "1Gi"})
        spec = core_v1.PersistentVolumeClaimSpec(
            access_modes=["ReadWriteOnce"], resources=resources, storage_class_name=kind
        )
        return core_v1.PersistentVolumeClaim(metadata=meta_v1.ObjectMeta(name=name, namespace="default"), spec=spec)

    async def main() -> None:
        async with with_plugins() as server:
            for name, grows in (("grows", True), ("stays", False)):
                await server.client.create(
                    storage_v1.StorageClass(
                        metadata=meta_v1.ObjectMeta(name=name), provisioner="acme.com/x", allow_volume_expansion=grows
                    )
                )
            for kind, bound, why in (
                ("stays", True, "only dynamically provisioned pvc can be resized and the storageclass that provisions"),
                ("grows", True, ""),
            ):
                name = f"{kind}-{bound}".lower()
                made = clone(await server.client.create(claim(name, kind)))
                if bound:
                    made.spec.volume_name = "v"
                    made = clone(await server.client.update(made))
                    made.status.phase = "Bound"
                    made = clone(await server.client.update_status(made))
                made.spec.resources.requests = {"storage": "2Gi"}
                if why:
                    assert why in await refused(server.client.update(made))
                else:
                    await server.client.update(made)

    run(main)


def test_pods_show_where_their_node_is() -> None:
    async def main() -> None:
        async with with_plugins() as server:
            labels = {"topology.kubernetes.io/zone": "z", "topology.kubernetes.io/region": "r", "x": "y"}
            await server.client.create(core_v1.Node(metadata=meta_v1.ObjectMeta(name="n", labels=labels)))
            await server.client.create(pod("p", meta={"labels": {"topology.kubernetes.io/zone": "own"}}))
            binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"name": "n"}}
            await server.ask("POST", "/api/v1/namespaces/default/pods/p/binding", binding)
            bound = await server.client.get(core_v1.Pod, "p", "default")
            assert bound.metadata.labels == {"topology.kubernetes.io/zone": "own", "topology.kubernetes.io/region": "r"}
            made = await server.client.create(pod("q", node_name="n"))
            assert made.metadata.labels == {k: v for k, v in labels.items() if k != "x"}

    run(main)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"PodSecurity": {"kind": "x"}}, "PodSecurity: "),
        (
            {"PodSecurity": {"apiVersion": "pod-security.admission.config.k8s.io/v1",
                             "kind": "PodSecurityConfiguration", "defaults": {"enforce": "lax"},
                             "exemptions": {"usernames": [""]}}},
            'defaults.enforce: Invalid value: "lax": must be one of privileged, baseline, restricted, '
            'exemptions.usernames[0]: Invalid value: "": username must not be empty',
        ),
        ({"Priority": {"a": 1}}, "Priority: the plugin takes no configuration"),
        ({"Nonsense": {"a": 1}}, "names unknown plugins: Nonsense"),
        ({"EventRateLimit": {"limits": []}}, "limits: Invalid value: []: must not be empty"),
        ({"EventRateLimit": {"limits": [{"type": "Server", "qps": 0, "burst": 1}]}}, "limits[0].qps"),
    ],
)  # fmt: skip
def test_configurations_that_can_not_be_used(tmp_path: Path, document: dict[str, Any], said: str) -> None:
    import re

    path = written(tmp_path, **document)
    on = "enable-admission-plugins=EventRateLimit" if "EventRateLimit" in document else "event-ttl=1h"
    with pytest.raises(OptionError, match=re.escape(said)):
        assembly.check(options.parse([f"admission-control-config-file={path}", on]))


@pytest.mark.parametrize("name", ["EventRateLimit", "ImagePolicyWebhook"])
def test_some_do_nothing_by_themselves(name: str) -> None:
    with pytest.raises(OptionError, match="configure it in the file of admission-control-config-file"):
        assembly.check(options.parse([f"enable-admission-plugins={name}"]))


def test_a_plugins_configuration_may_stand_in_a_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "selector.yaml").write_text("podNodeSelectorPluginConfig: {default: nonsense}")
    path = tmp_path / "admission.yaml"
    plugin = {"name": "PodNodeSelector", "path": "selector.yaml"}
    path.write_text(
        json.dumps({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AdmissionConfiguration", "plugins": [plugin]})
    )
    arguments = [f"admission-control-config-file={path}", "enable-admission-plugins=PodNodeSelector"]
    with pytest.raises(OptionError, match="PodNodeSelector: invalid selector: nonsense"):
        assembly.check(options.parse(arguments))
