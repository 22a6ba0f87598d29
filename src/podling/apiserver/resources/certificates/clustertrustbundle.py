"""ClusterTrustBundles."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from podling.api import certificates_v1, names
from podling.apiserver.resources import printing
from podling.apiserver.strategy import Strategy
from podling.machinery.validation import Findings, Path, immutable, required


class ClusterTrustBundleStrategy(Strategy[certificates_v1.ClusterTrustBundle]):
    selectable_fields = ("spec.signerName",)
    columns = (printing.NAME, printing.text("SignerName"))

    def validate_name(self, name: str, *, prefix: bool) -> list[str]:
        return names.dns_subdomain(name.rpartition(":")[2], prefix=prefix)

    def validate(self, obj: certificates_v1.ClusterTrustBundle) -> Findings:
        if not obj.spec.trust_bundle:
            return [required(Path("spec").child("trustBundle"), "at least one trust anchor must be provided")]
        return []

    def validate_update(
        self, new: certificates_v1.ClusterTrustBundle, old: certificates_v1.ClusterTrustBundle
    ) -> Findings:
        at = Path("spec").child("signerName")
        return self.validate(new) + immutable(new.spec.signer_name, old.spec.signer_name, at)

    def fields(self, obj: certificates_v1.ClusterTrustBundle) -> dict[str, str]:
        return {"spec.signerName": obj.spec.signer_name or ""}

    def row(self, obj: certificates_v1.ClusterTrustBundle, now: datetime) -> list[Any]:
        return [printing.name(obj.metadata), obj.spec.signer_name or printing.NONE]
