"""DenyServiceExternalIPs: no service takes addresses that are not the cluster's to give (CVE-2020-8554)."""

from __future__ import annotations

from podling.apiserver.admission.base import CREATE, UPDATE, Attributes, Plugin
from podling.apiserver.admission.refusal import forbidden


class DenyServiceExternalIPs(Plugin):
    name = "DenyServiceExternalIPs"
    operations = frozenset((CREATE, UPDATE))
    resources = frozenset(("services",))
    validates = True

    async def validate(self, attributes: Attributes) -> None:
        old = attributes.old.spec if attributes.old is not None else None
        before = set((old.external_ips if old is not None else None) or ())
        if not set(attributes.obj.spec.external_ips or ()) <= before:
            raise forbidden(attributes, "Use of external IPs is denied by admission control")
