"""Certificates for approved requests of Kubernetes' own signers, by the cluster's authority.

What a signer's rules don't allow fails for good, with the reason in a condition. Requests to signers of others are left
to them.
"""

from __future__ import annotations

import base64
from datetime import timedelta

from podling import clock
from podling.api import certificates_v1, times
from podling.api.certificates_v1 import CertificateSigningRequest
from podling.api.struct import clone
from podling.controllers import csr_rules
from podling.controllers.base import Context, Controller, ReconcileError
from podling.machinery import certificate_requests

#: No certificate is shorter, whatever is asked for: clocks differ.
SHORTEST = timedelta(minutes=10)
#: Certificates begin so much earlier than now; long ones end so much earlier too, to be as long as asked for.
BACKDATE = timedelta(minutes=5)
LONG = timedelta(hours=8)


def lifetime(asked: int | None, most: timedelta) -> timedelta:
    """How long a certificate is good from now on, if `asked` seconds are asked for and `most` is the signer's own."""
    wanted = most if asked is None else max(SHORTEST, min(timedelta(seconds=asked), most))
    return wanted if wanted < LONG else wanted - BACKDATE


class CsrSigningController(Controller):
    """See the module."""

    name = "certificatesigningrequest-signing-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._requests = self.watch(CertificateSigningRequest)

    async def reconcile(self, key: str) -> None:
        request, signer = self._requests.get(key), self.context.config.signer
        if request is None or signer is None or request.status.certificate:
            return
        rule = certificate_requests.RULES.get(request.spec.signer_name)
        if rule is None or not csr_rules.approved(request) or csr_rules.failed(request):
            return
        pem, usages = base64.b64decode(request.spec.request), request.spec.usages or []
        try:
            wanted = certificate_requests.parse(pem)
        except ValueError as error:
            raise ReconcileError(f'unable to parse csr "{key}": {error}') from error
        changed = clone(request)
        if problem := rule(wanted, usages):
            _fail(changed, problem)
        else:
            most = timedelta(seconds=self.context.config.signing_duration)
            try:
                certificate = signer.sign_request(pem, usages, lifetime(request.spec.expiration_seconds, most))
            except ValueError as error:
                raise ReconcileError(f"error auto signing csr: {error}") from error
            changed.status.certificate = base64.b64encode(certificate).decode()
        await self.client.update_status(changed)


def _fail(request: CertificateSigningRequest, message: str) -> None:
    condition = certificates_v1.CertificateSigningRequestCondition(
        type=csr_rules.FAILED,
        status="True",
        reason="SignerValidationFailure",
        message=message,
        last_update_time=times.format(clock.now()),
    )
    request.status.conditions = [*(request.status.conditions or ()), condition]
