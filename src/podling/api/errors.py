"""API failures: exceptions that are a metav1.Status.

    StatusError             carries the Status; `reason` and `code` are what callers branch on
    (made by)  bad_request 400, unauthorized 401, forbidden 403, not_found 404, method_not_allowed 405,
               not_acceptable 406, already_exists and conflict 409, expired (gone) 410, invalid 422,
               too_many_requests 429, internal 500, unavailable 503, timeout 504

Messages are upstream's (k8s.io/apimachinery pkg/api/errors), because people and tools match on them.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from podling.api import meta_v1
from podling.errors import PodlingError


class StatusError(PodlingError):
    """A failed API request, as the server said it."""

    def __init__(self, status: meta_v1.Status) -> None:
        super().__init__(status.message or status.reason or "unknown API failure")
        self.status = status

    @property
    def code(self) -> int:
        return self.status.code or 500

    @property
    def reason(self) -> str:
        return self.status.reason or ""


class FieldError(msgspec.Struct, frozen=True):
    """One finding of validation: upstream's field.Error.

    `type` is a cause's reason (FieldValueRequired, FieldValueInvalid, ...), `field` a path such as
    `spec.containers[0].image`, `detail` the text after the type's own words (see machinery.validation).
    """

    type: str
    field: str
    body: str

    def __str__(self) -> str:
        return f"{self.field}: {self.body}"


def _failure(code: int, reason: str, message: str, details: meta_v1.StatusDetails | None = None) -> StatusError:
    return StatusError(meta_v1.Status(status="Failure", code=code, reason=reason, message=message, details=details))


def _details(resource: str, group: str, name: str) -> meta_v1.StatusDetails:
    return meta_v1.StatusDetails(name=name or None, group=group or None, kind=resource or None)


def _qualified(resource: str, group: str) -> str:
    return f"{resource}.{group}" if group else resource


def bad_request(message: str) -> StatusError:
    return _failure(400, "BadRequest", message)


def unauthorized(message: str = "Unauthorized") -> StatusError:
    return _failure(401, "Unauthorized", message)


def forbidden(resource: str, group: str, name: str, why: str) -> StatusError:
    what = _qualified(resource, group)
    message = f'{what} "{name}" is forbidden: {why}' if name else f"{what} is forbidden: {why}"
    return _failure(403, "Forbidden", message, _details(resource, group, name))


def not_found(resource: str, group: str, name: str) -> StatusError:
    return _failure(
        404, "NotFound", f'{_qualified(resource, group)} "{name}" not found', _details(resource, group, name)
    )


def path_not_found() -> StatusError:
    """No resource is served at the path."""
    return _failure(404, "NotFound", "the server could not find the requested resource", meta_v1.StatusDetails())


def method_not_allowed(resource: str, group: str, verb: str) -> StatusError:
    message = f'{verb} is not supported on resources of kind "{_qualified(resource, group)}"'
    return _failure(405, "MethodNotAllowed", message, _details(resource, group, ""))


def not_acceptable(message: str) -> StatusError:
    return _failure(406, "NotAcceptable", message)


def unsupported_media_type(message: str) -> StatusError:
    return _failure(415, "UnsupportedMediaType", message)


def already_exists(resource: str, group: str, name: str) -> StatusError:
    return _failure(
        409, "AlreadyExists", f'{_qualified(resource, group)} "{name}" already exists', _details(resource, group, name)
    )


def conflict(resource: str, group: str, name: str, why: str) -> StatusError:
    message = f'Operation cannot be fulfilled on {_qualified(resource, group)} "{name}": {why}'
    return _failure(409, "Conflict", message, _details(resource, group, name))


def expired(message: str) -> StatusError:
    return _failure(410, "Expired", message)


def request_entity_too_large(message: str) -> StatusError:
    return _failure(413, "RequestEntityTooLarge", message)


def invalid(kind: str, group: str, name: str, findings: Sequence[FieldError]) -> StatusError:
    """Validation failed; every finding becomes a cause."""
    texts = [str(f) for f in findings]
    joined = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    details = _details(kind, group, name)
    details.causes = [meta_v1.StatusCause(reason=f.type, message=f.body, field=f.field) for f in findings]
    return _failure(422, "Invalid", f'{_qualified(kind, group)} "{name}" is invalid: {joined}', details)


def too_many_requests(message: str, retry_after_seconds: int) -> StatusError:
    return _failure(
        429, "TooManyRequests", message, meta_v1.StatusDetails(retry_after_seconds=retry_after_seconds or None)
    )


def internal(message: str) -> StatusError:
    return _failure(500, "InternalError", f"Internal error occurred: {message}")


def unavailable(message: str) -> StatusError:
    return _failure(503, "ServiceUnavailable", message)


def timeout(message: str, retry_after_seconds: int = 0) -> StatusError:
    details = meta_v1.StatusDetails(retry_after_seconds=retry_after_seconds or None)
    return _failure(504, "Timeout", f"Timeout: {message}", details)


def is_not_found(error: BaseException) -> bool:
    return isinstance(error, StatusError) and error.reason == "NotFound"


def is_conflict(error: BaseException) -> bool:
    return isinstance(error, StatusError) and error.reason == "Conflict"


def is_already_exists(error: BaseException) -> bool:
    return isinstance(error, StatusError) and error.reason == "AlreadyExists"


def is_expired(error: BaseException) -> bool:
    return isinstance(error, StatusError) and error.reason in ("Expired", "Gone")
