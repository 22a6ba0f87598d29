"""What Pod Security's plugin counts."""

from __future__ import annotations

from apiserver.harness import Server, virtual
from apiserver.test_pod_security import PODS, namespace, pod
from podling.apiserver.admission.pod_security import PodSecurity
from podling.apiserver.admission.pod_security_config import Configuration
from podling.apiserver.core import Core
from tests.unit.measured import grows

EVALUATIONS = "pod_security_evaluations_total"


@virtual
async def test_decisions_by_mode_level_and_version(server: Server) -> None:
    await namespace(server, enforce="baseline", enforce_version="v1.30", audit="restricted", warn="restricted")
    created = {"request_operation": "create", "resource": "pod", "subresource": ""}
    level = {"policy_level": "baseline", "policy_version": "v1.30"}
    with (
        grows(EVALUATIONS, decision="allow", mode="enforce", **level, **created),
        grows(EVALUATIONS, decision="deny", mode="audit", policy_level="restricted", policy_version="latest"),
        grows(EVALUATIONS, decision="deny", mode="warn", **created),
    ):
        await server.ask("POST", PODS, pod("a"))
    with (
        grows(EVALUATIONS, decision="deny", mode="enforce", **level),
        grows(EVALUATIONS, by=0, decision="deny", mode="warn"),
    ):
        await server.fails("POST", PODS, pod("b", privileged=True))


@virtual
async def test_namespaces_without_labels_are_privileged(server: Server) -> None:
    await namespace(server)
    with grows(EVALUATIONS, decision="allow", mode="enforce", policy_level="privileged", policy_version="latest"):
        await server.ask("POST", PODS, pod("a"))


@virtual
async def test_what_is_exempt_and_what_can_not_be_read(server: Server) -> None:
    exempt = PodSecurity(server.app, Configuration(namespaces=frozenset(("ns",))))
    await namespace(server, enforce="baseline")
    with grows("pod_security_errors_total", fatal="false"):
        # Labels from before the plugin was there.
        await _unreadable(server.app)
        await server.ask("POST", PODS, pod("a"))
    server.app.admission.plugins[:] = [exempt]  # type: ignore[attr-defined]
    server.app.admission._chosen.clear()  # type: ignore[attr-defined]
    with grows("pod_security_exemptions_total", request_operation="create", resource="pod"):
        await server.ask("POST", PODS, pod("b", privileged=True))


async def _unreadable(app: Core) -> None:
    served = app.lookup("", "namespaces")
    assert served is not None
    entry = served.cache.get("ns")
    assert entry is not None
    entry.object.metadata.labels["pod-security.kubernetes.io/warn"] = "no such level"
