"""Pods that use their ServiceAccount, and clients that exec and read logs over plain WebSockets."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
import websocket

from tests.e2e.conformance.client import Namespace, Object, eventually
from tests.e2e.conformance.pods import agnhost, once, pod, shell

WHERE = "/var/run/secrets/kubernetes.io/serviceaccount"
# What a pod finds out about its own token, as any OpenID client would.
DISCOVER = f"""
import base64, json, ssl, urllib.request as r
context = ssl.create_default_context(cafile="{WHERE}/ca.crt"); token = open("{WHERE}/token").read()
headers = {{"Authorization": "Bearer " + token}}
def get(url): return json.load(r.urlopen(r.Request(url, headers=headers), context=context))
head, claims = (json.loads(base64.urlsafe_b64decode(part + "===")) for part in token.split(".")[:2])
found = get(claims["iss"] + "/.well-known/openid-configuration")
keys = get(found["jwks_uri"])["keys"]
print(json.dumps([claims["iss"] == found["issuer"], head["kid"] in [k["kid"] for k in keys], head["alg"] in
    found["id_token_signing_alg_values_supported"]]))
"""


def test_a_pod_verifies_its_own_token(shared: Namespace) -> None:
    command = {"command": ["python3", "-c", DISCOVER]}
    shared.start(pod("verifies", agnhost(**command), restartPolicy="Never"))
    assert json.loads(shared.output("verifies")) == [True, True, True]


def test_tokens_are_mounted_as_pod_and_account_say(shared: Namespace) -> None:
    """The pod's own word counts before its account's."""
    accounts = {"default": None, "mount": True, "no-mount": False}
    expected = {}
    for account, setting in accounts.items():
        if setting is not None:
            body: Object = {"metadata": {"name": account}, "automountServiceAccountToken": setting}
            shared.create("serviceaccounts", body)
        for own in (None, True, False):
            spec: Object = {"serviceAccountName": account}
            if own is not None:
                spec["automountServiceAccountToken"] = own
            name = f"{account}-{own}".lower()
            made = shared.create("pods", pod(name, shell("true"), restartPolicy="Never", **spec))
            mounts = made["spec"]["containers"][0].get("volumeMounts", ())
            expected[name] = own if own is not None else setting is not False
            assert [m["mountPath"] for m in mounts] == ([WHERE] if expected[name] else [])


def test_a_token_of_ones_own(shared: Namespace) -> None:
    token = {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600, "audience": "mine"}}
    mounts = [{"name": "t", "mountPath": "/t"}]
    show = f"ls {WHERE}; cat {WHERE}/namespace; echo; cat /t/token"
    volumes = [{"name": "t", "projected": {"sources": [token]}}]
    stat = f"stat -L -c '%a %u:%g' {WHERE}/token"
    shared.start(
        once("token", show, container={"volumeMounts": mounts}, volumes=volumes),
        once("token-root", stat),
        once("token-user", stat, securityContext={"runAsUser": 1000}),
        once("token-group", stat, securityContext={"runAsUser": 1000, "fsGroup": 10000}),
    )
    *files, mine = shared.output("token").split()
    assert files == ["ca.crt", "namespace", "token", shared.name]
    claims = json.loads(base64.urlsafe_b64decode(mine.split(".")[1] + "==="))
    assert claims["aud"] == ["mine"] and claims["kubernetes.io"]["pod"]["name"] == "token"
    assert claims["sub"] == f"system:serviceaccount:{shared.name}:default"
    assert shared.output("token-root") == "644 0:0\n"
    assert shared.output("token-user") == "600 1000:0\n"
    assert shared.output("token-group") == "640 1000:10000\n"


@pytest.fixture(scope="module")
def remote(shared: Namespace) -> Iterator[Namespace]:
    shared.run(pod("remote", shell("echo container is alive; sleep 600")))
    yield shared


def received(space: Namespace, path: str, protocol: str, **query: Any) -> list[bytes]:
    """All messages of a WebSocket until the server closes it."""
    url = space.api.url.replace("https", "wss") + f"{path}?{urlencode(query, doseq=True)}"
    files = space.api.files
    context = ssl.create_default_context(cafile=files["ca_certs"])
    context.load_cert_chain(files["cert_file"], files["key_file"])
    socket = websocket.create_connection(url, subprotocols=[protocol], sslopt={"context": context}, timeout=20)
    assert socket.getsubprotocol() == protocol
    found = []
    while True:
        code, data = socket.recv_data()
        if code == websocket.ABNF.OPCODE_CLOSE:
            return found
        found.append(data)


def test_commands_run_over_a_websocket(remote: Namespace) -> None:
    command = ["echo", "remote execution test"]
    query = {"stdout": 1, "stderr": 1, "container": "c", "command": command}
    messages = received(remote, remote.path("pods", "remote", "exec"), "channel.k8s.io", **query)
    # Nothing but standard output (1) has content: this version of the protocol tells no success.
    assert all(m[0] == 1 for m in messages if len(m) > 1)
    assert b"".join(m[1:] for m in messages) == b"remote execution test\n"
    messages = received(remote, remote.path("pods", "remote", "exec"), "v4.channel.k8s.io", **query)
    (status,) = [m[1:] for m in messages if m[0] == 3 and len(m) > 1]
    assert json.loads(status)["status"] == "Success"


def test_logs_come_over_a_websocket(remote: Namespace) -> None:
    eventually(lambda: remote.log("remote"))
    messages = received(remote, remote.path("pods", "remote", "log"), "binary.k8s.io", container="c")
    assert b"".join(messages) == b"container is alive\n"
