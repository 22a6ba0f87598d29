"""ClusterTrustBundles: certificate authorities that pods may mount, of a signer or of no one in particular."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api import certificates_v1, names
from podling.apiserver.resources import printing
from podling.apiserver.resources.certificates import signers
from podling.apiserver.strategy import Strategy
from podling.machinery.validation import Findings, Path, each, immutable, invalid, too_long

_SIGNER = Path("spec").child("signerName")
_BUNDLE = Path("spec").child("trustBundle")
_MAX_BYTES = 1024 * 1024
_OMITTED = "<value omitted>"


class ClusterTrustBundleStrategy(Strategy[certificates_v1.ClusterTrustBundle]):
    selectable_fields = ("spec.signerName",)
    unconditional_update = False
    columns = (printing.NAME, printing.text("SignerName"))

    def validate(self, obj: certificates_v1.ClusterTrustBundle) -> Findings:
        return self._named(obj) + _anchors(obj.spec.trust_bundle)

    def validate_update(
        self, new: certificates_v1.ClusterTrustBundle, old: certificates_v1.ClusterTrustBundle
    ) -> Findings:
        found = self._named(new)
        if new.spec.trust_bundle != old.spec.trust_bundle:
            found += _anchors(new.spec.trust_bundle)
        return found + immutable(new.spec.signer_name or "", old.spec.signer_name or "", _SIGNER)

    def _named(self, obj: certificates_v1.ClusterTrustBundle) -> Findings:
        """The name begins with the signer's: `example.com:server:first`."""
        name, signer = obj.metadata.name or "", obj.spec.signer_name or ""
        at = Path("metadata").child("name")
        if not signer:
            if ":" in name:
                return [invalid(at, name, 'ClusterTrustBundle without signer name must not have ":" in its name')]
            return each(at, name, names.dns_subdomain(name))
        prefix = f"{signer.replace('/', ':')}:"
        if not name.startswith(prefix):
            detail = f"ClusterTrustBundle for signerName {signer} must be named with prefix {prefix}"
            found: Findings = [invalid(at, name, detail)]
        else:
            found = each(at, name, names.dns_subdomain(name.removeprefix(prefix)))
        return found + signers.signer_name(signer, _SIGNER)

    def validate_name(self, name: str, *, prefix: bool) -> list[str]:
        return names.path_segment(name, prefix=prefix)

    def fields(self, obj: certificates_v1.ClusterTrustBundle) -> dict[str, str]:
        return {"spec.signerName": obj.spec.signer_name or ""}

    def row(self, obj: certificates_v1.ClusterTrustBundle, now: datetime) -> list[Any]:
        return [printing.name(obj.metadata), obj.spec.signer_name or printing.NONE]


def _anchors(bundle: str) -> Findings:
    """Certificates of authorities in PEM, none of them twice."""
    if len(bundle.encode()) > _MAX_BYTES:
        return [too_long(_BUNDLE, _MAX_BYTES)]
    problems: list[str] = []
    indices: dict[bytes, list[int]] = {}
    for index, block in enumerate(signers.blocks(bundle)):
        if problem := _anchor_problem(block):
            problems.append(f"entry {index} {problem}")
        indices.setdefault(block.der, []).append(index)
    if not problems and not indices:
        problems.append("at least one trust anchor must be provided")
    elif not problems:
        for where in indices.values():
            if len(where) > 1:
                problems.append(f"duplicate trust anchor (indices [{' '.join(map(str, where))}])")
    return [invalid(_BUNDLE, _OMITTED, problem) for problem in problems]


def _anchor_problem(block: signers.Block) -> str:
    from cryptography import x509

    if block.type != "CERTIFICATE":
        return f"has bad block type: {block.type}"
    if block.headers:
        return "has PEM block headers"
    try:
        extensions = x509.load_der_x509_certificate(block.der).extensions
    except ValueError:
        return "does not parse as X.509"
    try:
        is_ca = extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        is_ca = False
    return "" if is_ca else "does not have the CA bit set"
