"""One request for a resource, on its way through the server."""

from __future__ import annotations

from podling.api.errors import FieldError, bad_request, invalid
from podling.api.numbers import NumberError, parse_int
from podling.api.request import Request, User
from podling.apiserver.core import Core
from podling.apiserver.request_info import RequestInfo
from podling.apiserver.served import Served
from podling.apiserver.strategy import Context


class Call:
    """A request for a resource."""

    __slots__ = ("app", "info", "request", "served", "user", "warnings")

    def __init__(self, app: Core, request: Request, info: RequestInfo, user: User, served: Served) -> None:
        self.app = app
        self.request = request
        self.info = info
        self.user = user
        self.served = served
        self.warnings: list[str] = []

    @property
    def dry_run(self) -> bool:
        """StatusError 400/422 if the parameter has a value that does not exist."""
        values = self.request.queries.get("dryRun") or (
            [self.request.query["dryRun"]] if "dryRun" in self.request.query else []
        )
        return check_dry_run([v for v in values if v], _OPTIONS.get(self.info.verb, "CreateOptions"))

    def context(self, name: str = "") -> Context:
        return Context(
            now=self.app.now(),
            user=self.user,
            namespace=self.info.namespace,
            name=name or self.info.name,
            subresource=self.info.subresource,
            dry_run="dryRun" in self.request.query and self.dry_run,
        )

    def warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)


_OPTIONS = {"create": "CreateOptions", "update": "UpdateOptions", "patch": "PatchOptions"}


def check_dry_run(values: list[str], kind: str) -> bool:
    """Whether nothing is to be persisted."""
    for value in values:
        if value != "All":
            body = f'Unsupported value: ["{value}"]: supported values: "All"'
            raise invalid(kind, "meta.k8s.io", "", [FieldError("FieldValueNotSupported", "dryRun", body)])
    return bool(values)


def integer(query: dict[str, str], name: str) -> int | None:
    """A numeric parameter, None if it is not there. StatusError 400."""
    text = query.get(name)
    if text is None:
        return None
    try:
        return parse_int(text)
    except NumberError as error:
        raise bad_request(str(error)) from None
