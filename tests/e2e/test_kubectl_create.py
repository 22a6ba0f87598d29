"""kubectl run, and kubectl create with each of its generators."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from podling import clock
from tests.e2e.harness import IMAGE, Kubectl, eventually


def certificate(folder: Path) -> tuple[str, str]:
    """The files of a certificate and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "example")])
    start = clock.now()
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start.replace(year=start.year + 1))
        .sign(key, hashes.SHA256())
    )
    (folder / "tls.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    pem = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    (folder / "tls.key").write_bytes(pem)
    return str(folder / "tls.crt"), str(folder / "tls.key")


def test_workloads(kubectl: Kubectl) -> None:
    kubectl("create", "deployment", "d", f"--image={IMAGE}", "--replicas=2", "--port=80", "--", "sleep", "60")
    kubectl("create", "job", "j", f"--image={IMAGE}", "--", "echo", "hi")
    kubectl("create", "cronjob", "cj", f"--image={IMAGE}", "--schedule=0 0 1 1 *", "--", "echo", "cron")
    kubectl("create", "job", "now", "--from=cronjob/cj")
    kubectl("wait", "--for=condition=Complete", "job/j", "job/now", "--timeout=30s")
    assert kubectl("logs", "job/now") == "cron\n"
    kubectl("wait", "--for=condition=Available", "deployment/d", "--timeout=30s")
    assert "deployment.apps/dry" in kubectl(
        "create", "deployment", "dry", "--image=x", "--dry-run=server", "-o", "name"
    )
    made = json.loads(kubectl("create", "deployment", "dry", "--image=x", "--dry-run=client", "-o", "json"))
    assert made["spec"]["template"]["spec"]["containers"][0]["image"] == "x"
    assert "NotFound" in kubectl.fails("get", "deployment", "dry")
    assert "already exists" in kubectl.fails("create", "deployment", "d", "--image=x")


def test_services(kubectl: Kubectl) -> None:
    kubectl("create", "service", "clusterip", "c", "--tcp=80:8080", "--tcp=443")
    kubectl("create", "service", "clusterip", "headless", "--clusterip=None", "--tcp=80")
    kubectl("create", "service", "nodeport", "np", "--tcp=80:8080")
    kubectl("create", "service", "loadbalancer", "lb", "--tcp=80:8080")
    kubectl("create", "service", "externalname", "en", "--external-name=example.com")
    kubectl("expose", "service", "c", "--port=90", "--target-port=http", "--name=again", "--type=NodePort")
    services = {s["metadata"]["name"]: s["spec"] for s in kubectl.json("get", "services")["items"]}
    assert {name: spec["type"] for name, spec in services.items()} == {
        "c": "ClusterIP", "headless": "ClusterIP", "np": "NodePort", "lb": "LoadBalancer", "en": "ExternalName",
        "again": "NodePort",
    }  # fmt: skip
    assert services["headless"]["clusterIP"] == "None" and "clusterIP" not in services["en"]
    assert 30000 <= services["np"]["ports"][0]["nodePort"] <= 32767
    code, said = kubectl.outcome("create", "service", "nodeport", "bad", "--tcp=80", "--node-port=80")
    assert code == 1 and "provided port is not in the valid range" in said


def test_configuration(kubectl: Kubectl, tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_text("text\n")
    (tmp_path / "list.env").write_text("A=1\nB=2\n")
    kubectl("create", "configmap", "cm", f"--from-file={tmp_path}/file.txt", "--from-literal=x=y")
    assert kubectl.json("get", "cm", "cm")["data"] == {"file.txt": "text\n", "x": "y"}
    assert "configmap/env-" in kubectl(
        "create", "configmap", "env", f"--from-env-file={tmp_path}/list.env", "--append-hash"
    )
    kubectl("create", "secret", "generic", "s", "--from-literal=a=b", "--type=example.com/kind")
    kubectl(
        "create", "secret", "docker-registry", "r",
        "--docker-server=registry", "--docker-username=u", "--docker-password=p",
    )  # fmt: skip
    cert, key = certificate(tmp_path)
    kubectl("create", "secret", "tls", "t", f"--cert={cert}", f"--key={key}")
    secrets = {s["metadata"]["name"]: s for s in kubectl.json("get", "secrets")["items"]}
    assert base64.b64decode(secrets["s"]["data"]["a"]) == b"b"
    assert [secrets[n]["type"] for n in "srt"] == [
        "example.com/kind", "kubernetes.io/dockerconfigjson", "kubernetes.io/tls",
    ]  # fmt: skip
    assert "registry" in json.loads(base64.b64decode(secrets["r"]["data"][".dockerconfigjson"]))["auths"]
    kubectl("create", "quota", "q", "--hard=pods=4,configmaps=10")
    kubectl("create", "quota", "best", "--hard=pods=4", "--scopes=BestEffort")
    assert "unsupported scope" in kubectl.fails("create", "quota", "bad", "--hard=pods=4", "--scopes=Nope")
    kubectl("create", "pdb", "p", "--selector=app=d", "--min-available=50%")
    assert kubectl.json("get", "pdb", "p")["spec"]["minAvailable"] == "50%"
    kubectl("create", "ingress", "i", "--rule=example.com/bar*=c:80,tls=t", "--class=x", "--default-backend=c:http")
    assert kubectl.json("get", "ingress", "i")["spec"]["tls"] == [{"hosts": ["example.com"], "secretName": "t"}]
    name = kubectl.namespace
    try:
        kubectl("create", "priorityclass", name, "--value=1000", "--description=some")
        assert kubectl.json("get", "priorityclass", name)["value"] == 1000
    finally:
        kubectl("delete", "priorityclass", name, "--ignore-not-found")


def test_accounts_roles_and_tokens(kubectl: Kubectl) -> None:
    name = kubectl.namespace
    try:
        kubectl("create", "serviceaccount", "sa")
        kubectl("create", "role", "reader", "--verb=get,list", "--resource=pods,deployments.apps,pods/log")
        kubectl("create", "rolebinding", "reads", "--role=reader", f"--serviceaccount={name}:sa", "--user=u")
        kubectl("create", "clusterrole", name, "--verb=get", "--non-resource-url=/logs/*")
        kubectl("create", "clusterrole", f"{name}-all", f"--aggregation-rule=example.com/set={name}")
        kubectl("create", "clusterrole", f"{name}-one", "--verb=watch", "--resource=nodes")
        kubectl("label", "clusterrole", f"{name}-one", f"example.com/set={name}")
        kubectl("create", "clusterrolebinding", name, f"--clusterrole={name}", f"--serviceaccount={name}:sa")
        eventually(lambda: kubectl.json("get", "clusterrole", f"{name}-all")["rules"][0]["verbs"] == ["watch"])
        token = kubectl("create", "token", "sa", "--duration=20m").strip()
        claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
        assert claims["exp"] - claims["iat"] == 1200
        assert claims["sub"] == f"system:serviceaccount:{name}:sa"
        assert "not found" in kubectl.fails("create", "token", "nobody")
        kubectl("create", "secret", "generic", "s")
        bound = kubectl("create", "token", "sa", "--bound-object-kind=Secret", "--bound-object-name=s").strip()
        assert (
            json.loads(base64.urlsafe_b64decode(bound.split(".")[1] + "=="))["kubernetes.io"]["secret"]["name"] == "s"
        )
    finally:
        kubectl("delete", "clusterrole", name, f"{name}-all", f"{name}-one", "--ignore-not-found")
        kubectl("delete", "clusterrolebinding", name, "--ignore-not-found")


def test_run(kubectl: Kubectl) -> None:
    assert "hello\n" in kubectl(
        "run", "one", f"--image={IMAGE}", "--rm", "-i", "--restart=Never", "--", "echo", "hello"
    )
    script = "read line; echo got $line; exit 3"
    words = ["run", "two", f"--image={IMAGE}", "--rm", "-i", "--restart=Never", "--command", "--", "sh", "-c", script]
    code, said = kubectl.outcome(*words, input="input\n")
    assert code == 3 and "got input" in said and "terminated (Error)" in said
    flags = ["--labels=a=b,c=d", "--env=X=1", "--port=80", "--expose"]
    flags += ["--overrides", '{"spec":{"terminationGracePeriodSeconds":1}}']
    kubectl("run", "three", f"--image={IMAGE}", *flags, "--", "sleep", "60")
    made = kubectl.json("get", "pod", "three")
    assert made["metadata"]["labels"] == {"a": "b", "c": "d"} and made["spec"]["terminationGracePeriodSeconds"] == 1
    assert made["spec"]["containers"][0]["env"] == [{"name": "X", "value": "1"}]
    assert kubectl.json("get", "service", "three")["spec"]["selector"] == {"a": "b", "c": "d"}
    assert kubectl("get", "pods", "-o", "name") == "pod/three\n"
