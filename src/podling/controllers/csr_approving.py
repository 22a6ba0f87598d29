"""Approval of requests by which node agents get and renew their identity, if whoever asks may have it.

May they? is asked of the API server: `create` of certificatesigningrequests/nodeclient for any node's certificate (for
who lets nodes join), of certificatesigningrequests/selfnodeclient for one's own.
"""

from __future__ import annotations

import base64

from podling import log
from podling.api import authorization_v1, certificates_v1
from podling.api.certificates_v1 import CertificateSigningRequest
from podling.api.struct import clone
from podling.controllers import csr_rules
from podling.controllers.base import Context, Controller, ReconcileError
from podling.machinery import certificate_requests

_log = log.get(__name__)

#: Seconds until somebody who may not have it is looked at again: roles may have been given meanwhile.
AGAIN = 60.0
_MESSAGES = {
    "selfnodeclient": "Auto approving self kubelet client certificate after SubjectAccessReview.",
    "nodeclient": "Auto approving kubelet client certificate after SubjectAccessReview.",
}


def permissions(request: CertificateSigningRequest, wanted: certificate_requests.Wanted) -> list[str]:
    """The subresources one of which must be allowed; [] if the request is none for a node agent's identity."""
    if request.spec.signer_name != certificate_requests.KUBELET_CLIENT:
        return []
    if certificate_requests.kubelet_client(wanted, request.spec.usages or []):
        return []
    own = request.spec.username == wanted.common_name
    return ["selfnodeclient", "nodeclient"] if own else ["nodeclient"]


class CsrApprovingController(Controller):
    """See the module."""

    name = "certificatesigningrequest-approving-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._requests = self.watch(CertificateSigningRequest)

    async def reconcile(self, key: str) -> None:
        request = self._requests.get(key)
        if request is None or request.status.certificate or csr_rules.decided(request):
            return
        if request.spec.signer_name != certificate_requests.KUBELET_CLIENT:
            return
        try:
            wanted = certificate_requests.parse(base64.b64decode(request.spec.request))
        except ValueError as error:
            raise ReconcileError(f'unable to parse csr "{key}": {error}') from error
        tried = permissions(request, wanted)
        for permission in tried:
            if await self._allowed(request.spec, permission):
                await self._approve(request, _MESSAGES[permission])
                return
        if tried:
            _log.debug('recognized csr "%s" as %s but subject access review was not approved', key, tried)
            self.queue.add_after(key, AGAIN)

    async def _allowed(self, spec: certificates_v1.CertificateSigningRequestSpec, permission: str) -> bool:
        asked = authorization_v1.ResourceAttributes(
            group="certificates.k8s.io", resource="certificatesigningrequests", verb="create", subresource=permission
        )
        review = authorization_v1.SubjectAccessReview(
            spec=authorization_v1.SubjectAccessReviewSpec(
                user=spec.username, uid=spec.uid, groups=spec.groups, extra=spec.extra, resource_attributes=asked
            )
        )
        return (await self.client.create(review)).status.allowed

    async def _approve(self, request: CertificateSigningRequest, message: str) -> None:
        changed = clone(request)
        condition = certificates_v1.CertificateSigningRequestCondition(
            type=csr_rules.APPROVED, status="True", reason="AutoApproved", message=message
        )
        changed.status.conditions = [*(changed.status.conditions or ()), condition]
        await self.client.update_subresource(changed, "approval")
