"""Old CertificateSigningRequests go: an hour after they were answered, a day after they were made if nobody cared.

One timer a request, instead of upstream's look at all of them every hour.
"""

from __future__ import annotations

import base64
from datetime import datetime, timedelta

from podling import clock
from podling.api import errors, times
from podling.api.certificates_v1 import CertificateSigningRequest
from podling.controllers import csr_rules
from podling.controllers.base import Context, Controller

ANSWERED = timedelta(hours=1)
PENDING = timedelta(hours=24)


def due(request: CertificateSigningRequest) -> datetime | None:
    """When the request may go; None if it stays (approved, and not signed yet)."""
    conditions = request.status.conditions or []
    if not conditions:
        created = request.metadata.creation_timestamp
        return times.parse(created) + PENDING if created else None
    found: list[datetime] = []
    certificate = request.status.certificate
    for condition in conditions:
        answered = condition.type in (csr_rules.DENIED, csr_rules.FAILED)
        if condition.last_update_time and (answered or (condition.type == csr_rules.APPROVED and certificate)):
            found.append(times.after(times.parse(condition.last_update_time), ANSWERED.total_seconds()))
        if condition.type == csr_rules.APPROVED and certificate:
            ends = _end(certificate)
            if ends is not None:
                found.append(ends)
    return min(found, default=None)


def _end(certificate: str) -> datetime | None:
    """When a certificate is no longer good; None for what is none."""
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificate(base64.b64decode(certificate)).not_valid_after_utc
    except ValueError:
        return None


class CsrCleanerController(Controller):
    """See the module."""

    name = "certificatesigningrequest-cleaner-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._requests = self.watch(CertificateSigningRequest)

    async def reconcile(self, key: str) -> None:
        request = self._requests.get(key)
        when = due(request) if request is not None else None
        if request is None or when is None or request.metadata.deletion_timestamp is not None:
            return
        left = (when - clock.now()).total_seconds()
        if left >= 0:
            self.queue.add_after(key, left + 1)
            return
        meta = request.metadata
        try:
            await self.client.delete(CertificateSigningRequest, meta.name or "", uid=meta.uid)
        except errors.StatusError as error:
            if not errors.is_not_found(error):
                raise
