"""Admission of CertificateSigningRequests: who may approve and sign for which signer, and what nobody may ask for.

Everyone with access to the subresources could otherwise decide for every signer: the right to `approve`, `sign` or
`attest` is asked for the resource `signers`, by the signer's name (`example.com/serving`) or its domain
(`example.com/*`).
"""

from __future__ import annotations

import base64

from podling.apiserver.admission.base import CREATE, UPDATE, Attributes, Plugin
from podling.apiserver.admission.refusal import forbidden
from podling.apiserver.authz.attributes import Attributes as Asked
from podling.apiserver.authz.attributes import settled
from podling.machinery import certificate_requests
from podling.machinery.validation import quote

_GROUP = "certificates.k8s.io"
_REQUESTS = f"certificatesigningrequests.{_GROUP}"
_BUNDLES = f"clustertrustbundles.{_GROUP}"
_MASTERS = "system:masters"


class _SignerPlugin(Plugin):
    validates = True

    async def may(self, attributes: Attributes, verb: str, signer: str) -> bool:
        """Whether the user may do it for the signer, or for all of its domain."""
        if self.app.authorizer is None:
            return True
        for name in (signer, f"{signer.split('/', 1)[0]}/*"):
            asked = Asked(attributes.user, verb, _GROUP, "*", "signers", name=name)
            if (await settled(self.app.authorizer(asked))).allowed:
                return True
        return False


class CertificateApproval(_SignerPlugin):
    name = "CertificateApproval"
    operations = frozenset((UPDATE,))
    resources = frozenset((_REQUESTS,))
    subresources = frozenset(("approval",))

    async def validate(self, attributes: Attributes) -> None:
        # The old signer: an attempt to change it along with the approval must not help.
        signer = attributes.old.spec.signer_name
        if not await self.may(attributes, "approve", signer):
            raise forbidden(attributes, f"user not permitted to approve requests with signerName {quote(signer)}")


class CertificateSigning(_SignerPlugin):
    name = "CertificateSigning"
    operations = frozenset((UPDATE,))
    resources = frozenset((_REQUESTS,))
    subresources = frozenset(("status",))

    async def validate(self, attributes: Attributes) -> None:
        new, old = attributes.obj.status, attributes.old.status
        if (new.certificate or "") == (old.certificate or "") and (new.conditions or []) == (old.conditions or []):
            return
        signer = attributes.old.spec.signer_name
        if not await self.may(attributes, "sign", signer):
            raise forbidden(attributes, f"user not permitted to sign requests with signerName {quote(signer)}")


class ClusterTrustBundleAttest(_SignerPlugin):
    """Who publishes the roots of a signer speaks for it."""

    name = "ClusterTrustBundleAttest"
    resources = frozenset((_BUNDLES,))

    async def validate(self, attributes: Attributes) -> None:
        signer = attributes.obj.spec.signer_name or ""
        if signer and not await self.may(attributes, "attest", signer):
            raise forbidden(attributes, f"user not permitted to attest for signerName {quote(signer)}")


class CertificateSubjectRestriction(Plugin):
    """A certificate of the group that may do everything can't be had by a request: it could not be taken back."""

    name = "CertificateSubjectRestriction"
    operations = frozenset((CREATE,))
    resources = frozenset((_REQUESTS,))
    validates = True

    async def validate(self, attributes: Attributes) -> None:
        spec = attributes.obj.spec
        if spec.signer_name != certificate_requests.API_CLIENT:
            return
        try:
            wanted = certificate_requests.parse(base64.b64decode(spec.request))
        except ValueError as error:
            raise forbidden(attributes, f"failed to parse CSR: {error}") from None
        if _MASTERS in wanted.organizations:
            why = f"use of {certificate_requests.API_CLIENT} signer with {_MASTERS} group is not allowed"
            raise forbidden(attributes, why)
