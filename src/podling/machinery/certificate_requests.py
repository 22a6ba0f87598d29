"""PKCS#10 certificate requests: what they ask for, and what Kubernetes' own signers let them have.

The rules are upstream's (https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/), the
texts too: they become the message of a request's condition Failed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import msgspec

API_CLIENT = "kubernetes.io/kube-apiserver-client"
KUBELET_CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"
KUBELET_SERVING = "kubernetes.io/kubelet-serving"
LEGACY_UNKNOWN = "kubernetes.io/legacy-unknown"

_NODES, _NODE = "system:nodes", "system:node:"


class Wanted(msgspec.Struct, frozen=True):
    """Subject and alternative names that a request asks for."""

    common_name: str = ""
    organizations: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    ips: tuple[str, ...] = ()
    emails: tuple[str, ...] = ()
    uris: tuple[str, ...] = ()


def parse(pem: bytes) -> Wanted:
    """What a request in PEM asks for. ValueError if it is none."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    if b"-----BEGIN CERTIFICATE REQUEST-----" not in pem:
        raise ValueError("PEM block type must be CERTIFICATE REQUEST")
    try:
        request = x509.load_pem_x509_csr(pem)
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        names = x509.SubjectAlternativeName([])
    except x509.UnsupportedGeneralNameType as error:
        raise ValueError(str(error)) from error

    def subject(oid: x509.ObjectIdentifier) -> tuple[str, ...]:
        return tuple(str(a.value) for a in request.subject.get_attributes_for_oid(oid))

    return Wanted(
        common_name=(subject(NameOID.COMMON_NAME) or ("",))[-1],
        organizations=subject(NameOID.ORGANIZATION_NAME),
        dns=tuple(names.get_values_for_type(x509.DNSName)),
        ips=tuple(map(str, names.get_values_for_type(x509.IPAddress))),
        emails=tuple(names.get_values_for_type(x509.RFC822Name)),
        uris=tuple(names.get_values_for_type(x509.UniformResourceIdentifier)),
    )


def _usages(given: Collection[str], needed: str) -> str:
    """Digital signature and the needed one; key encipherment only makes sense with RSA keys."""
    expected = {"digital signature", "key encipherment", needed}
    if set(given) in (expected, expected - {"key encipherment"}):
        return ""
    return f"usages did not match [{' '.join(sorted(expected))}]"


def kubelet_client(wanted: Wanted, usages: Collection[str]) -> str:
    """What is wrong with a request of a node agent for its identity towards the API server; "" if nothing is."""
    if wanted.organizations != (_NODES,):
        return "subject organization is not system:nodes"
    for names, kind in ((wanted.dns, "DNS"), (wanted.emails, "Email"), (wanted.ips, "IP"), (wanted.uris, "URI")):
        if names:
            return f"{kind} subjectAltNames are not allowed"
    if not wanted.common_name.startswith(_NODE):
        return "subject common name does not begin with system:node:"
    return _usages(usages, "client auth")


def kubelet_serving(wanted: Wanted, usages: Collection[str]) -> str:
    """What is wrong with a request of a node agent for the certificate that it serves with."""
    if wanted.organizations != (_NODES,):
        return "subject organization is not system:nodes"
    if not wanted.dns and not wanted.ips:
        return "DNS or IP subjectAltName is required"
    for names, kind in ((wanted.emails, "Email"), (wanted.uris, "URI")):
        if names:
            return f"{kind} subjectAltNames are not allowed"
    if problem := _usages(usages, "server auth"):
        return problem
    return "" if wanted.common_name.startswith(_NODE) else "subject common name does not begin with system:node:"


def api_client(wanted: Wanted, usages: Collection[str]) -> str:
    """What is wrong with a request for a user's certificate."""
    for usage in usages:
        if usage not in ("digital signature", "key encipherment", "client auth"):
            return f"invalid usage for client certificate: {usage}"
    return "" if "client auth" in usages else "missing required usage for client certificate: client auth"


def anything(wanted: Wanted, usages: Collection[str]) -> str:
    """The legacy signer has no rules: nobody trusts what it signs for anything in particular."""
    return ""


#: The rules of each of Kubernetes' own signers.
RULES: dict[str, Callable[[Wanted, Collection[str]], str]] = {
    API_CLIENT: api_client,
    KUBELET_CLIENT: kubelet_client,
    KUBELET_SERVING: kubelet_serving,
    LEGACY_UNKNOWN: anything,
}
