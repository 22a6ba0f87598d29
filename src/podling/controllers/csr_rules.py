"""What the controllers of CertificateSigningRequests share: how a request was decided upon."""

from __future__ import annotations

from podling.api.certificates_v1 import CertificateSigningRequest

APPROVED, DENIED, FAILED = "Approved", "Denied", "Failed"


def decided(request: CertificateSigningRequest) -> bool:
    """Somebody approved or denied it."""
    return any(c.type in (APPROVED, DENIED) for c in request.status.conditions or ())


def approved(request: CertificateSigningRequest) -> bool:
    """Approved, and not denied by somebody else."""
    types = {c.type for c in request.status.conditions or ()}
    return APPROVED in types and DENIED not in types


def failed(request: CertificateSigningRequest) -> bool:
    """Its signer gave up on it."""
    return any(c.type == FAILED and c.status in ("True", "") for c in request.status.conditions or ())
