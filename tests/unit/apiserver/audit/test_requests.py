"""What becomes of requests in the audit log, over HTTP and in process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from apiserver.harness import Server, config_map, pod, running
from podling.api import errors
from podling.api.request import Request, User
from podling.api.struct import from_dict
from podling.apiserver.admission.base import Attributes, Plugin
from podling.apiserver.audit import auditor, metrics, trail
from podling.apiserver.audit.auditor import Auditor
from podling.apiserver.audit.event import Event, as_json
from podling.apiserver.audit.policy import Policy
from podling.apiserver.audit.rules import Rules
from podling.apiserver.authz.attributes import Attributes as Asked
from podling.apiserver.authz.attributes import Decision
from podling.apiserver.server import HttpServer

PATH = "/api/v1/namespaces/default/configmaps"


class Sink:
    """Keeps events as they would be written."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.takes = True

    def start(self) -> None:
        pass

    async def write(self, events: Sequence[Event]) -> bool:
        self.events += [json.loads(as_json(e)) for e in events]
        return self.takes

    async def close(self) -> None:
        pass


class Audited:
    def __init__(self, server: Server, sink: Sink, session: aiohttp.ClientSession, base: str) -> None:
        self.server = server
        self.sink = sink
        self.session = session
        self.base = base

    async def ask(self, method: str, path: str, **more: Any) -> tuple[int, Mapping[str, str], bytes]:
        """A request over HTTP; only its own events are kept."""
        self.sink.events.clear()
        async with self.session.request(method, self.base + path, **more) as response:
            body = await response.read()
        # The last event comes after the last byte.
        await asyncio.sleep(0.01)
        return response.status, response.headers, body

    @property
    def stages(self) -> list[str]:
        return [e["stage"] for e in self.sink.events]

    @property
    def last(self) -> dict[str, Any]:
        return self.sink.events[-1]


@asynccontextmanager
async def audited(*rules: dict[str, Any], **options: Any) -> AsyncIterator[Audited]:
    policy = {"rules": list(rules), **options.pop("policy", {})}
    plugin = options.pop("plugin", None)
    sink = Sink()
    async with running(**options) as server:
        if plugin is not None:
            server.app.admission.add(plugin(server.app))  # type: ignore[attr-defined]
        server.app.auditor = Auditor(Rules(from_dict(policy, Policy)), sink)
        http = HttpServer(server.app)
        await http.start()
        async with aiohttp.ClientSession(headers={"User-Agent": "test"}) as session:
            try:
                yield Audited(server, sink, session, f"http://127.0.0.1:{http.port}")
            finally:
                await http.close()


WHOLE = {"level": "RequestResponse"}


async def test_metadata_says_who_did_what_and_what_came_of_it() -> None:
    async with audited({"level": "Metadata"}) as a:
        status, headers, _ = await a.ask("POST", PATH + "?fieldManager=me", json={"metadata": {"name": "a"}})
        assert status == 201 and a.stages == ["RequestReceived", "ResponseComplete"]
        first, last = a.sink.events
        assert first["stageTimestamp"] == first["requestReceivedTimestamp"] == last["requestReceivedTimestamp"]
        assert last["stageTimestamp"] > first["stageTimestamp"] and len(last["stageTimestamp"]) == 27
        assert headers["Audit-Id"] == first["auditID"] == last["auditID"]
        assert last["user"] == {"username": "system:anonymous", "groups": ["system:unauthenticated"]}
        assert (last["verb"], last["requestURI"]) == ("create", PATH + "?fieldManager=me")
        assert (last["sourceIPs"], last["userAgent"]) == (["127.0.0.1"], "test")
        ref = {"resource": "configmaps", "namespace": "default", "apiVersion": "v1"}
        assert first["objectRef"] == ref and last["objectRef"] == {**ref, "name": "a"}
        assert last["responseStatus"] == {"metadata": {}, "code": 201}
        assert "requestObject" not in last and "responseObject" not in last


async def test_the_clients_audit_id_is_taken_over_and_echoed() -> None:
    async with audited({"level": "Metadata"}) as a:
        _, headers, _ = await a.ask("GET", "/version", headers={"Audit-ID": "mine"})
        assert headers["Audit-Id"] == "mine" == a.last["auditID"]
        a.server.app.auditor = None
        _, headers, _ = await a.ask("GET", "/version", headers={"Audit-ID": "mine"})
        assert headers["Audit-Id"] == "mine" and not a.sink.events


async def test_a_client_that_sends_no_text_is_recorded_all_the_same() -> None:
    async with audited(WHOLE) as a:
        port = int(a.base.rpartition(":")[2])
        for head in (b"User-Agent: \xff", b"Audit-ID: \xff", b"X-Forwarded-For: \xff"):
            a.sink.events.clear()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET %s/none HTTP/1.1\r\nHost: x\r\n%s\r\nConnection: close\r\n\r\n" % (PATH.encode(), head))
            answer = await reader.read()
            writer.close()
            assert answer.startswith(b"HTTP/1.1 404 ") and a.stages == ["RequestReceived", "ResponseComplete"]
            assert f"Audit-Id: {a.last['auditID']}".encode() in answer and a.last["auditID"].isascii()
        broken = {"Content-Type": "application/json"}
        await a.ask("POST", PATH, data=b'{"metadata":{"name":"\xff"}}', headers=broken)
        assert "requestObject" not in a.last and a.last["responseStatus"]["code"] >= 400


async def test_request_holds_the_object_and_request_response_the_answer_too() -> None:
    async with audited({"level": "Request", "verbs": ["create"]}, WHOLE) as a:
        await a.ask("POST", PATH, json={"kind": "ConfigMap", "metadata": {"name": "a"}})
        assert a.last["requestObject"] == {"kind": "ConfigMap", "metadata": {"name": "a"}}
        assert "responseObject" not in a.last
        _, _, body = await a.ask("GET", f"{PATH}/a")
        assert a.last["responseObject"] == json.loads(body) and "requestObject" not in a.last
        _, _, body = await a.ask("GET", PATH)
        assert a.last["responseObject"] == json.loads(body) and a.last["verb"] == "list"


async def test_bodies_and_answers_of_every_form_are_json_in_events() -> None:
    async with audited(WHOLE) as a:
        headers = {"Content-Type": "application/yaml", "Accept": "application/yaml"}
        await a.ask("POST", PATH, data="metadata:\n  name: a\n", headers=headers)
        assert a.last["requestObject"] == {"metadata": {"name": "a"}}
        assert a.last["responseObject"]["metadata"]["name"] == "a"
        await a.ask("GET", f"{PATH}/a?pretty=true")
        assert a.last["responseObject"]["metadata"]["name"] == "a"
        patch = {"Content-Type": "application/merge-patch+json"}
        await a.ask("PATCH", f"{PATH}/a", data='{"data":\n {"k": "v"}}', headers=patch)
        assert a.last["requestObject"] == {"data": {"k": "v"}} and a.last["verb"] == "patch"
        apply = {"Content-Type": "application/apply-patch+yaml"}
        text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"
        await a.ask("PATCH", f"{PATH}/a?fieldManager=me", data=text, headers=apply)
        assert a.last["requestObject"]["kind"] == "ConfigMap"
        table = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
        await a.ask("GET", PATH, headers=table)
        assert a.last["responseObject"]["kind"] == "Table"


async def test_protobuf_is_json_in_events() -> None:
    async with audited(WHOLE) as a:
        form = {"Accept": "application/vnd.kubernetes.protobuf", "Content-Type": "application/json"}
        _, headers, body = await a.ask("POST", PATH, json={"metadata": {"name": "a"}}, headers=form)
        assert headers["Content-Type"] == form["Accept"] and a.last["responseObject"]["metadata"]["name"] == "a"
        form["Content-Type"] = form["Accept"]
        status, _, _ = await a.ask("PUT", f"{PATH}/a", data=body, headers=form)
        assert status == 200 and a.last["requestObject"]["kind"] == "ConfigMap"
        assert a.last["requestObject"]["metadata"]["name"] == "a" and a.last["objectRef"]["uid"]


async def test_what_is_no_json_is_not_in_events() -> None:
    async with audited(WHOLE) as a:
        status, _, _ = await a.ask("POST", PATH, data='{"metadata":', headers={"Content-Type": "application/json"})
        assert status == 400 and "requestObject" not in a.last
        assert a.last["responseObject"]["code"] == a.last["responseStatus"]["code"] == 400


async def test_an_update_says_which_object_it_means() -> None:
    async with audited({"level": "Metadata"}) as a:
        made = await a.server.client.create(config_map("a"))
        body = {"metadata": {"name": "a", "uid": made.metadata.uid,
                             "resourceVersion": made.metadata.resource_version}}  # fmt: skip
        await a.ask("PUT", f"{PATH}/a", json=body)
        assert a.last["objectRef"]["uid"] == made.metadata.uid
        assert a.last["objectRef"]["resourceVersion"] == made.metadata.resource_version


async def test_managed_fields_can_be_left_out() -> None:
    async with audited(WHOLE, policy={"omitManagedFields": True}) as a:
        _, _, body = await a.ask(
            "POST", PATH + "?fieldManager=me", json={"metadata": {"name": "a"}, "data": {"k": "v"}}
        )
        assert "managedFields" in json.loads(body)["metadata"]
        assert "managedFields" not in a.last["responseObject"]["metadata"]
        await a.ask("GET", PATH)
        assert all("managedFields" not in item["metadata"] for item in a.last["responseObject"]["items"])
        await a.ask("GET", PATH, headers={"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"})
        assert all("managedFields" not in r["object"]["metadata"] for r in a.last["responseObject"]["rows"])


async def test_failures_are_told_with_their_reason() -> None:
    async with audited({"level": "Metadata"}) as a:
        await a.ask("GET", f"{PATH}/none")
        status = a.last["responseStatus"]
        assert (status["status"], status["reason"], status["code"]) == ("Failure", "NotFound", 404)
        assert status["message"] == 'configmaps "none" not found' and status["details"]["name"] == "none"
        await a.server.client.create(config_map("a"))
        await a.ask("DELETE", f"{PATH}/a", json={"propagationPolicy": "Background"})
        assert a.last["responseStatus"]["status"] == "Success" and a.last["responseStatus"]["code"] == 200


async def test_stages_can_be_left_out() -> None:
    async with audited({"level": "Metadata", "omitStages": ["RequestReceived"]}) as a:
        await a.ask("GET", "/version")
        assert a.stages == ["ResponseComplete"] and "objectRef" not in a.last


async def test_what_the_policy_does_not_want_leaves_no_trace() -> None:
    async with audited({"level": "None", "nonResourceURLs": ["/version"]}, WHOLE) as a:
        before = metrics.LEVELS.values.get(("None",), 0)
        await a.ask("GET", "/version")
        assert a.sink.events == [] and metrics.LEVELS.values["None",] == before + 1
        _, _, _ = await a.ask("GET", "/api")
        assert a.last["level"] == "RequestResponse" and "responseObject" not in a.last


async def test_decisions_of_authorization_are_noted() -> None:
    def judge(asked: Asked) -> Decision:
        if asked.user.name == "system:anonymous" and asked.resource == "secrets":
            return Decision(False, "not you")
        return Decision(True, "because")

    async with audited({"level": "Metadata"}, authorizer=judge) as a:
        await a.ask("GET", PATH)
        allowed = {"authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": "because"}
        assert a.last["annotations"] == allowed
        await a.ask("GET", "/api/v1/secrets")
        assert a.last["annotations"]["authorization.k8s.io/decision"] == "forbid"
        assert a.last["annotations"]["authorization.k8s.io/reason"] == "not you"
        assert a.last["responseStatus"]["code"] == 403


async def test_who_is_not_authenticated_is_recorded_once() -> None:
    async def nobody(headers: Mapping[str, str], certificate: bytes | None, path: str) -> User | None:
        return None

    async with audited({"level": "None", "users": ["a"]}, {"level": "Metadata"}, authenticator=nobody) as a:
        status, _, _ = await a.ask("GET", PATH)
        assert status == 401 and a.stages == ["ResponseStarted"]
        assert a.last["responseStatus"]["code"] == 401 and a.last["user"] == {}


async def test_a_watch_has_a_stage_more() -> None:
    async with audited(WHOLE) as a:
        await a.ask("GET", PATH + "?watch=true&timeoutSeconds=1")
        assert a.stages == ["RequestReceived", "ResponseStarted", "ResponseComplete"]
        assert a.last["verb"] == "watch" and "responseObject" not in a.last
        assert a.last["responseStatus"] == {"metadata": {}, "code": 200}
        assert a.last["annotations"]["apiserver.latency.k8s.io/total"].startswith("1")


async def test_a_refused_watch_has_it_too() -> None:
    async with audited({"level": "Metadata"}) as a:
        await a.ask("GET", PATH + "?watch=true&resourceVersion=x")
        assert a.stages == ["RequestReceived", "ResponseStarted", "ResponseComplete"]
        assert a.last["responseStatus"]["code"] == 400


async def test_a_broken_server_is_a_panic() -> None:
    class Broken(Plugin):
        name = "Broken"
        validates = True

        async def validate(self, attributes: Attributes) -> None:
            if attributes.name == "bad":
                raise RuntimeError("oh")

    async with audited({"level": "Metadata"}, plugin=Broken) as a:
        status, _, _ = await a.ask("POST", PATH, json={"metadata": {"name": "bad"}})
        assert status == 500 and a.stages == ["RequestReceived", "Panic"]
        assert a.last["responseStatus"]["message"] == "APIServer panic'd: oh"


async def test_admission_leaves_its_annotations_also_when_it_refuses() -> None:
    class Noting(Plugin):
        name = "Noting"
        validates = mutates = True

        async def mutate(self, attributes: Attributes) -> None:
            attributes.annotations["patch.webhook.admission.k8s.io/round_0_index_0"] = "{}"

        async def validate(self, attributes: Attributes) -> None:
            attributes.annotations["noting/seen"] = attributes.name
            if attributes.name == "bad":
                raise errors.bad_request("no")

    async with audited({"level": "Request", "resources": [{"resources": ["configmaps"], "resourceNames": ["p"]}]},
                       {"level": "Metadata"}, plugin=Noting) as a:  # fmt: skip
        await a.ask("POST", PATH, json={"metadata": {"name": "good"}})
        assert a.last["annotations"] == {"noting/seen": "good"}
        await a.ask("POST", PATH, json={"metadata": {"name": "bad"}})
        assert a.last["annotations"] == {"noting/seen": "bad"} and a.last["responseStatus"]["code"] == 400
        await a.server.client.create(config_map("p"))
        await a.ask("PUT", f"{PATH}/p", json={"metadata": {"name": "p"}})
        assert "patch.webhook.admission.k8s.io/round_0_index_0" in a.last["annotations"]


async def test_pod_security_is_noted() -> None:
    async with audited({"level": "Metadata"}) as a:
        namespace = {"metadata": {"name": "n", "labels": {"pod-security.kubernetes.io/audit": "baseline"}}}
        await a.ask("POST", "/api/v1/namespaces", json=namespace)
        made = pod("p", containers=[{"name": "c", "image": "i"}], host_network=True)
        body = json.loads(as_json(made))
        body["metadata"].pop("namespace")
        body["spec"]["serviceAccountName"] = "default"
        await a.ask("POST", "/api/v1/namespaces/n/serviceaccounts", json={"metadata": {"name": "default"}})
        await a.ask("POST", "/api/v1/namespaces/n/pods", json=body)
        assert a.last["annotations"]["pod-security.kubernetes.io/enforce-policy"] == "privileged:latest"
        violations = a.last["annotations"]["pod-security.kubernetes.io/audit-violations"]
        assert violations.startswith('would violate PodSecurity "baseline:latest": host namespaces')


async def test_deprecated_apis_are_noted() -> None:
    async with audited({"level": "Metadata"}) as a:
        await a.ask("GET", "/api/v1/endpoints")
        assert a.last["annotations"]["k8s.io/deprecated"] == "true"


async def test_a_request_whose_event_is_lost_is_refused() -> None:
    async with audited({"level": "Metadata"}) as a:
        a.sink.takes = False
        before = metrics.REJECTED.values[()]
        status, _, body = await a.ask("POST", PATH, json={"metadata": {"name": "a"}})
        assert status == 500 and b"failed to store audit event" in body
        assert metrics.REJECTED.values[()] == before + 1 and a.stages == ["RequestReceived"]
        assert a.server.app.cached("", "configmaps", "default/a") is None


async def test_requests_of_this_process_are_recorded_alike() -> None:
    async with audited(WHOLE) as a:
        client = a.server.client.as_user(User("system:kube-controller-manager", ("g",))).with_agent("manager")
        await client.create(config_map("a"))
        assert a.stages == ["RequestReceived", "ResponseComplete"]
        assert a.last["user"]["username"] == "system:kube-controller-manager" and a.last["userAgent"] == "manager"
        assert a.last["requestObject"]["metadata"]["name"] == a.last["responseObject"]["metadata"]["name"] == "a"
        assert a.last["objectRef"]["name"] == "a" and a.last["responseStatus"]["code"] == 201
        a.sink.events.clear()
        await client.list(type(config_map("x")), "default", label_selector="a=b")
        assert a.last["responseObject"]["kind"] == "ConfigMapList"
        assert a.last["requestURI"] == PATH + "?labelSelector=a%3Db"
        request = Request("GET", PATH, {"limit": "1", "dryRun": "All"}, {"dryRun": ["All", "All"]})
        await a.server.app.send(request)
        assert a.last["requestURI"] == PATH + "?limit=1&dryRun=All&dryRun=All"
        assert trail.current() is None


async def test_a_watch_of_this_process_is_complete_when_it_ends() -> None:
    async with audited({"level": "Metadata"}) as a:
        watch = a.server.client.watch(type(config_map("x")), "default", send_initial_events=True)
        await a.server.client.create(config_map("a"))
        a.sink.events.clear()
        async for _ in watch:
            break
        assert a.stages == ["RequestReceived", "ResponseStarted"]
        await watch.aclose()  # type: ignore[attr-defined]
        await asyncio.sleep(0.01)
        assert a.stages == ["RequestReceived", "ResponseStarted", "ResponseComplete"]


def test_addresses_come_from_proxies_and_the_connection() -> None:
    assert auditor.source_ips({}, "10.0.0.1") == ["10.0.0.1"]
    headers = {"x-forwarded-for": "1.1.1.1, junk, 2.2.2.2", "x-real-ip": "3.3.3.3"}
    assert auditor.source_ips(headers, "::ffff:10.0.0.1") == ["1.1.1.1", "2.2.2.2", "3.3.3.3", "10.0.0.1"]
    assert auditor.source_ips({"x-forwarded-for": "1.1.1.1", "x-real-ip": "1.1.1.1"}, "1.1.1.1") == ["1.1.1.1"]
