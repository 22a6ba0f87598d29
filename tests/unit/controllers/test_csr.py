"""CertificateSigningRequests on a control plane with an authority: who approves, what is signed, what is cleaned up."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from podling import clock
from podling.api import certificates_v1, meta_v1, rbac_v1, struct, times
from podling.api.certificates_v1 import CertificateSigningRequest, CertificateSigningRequestCondition
from podling.api.errors import StatusError
from podling.api.request import User
from podling.client.client import ApiClient
from podling.cluster.config import ClusterConfig
from podling.cluster.control_plane import ControlPlane
from podling.cluster.pki import Pki
from podling.controllers import csr_cleaner, csr_signing
from podling.machinery import certificate_requests as rules
from podling.machinery.certificate_requests import Wanted
from podling.store.memory import MemoryStore

CLIENT = ["digital signature", "key encipherment", "client auth"]
NODE = User("system:node:n1", ("system:nodes", "system:authenticated"))


def request(common_name: str, *organizations: str, dns: tuple[str, ...] = (), sign: bool = True) -> str:
    """A PKCS#10 request, as the API has it."""
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, o) for o in organizations]
    name = x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    if dns:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(d) for d in dns]), critical=False)
    signed = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return base64.b64encode(signed.public_bytes(Encoding.PEM)).decode()


def csr(name: str, signer: str, pem: str, usages: list[str], **spec: Any) -> CertificateSigningRequest:
    return CertificateSigningRequest(
        metadata=meta_v1.ObjectMeta(name=name),
        spec=certificates_v1.CertificateSigningRequestSpec(request=pem, signer_name=signer, usages=usages, **spec),
    )


class Plane:
    def __init__(self, plane: ControlPlane, pki: Pki) -> None:
        self.plane = plane
        self.pki = pki
        self.client = plane.client

    def as_user(self, user: User) -> ApiClient:
        return ApiClient(self.plane.app, user=user)

    async def decide(self, name: str, kind: str, client: ApiClient | None = None) -> None:
        who = client or self.client
        found = struct.clone(await self.client.get(CertificateSigningRequest, name))
        found.status.conditions = [CertificateSigningRequestCondition(type=kind, status="True", reason="Test")]
        await who.update_subresource(found, "approval")

    async def get(self, name: str) -> CertificateSigningRequest:
        await asyncio.sleep(1)
        return await self.client.get(CertificateSigningRequest, name)

    async def certificate(self, name: str) -> x509.Certificate:
        text = (await self.get(name)).status.certificate
        assert text, "not signed"
        return x509.load_pem_x509_certificate(base64.b64decode(text))


def run(tmp_path: Path, test: Callable[[Plane], Awaitable[None]]) -> None:
    async def main() -> None:
        pki = Pki(tmp_path)
        plane = ControlPlane(ClusterConfig(simulate=True), MemoryStore(), pki)
        await plane.start()
        try:
            await test(Plane(plane, pki))
        finally:
            await plane.close()

    clock.run_virtual(main())


def ways(certificate: x509.Certificate) -> list[str]:
    return [o.dotted_string for o in certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value]


def test_an_approved_request_of_a_user_is_signed_by_the_cluster_authority(tmp_path: Path) -> None:
    async def test(plane: Plane) -> None:
        pem = request("jane", "developers", dns=("x.example.com",))
        await plane.client.create(csr("jane", rules.API_CLIENT, pem, CLIENT))
        assert not (await plane.get("jane")).status.certificate
        await plane.decide("jane", "Approved")
        made = await plane.certificate("jane")
        assert plane.pki.ca.issued(made)
        assert made.subject.rfc4514_string() == "CN=jane,O=developers"
        assert ways(made) == ["1.3.6.1.5.5.7.3.2"]
        usage = made.extensions.get_extension_for_class(x509.KeyUsage).value
        assert (usage.digital_signature, usage.key_encipherment, usage.key_cert_sign) == (True, True, False)
        names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == ["x.example.com"]
        assert not made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        days = (made.not_valid_after_utc - made.not_valid_before_utc) / timedelta(days=1)
        assert days == pytest.approx(365)

    run(tmp_path, test)


def test_denied_requests_and_those_of_other_signers_are_not_signed(tmp_path: Path) -> None:
    async def test(plane: Plane) -> None:
        await plane.client.create(csr("denied", rules.API_CLIENT, request("jane"), CLIENT))
        await plane.decide("denied", "Denied")
        await plane.client.create(csr("other", "example.com/signer", request("jane"), CLIENT))
        await plane.decide("other", "Approved")
        for name in ("denied", "other"):
            found = await plane.get(name)
            assert not found.status.certificate
            assert len(found.status.conditions or []) == 1

    run(tmp_path, test)


def test_what_the_rules_of_a_signer_do_not_allow_fails_for_good(tmp_path: Path) -> None:
    async def test(plane: Plane) -> None:
        await plane.client.create(csr("bad", rules.API_CLIENT, request("jane"), [*CLIENT, "server auth"]))
        await plane.decide("bad", "Approved")
        found = await plane.get("bad")
        failed = (found.status.conditions or [])[1]
        assert (failed.type, failed.status, failed.reason, failed.message) == (
            "Failed", "True", "SignerValidationFailure", "invalid usage for client certificate: server auth",
        )  # fmt: skip
        version = found.metadata.resource_version
        assert (await plane.get("bad")).metadata.resource_version == version

    run(tmp_path, test)


def test_a_shorter_life_may_be_asked_for(tmp_path: Path) -> None:
    async def test(plane: Plane) -> None:
        await plane.client.create(csr("short", rules.API_CLIENT, request("jane"), CLIENT, expiration_seconds=600))
        await plane.decide("short", "Approved")
        made = await plane.certificate("short")
        assert timedelta(seconds=590) < made.not_valid_after_utc - clock.now() <= timedelta(seconds=600)

    run(tmp_path, test)


def test_a_node_that_renews_its_identity_is_approved_and_one_that_takes_another_is_not(tmp_path: Path) -> None:
    async def test(plane: Plane) -> None:
        role = "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient"
        binding = rbac_v1.ClusterRoleBinding(
            metadata=meta_v1.ObjectMeta(name="renewal"),
            role_ref=rbac_v1.RoleRef(api_group="rbac.authorization.k8s.io", kind="ClusterRole", name=role),
            subjects=[rbac_v1.Subject(api_group="rbac.authorization.k8s.io", kind="Group", name="system:nodes")],
        )
        node = plane.as_user(NODE)
        for name, who in (("own", "system:node:n1"), ("foreign", "system:node:n2")):
            await node.create(csr(name, rules.KUBELET_CLIENT, request(who, "system:nodes"), CLIENT))
        await node.create(
            csr("serving", rules.KUBELET_SERVING, request("system:node:n1", "system:nodes", dns=("n1",)),
                ["digital signature", "server auth"])
        )  # fmt: skip
        assert not (await plane.get("own")).status.conditions
        await plane.client.create(binding)
        await asyncio.sleep(61)
        own = await plane.get("own")
        condition = (own.status.conditions or [])[0]
        assert (condition.type, condition.reason, condition.message) == (
            "Approved", "AutoApproved", "Auto approving self kubelet client certificate after SubjectAccessReview.",
        )  # fmt: skip
        assert (await plane.certificate("own")).subject.rfc4514_string() == "CN=system:node:n1,O=system:nodes"
        assert not (await plane.get("foreign")).status.conditions
        assert not (await plane.get("serving")).status.conditions
        await plane.decide("serving", "Approved")
        assert ways(await plane.certificate("serving")) == ["1.3.6.1.5.5.7.3.1"]

    run(tmp_path, test)


async def refused(call: Awaitable[Any]) -> str:
    with pytest.raises(StatusError) as caught:
        await call
    assert caught.value.code == 403
    return caught.value.status.message or ""


def test_who_may_decide_and_sign_is_asked_for_each_signer(tmp_path: Path) -> None:
    async def test(plane: Plane) -> None:
        def rule(verbs: list[str], resources: list[str], names: list[str] | None = None) -> rbac_v1.PolicyRule:
            groups = ["certificates.k8s.io"]
            return rbac_v1.PolicyRule(verbs=verbs, api_groups=groups, resources=resources, resource_names=names)

        everything = [f"certificatesigningrequests{s}" for s in ("", "/approval", "/status")]
        role = rbac_v1.ClusterRole(
            metadata=meta_v1.ObjectMeta(name="officer"),
            rules=[
                rule(["get", "update"], everything),
                rule(["approve", "sign"], ["signers"], ["example.com/*", "other.org/one"]),
            ],
        )
        await plane.client.create(role)
        group = "rbac.authorization.k8s.io"
        await plane.client.create(
            rbac_v1.ClusterRoleBinding(
                metadata=meta_v1.ObjectMeta(name="officer"),
                role_ref=rbac_v1.RoleRef(api_group=group, kind="ClusterRole", name="officer"),
                subjects=[rbac_v1.Subject(api_group=group, kind="User", name="olga")],
            )
        )
        olga = plane.as_user(User("olga", ("system:authenticated",)))
        signers = {"a": "example.com/any", "b": "other.org/one", "c": "other.org/two"}
        for name, signer in signers.items():
            await plane.client.create(csr(name, signer, request("x"), CLIENT))
        for name in "ab":
            await plane.decide(name, "Approved", olga)
        assert await refused(plane.decide("c", "Approved", olga)) == (
            'certificatesigningrequests.certificates.k8s.io "c" is forbidden: user not permitted to approve requests '
            'with signerName "other.org/two"'
        )
        certificate = base64.b64encode(plane.pki.ca.certificate).decode()

        async def sign(name: str) -> None:
            found = struct.clone(await plane.client.get(CertificateSigningRequest, name))
            found.status.certificate = certificate
            await olga.update_status(found)

        await sign("a")
        assert await refused(sign("c")) == (
            'certificatesigningrequests.certificates.k8s.io "c" is forbidden: user not permitted to sign requests '
            'with signerName "other.org/two"'
        )

    run(tmp_path, test)


def test_nobody_becomes_a_master_by_request(tmp_path: Path) -> None:
    async def test(plane: Plane) -> None:
        text = await refused(
            plane.client.create(csr("root", rules.API_CLIENT, request("r", "a", "system:masters"), CLIENT))
        )
        assert text == (
            'certificatesigningrequests.certificates.k8s.io "root" is forbidden: use of '
            "kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed"
        )

    run(tmp_path, test)


def test_who_publishes_roots_of_a_signer_must_be_allowed_to_attest(tmp_path: Path) -> None:
    async def test(plane: Plane) -> None:
        olga = plane.as_user(User("olga", ("system:authenticated",)))
        role = rbac_v1.ClusterRole(
            metadata=meta_v1.ObjectMeta(name="publisher"),
            rules=[
                rbac_v1.PolicyRule(
                    verbs=["create"], api_groups=["certificates.k8s.io"], resources=["clustertrustbundles"]
                )
            ],
        )
        await plane.client.create(role)
        group = "rbac.authorization.k8s.io"
        await plane.client.create(
            rbac_v1.ClusterRoleBinding(
                metadata=meta_v1.ObjectMeta(name="publisher"),
                role_ref=rbac_v1.RoleRef(api_group=group, kind="ClusterRole", name="publisher"),
                subjects=[rbac_v1.Subject(api_group=group, kind="User", name="olga")],
            )
        )

        def bundle(name: str, signer: str | None) -> certificates_v1.ClusterTrustBundle:
            spec = certificates_v1.ClusterTrustBundleSpec(
                signer_name=signer, trust_bundle=plane.pki.ca.certificate.decode()
            )
            return certificates_v1.ClusterTrustBundle(metadata=meta_v1.ObjectMeta(name=name), spec=spec)

        await asyncio.sleep(1)
        await olga.create(bundle("free", None))
        text = await refused(olga.create(bundle("example.com:any:one", "example.com/any")))
        assert text.endswith('is forbidden: user not permitted to attest for signerName "example.com/any"')
        await plane.client.create(bundle("example.com:any:one", "example.com/any"))

    run(tmp_path, test)


def test_answered_requests_go_after_an_hour_and_pending_ones_after_a_day(tmp_path: Path) -> None:
    async def test(plane: Plane) -> None:
        for name in ("signed", "denied", "pending", "approved"):
            signer = "example.com/x" if name == "approved" else rules.API_CLIENT
            await plane.client.create(csr(name, signer, request("jane"), CLIENT))
        await plane.decide("signed", "Approved")
        await plane.decide("approved", "Approved")
        await plane.decide("denied", "Denied")

        async def left() -> list[str | None]:
            return [r.metadata.name for r in (await plane.client.list(CertificateSigningRequest)).items]

        await asyncio.sleep(3590)
        assert await left() == ["approved", "denied", "pending", "signed"]
        await asyncio.sleep(20)
        assert await left() == ["approved", "pending"]
        await asyncio.sleep(86400)
        assert await left() == ["approved"]

    run(tmp_path, test)


def test_an_expired_certificate_takes_its_request_along(tmp_path: Path) -> None:
    certificate, _ = Pki(tmp_path).ca.issue("x", lifetime=timedelta(minutes=10))
    now = times.format(clock.now())
    found = csr("x", rules.API_CLIENT, "", CLIENT)
    found.status.certificate = base64.b64encode(certificate).decode()
    found.status.conditions = [CertificateSigningRequestCondition(type="Approved", last_update_time=now)]
    when = csr_cleaner.due(found)
    assert when is not None
    assert abs(when - clock.now() - timedelta(minutes=10)) < timedelta(seconds=5)
    assert isinstance(when, datetime)


YEAR = timedelta(days=365)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (None, YEAR - timedelta(minutes=5)),
        (60, timedelta(minutes=10)),
        (3600, timedelta(hours=1)),
        (8 * 3600, timedelta(hours=8) - timedelta(minutes=5)),
        (10**9, YEAR - timedelta(minutes=5)),
    ],
)
def test_how_long_a_certificate_is_good(asked: int | None, expected: timedelta) -> None:
    assert csr_signing.lifetime(asked, YEAR) == expected


NODE_CLIENT = Wanted("system:node:a", ("system:nodes",))
NODE_SERVING = Wanted("system:node:a", ("system:nodes",), dns=("a",))


@pytest.mark.parametrize(
    ("signer", "wanted", "usages", "problem"),
    [
        (rules.KUBELET_CLIENT, NODE_CLIENT, CLIENT, ""),
        (rules.KUBELET_CLIENT, NODE_CLIENT, ["client auth", "digital signature"], ""),
        (
            rules.KUBELET_CLIENT,
            NODE_CLIENT,
            ["client auth"],
            "usages did not match [client auth digital signature key encipherment]",
        ),
        (rules.KUBELET_CLIENT, Wanted("system:node:a"), CLIENT, "subject organization is not system:nodes"),
        (
            rules.KUBELET_CLIENT,
            Wanted("system:node:a", ("system:nodes", "b")),
            CLIENT,
            "subject organization is not system:nodes",
        ),
        (
            rules.KUBELET_CLIENT,
            Wanted("a", ("system:nodes",)),
            CLIENT,
            "subject common name does not begin with system:node:",
        ),
        (rules.KUBELET_CLIENT, NODE_SERVING, CLIENT, "DNS subjectAltNames are not allowed"),
        (rules.KUBELET_SERVING, NODE_CLIENT, CLIENT, "DNS or IP subjectAltName is required"),
        (
            rules.KUBELET_SERVING,
            NODE_SERVING,
            CLIENT,
            "usages did not match [digital signature key encipherment server auth]",
        ),
        (rules.KUBELET_SERVING, NODE_SERVING, ["server auth", "digital signature"], ""),
        (
            rules.KUBELET_SERVING,
            Wanted("system:node:a", ("system:nodes",), dns=("a",), uris=("u:x",)),
            ["server auth", "digital signature"],
            "URI subjectAltNames are not allowed",
        ),
        (
            rules.API_CLIENT,
            Wanted("x"),
            ["digital signature"],
            "missing required usage for client certificate: client auth",
        ),
        (rules.API_CLIENT, Wanted("x"), CLIENT, ""),
        (rules.LEGACY_UNKNOWN, Wanted(), ["any"], ""),
    ],
)
def test_rules_of_signers(signer: str, wanted: Wanted, usages: list[str], problem: str) -> None:
    assert rules.RULES[signer](wanted, usages) == problem
