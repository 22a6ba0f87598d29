"""What the audit log is told of ServiceAccount tokens."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import jwt
import pytest

from apiserver.authn.test_service_accounts import KEY, Objects
from podling import clock
from podling.api import authentication_v1
from podling.api.struct import from_dict
from podling.apiserver.audit.auditor import Auditor
from podling.apiserver.audit.backend import Union
from podling.apiserver.audit.policy import Policy
from podling.apiserver.audit.rules import Rules
from podling.apiserver.audit.trail import Trail
from podling.apiserver.authn.service_accounts import TokenIssuer, TokenValidator
from podling.apiserver.request_info import resolve


def begun(path: str) -> Trail:
    """A request that is audited."""
    auditor = Auditor(Rules(from_dict({"rules": [{"level": "Metadata"}]}, Policy)), Union(()))
    return auditor.begin(resolve("POST", path, {}), path, {}, "10.0.0.1")


async def test_an_issued_token_is_known_by_its_id() -> None:
    trail = begun("/api/v1/namespaces/ns/serviceaccounts/bot/token")
    issuer = TokenIssuer(KEY, Objects())
    request = authentication_v1.TokenRequest(spec=authentication_v1.TokenRequestSpec())
    issued = issuer.issue("ns", "bot", request)
    claims: dict[str, Any] = jwt.decode(issued.status.token, options={"verify_signature": False})  # type: ignore
    key = "authentication.kubernetes.io/issued-credential-id"
    assert trail.annotations == {key: f"JTI={claims['jti']}"}
    trail.stray()


async def test_who_uses_a_stale_token_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    objects = Objects()
    issuer = TokenIssuer(KEY, objects)
    token = issuer.sign(objects.by_key["serviceaccounts", "ns", "bot"], issuer.audiences, 10_000, warn_after=100).token
    validator = TokenValidator(issuer.keys, objects)
    trail = begun("/version")
    validator.validate(token, issuer.audiences)
    assert trail.annotations == {}
    now = clock.now().replace(microsecond=0)
    monkeypatch.setattr(clock, "_now", lambda: now + timedelta(seconds=160))
    validator.validate(token, issuer.audiences)
    text = trail.annotations["authentication.k8s.io/stale-token"]
    assert text.startswith("subject: system:serviceaccount:ns:bot, seconds after warning threshold: ")
    assert 55 <= int(text.rpartition(" ")[2]) <= 61
    trail.stray()
