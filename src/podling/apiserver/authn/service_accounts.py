"""ServiceAccount tokens: signed JWTs that name an account, and the pod, node or secret that they live and die with.

`TokenIssuer` makes them (serviceaccounts/token), `TokenValidator` tells whose they are. A signature is verified once;
whether the account and the bound object still exist is looked up on every use. Source: Kubernetes' "Managing Service
Accounts", bound tokens; KEP-1205, KEP-4193.
"""

from __future__ import annotations

import uuid
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from podling import clock
from podling.api import authentication_v1, core_v1, errors, times
from podling.api.errors import FieldError
from podling.api.request import User
from podling.apiserver.audit.trail import current as audit_trail
from podling.apiserver.authn import metrics, names
from podling.apiserver.authn.certificates import with_authenticated
from podling.apiserver.authn.lookup import Lookup
from podling.apiserver.authn.metrics import CACHE
from podling.apiserver.authn.service_account_keys import VerificationKey, discovery, jwks, load_private

DEFAULT_ISSUER = "https://kubernetes.default.svc.cluster.local"
LEGACY_ISSUER = "kubernetes/serviceaccount"

#: Clock skew that is forgiven, and how long a deleted object keeps its tokens: 1 minute.
LEEWAY = timedelta(minutes=1)
MIN_SECONDS = 600
MAX_SECONDS = 1 << 32
DEFAULT_SECONDS = 3600
#: The lifetime that the ServiceAccount admission plugin asks for. Old clients don't reload such a token, so it is made
#: to last a year, and marked with the time after which its use is worth a warning.
WARN_ONLY_SECONDS = 3607
EXTENDED_SECONDS = 365 * 24 * 3600

_VERIFIED_KEPT = 4096
_INVALID_SINCE = "kubernetes.io/legacy-token-invalid-since"


class InvalidToken(Exception):
    """The token is a ServiceAccount's, and not valid; the text says why."""


#: Annotations of the audit log.
ISSUED_CREDENTIAL_ID = "authentication.kubernetes.io/issued-credential-id"
STALE_TOKEN = "authentication.k8s.io/stale-token"


class Issued(NamedTuple):
    """`expires` is what the requester is told; `credential_id` (`JTI=...`) goes to the audit log."""

    token: str
    expires: datetime
    credential_id: str


class TokenIssuer:
    """Signs tokens with the private key of `signing_key` (PEM)."""

    def __init__(
        self,
        signing_key: bytes,
        lookup: Lookup,
        *,
        issuer: str = DEFAULT_ISSUER,
        audiences: Sequence[str] = (),
        retired_keys: Sequence[bytes] = (),
    ) -> None:
        self.issuer = issuer
        self.audiences = tuple(audiences) or (issuer,)
        self._key = load_private(signing_key)
        self._lookup = lookup
        self._public = VerificationKey(self._key.public_key())
        self.keys = [self._public, *(VerificationKey(load_private(k).public_key()) for k in retired_keys)]

    def issue(
        self, namespace: str, name: str, request: authentication_v1.TokenRequest
    ) -> authentication_v1.TokenRequest:
        """`request` with its status. StatusError as upstream: 404, 409, 422 for what is missing, other or wrong."""
        account = self._lookup.get("serviceaccounts", namespace, name)
        if account is None:
            raise errors.not_found("serviceaccounts", "", name)
        spec = request.spec
        spec.audiences = list(spec.audiences or self.audiences)
        seconds = DEFAULT_SECONDS if spec.expiration_seconds is None else spec.expiration_seconds
        spec.expiration_seconds = seconds
        findings = _findings(seconds)
        if findings:
            raise errors.invalid("TokenRequest", "authentication.k8s.io", name, findings)
        bound = self._bound(namespace, name, spec.bound_object_ref)
        extended = seconds == WARN_ONLY_SECONDS and "pod" in bound and set(spec.audiences) <= set(self.audiences)
        issued = self.sign(
            account,
            spec.audiences,
            EXTENDED_SECONDS if extended else seconds,
            bound,
            warn_after=seconds if extended else None,
        )
        if (trail := audit_trail()) is not None:
            trail.annotate({ISSUED_CREDENTIAL_ID: issued.credential_id})
        request.metadata.name, request.metadata.namespace = name, namespace
        request.metadata.creation_timestamp = times.format(clock.now())
        request.status = authentication_v1.TokenRequestStatus(
            token=issued.token, expiration_timestamp=times.format(clock.now() + timedelta(seconds=seconds))
        )
        return request

    def sign(
        self,
        account: core_v1.ServiceAccount,
        audiences: Sequence[str],
        seconds: int,
        bound: Mapping[str, Any] | None = None,
        warn_after: int | None = None,
    ) -> Issued:
        """A token for `account`; `bound` holds the claims of the object that it is bound to."""
        now = int(clock.now().timestamp())
        namespace, name = account.metadata.namespace or "", account.metadata.name or ""
        jti = str(uuid.uuid4())
        claims: dict[str, Any] = {
            "aud": list(audiences),
            "exp": now + seconds,
            "iat": now,
            "iss": self.issuer,
            "jti": jti,
            "kubernetes.io": {
                "namespace": namespace,
                **(bound or {}),
                "serviceaccount": {"name": name, "uid": account.metadata.uid or ""},
            },
            "nbf": now,
            "sub": names.account_user(namespace, name),
        }
        if warn_after is not None:
            claims["kubernetes.io"]["warnafter"] = now + warn_after
        token = self._encode(claims)
        return Issued(token, datetime.fromtimestamp(now + seconds, UTC), f"JTI={jti}")

    def sign_legacy(self, account: core_v1.ServiceAccount, secret: str) -> str:
        """A token without end for a Secret of type kubernetes.io/service-account-token."""
        namespace, name = account.metadata.namespace or "", account.metadata.name or ""
        prefix = "kubernetes.io/serviceaccount"
        return self._encode(
            {
                "iss": LEGACY_ISSUER,
                f"{prefix}/namespace": namespace,
                f"{prefix}/secret.name": secret,
                f"{prefix}/service-account.name": name,
                f"{prefix}/service-account.uid": account.metadata.uid or "",
                "sub": names.account_user(namespace, name),
            }
        )

    def _encode(self, claims: dict[str, Any]) -> str:
        import jwt

        return jwt.encode(claims, self._key, self._public.algorithm, {"kid": self._public.id, "typ": None})

    def _bound(
        self, namespace: str, account: str, ref: authentication_v1.BoundObjectReference | None
    ) -> dict[str, Any]:
        if ref is None:
            return {}
        kind, name = ref.kind or "", ref.name or ""
        group, _, _ = (ref.api_version or "").rpartition("/")
        resource = {"Pod": "pods", "Secret": "secrets", "Node": "nodes"}.get(kind)
        if group or resource is None:
            raise errors.bad_request(f"cannot bind token to object of type {_kind_text(ref)}")
        obj = self._lookup.get(resource, "" if kind == "Node" else namespace, name)
        if obj is None:
            raise errors.not_found(resource, "", name)
        uid = obj.metadata.uid or ""
        if ref.uid and ref.uid != uid:
            why = (
                f"the UID in the bound object reference ({ref.uid}) does not match the UID in record. "
                "The object might have been deleted and then recreated"
            )
            raise errors.conflict(kind, "", name, why)
        bound: dict[str, Any] = {kind.lower(): {"name": name, "uid": uid}}
        if isinstance(obj, core_v1.Pod) and obj.spec is not None:
            running_as = obj.spec.service_account_name or ""
            if running_as != account:
                raise errors.bad_request(
                    f'cannot bind token for serviceaccount "{account}" '
                    f'to pod running with serviceaccount "{running_as}"'
                )
            if obj.spec.node_name:
                bound = {"node": self._node(obj.spec.node_name), **bound}
        return bound

    def _node(self, name: str) -> dict[str, str]:
        node = self._lookup.get("nodes", "", name)
        return {"name": name, "uid": node.metadata.uid or ""} if node is not None else {"name": name}

    def jwks(self) -> bytes:
        """The body of /openid/v1/jwks (application/jwk-set+json)."""
        return jwks(self.keys)

    def discovery(self, jwks_uri: str) -> bytes:
        """The body of /.well-known/openid-configuration (application/json)."""
        return discovery(self.issuer, jwks_uri, self.keys)


def _kind_text(ref: authentication_v1.BoundObjectReference) -> str:
    group, _, version = (ref.api_version or "").rpartition("/")
    return f"{group}/{version}, Kind={ref.kind or ''}"


def _findings(seconds: int) -> list[FieldError]:
    field = "spec.expirationSeconds"
    if seconds < MIN_SECONDS:
        body = f"Invalid value: {seconds}: may not specify a duration less than 10 minutes"
        return [FieldError("FieldValueInvalid", field, body)]
    if seconds > MAX_SECONDS:
        body = f"Invalid value: {seconds}: may not specify a duration larger than 2^32 seconds"
        return [FieldError("FieldValueInvalid", field, body)]
    return []


class TokenValidator:
    """Tells whose a token is."""

    def __init__(
        self, keys: Sequence[VerificationKey], lookup: Lookup, *, issuers: Sequence[str] = (DEFAULT_ISSUER,)
    ) -> None:
        self._keys = {key.id: key for key in keys}
        self._lookup = lookup
        self._issuers = frozenset(issuers)
        #: Tokens whose signature has been verified, with their claims.
        self._verified: OrderedDict[str, dict[str, Any]] = OrderedDict()

    def validate(self, token: str, audiences: Sequence[str]) -> tuple[User, tuple[str, ...]] | None:
        """The user and which of `audiences` the token is for; None if it is not our token at all.

        Raises InvalidToken.
        """
        claims = self._verified.get(token)
        if claims is not None:
            CACHE.hit()
        else:
            claims = self._verify(token)
            if claims is None:
                return None
            CACHE.missed()
            CACHE.fetched(good=True)
            self._verified[token] = claims
            if len(self._verified) > _VERIFIED_KEPT:
                self._verified.popitem(last=False)
        if claims.get("iss") == LEGACY_ISSUER:
            return self._legacy(token, claims), tuple(audiences)
        wanted = claims.get("aud") or ()
        wanted = (wanted,) if isinstance(wanted, str) else tuple(wanted)
        shared = tuple(a for a in audiences if a in wanted)
        if not shared:
            raise InvalidToken(
                f"token audiences {_go_list(wanted)} is invalid for the target audiences {_go_list(audiences)}"
            )
        return self._bound(claims), shared

    def _verify(self, token: str) -> dict[str, Any] | None:
        import jwt

        try:
            header = jwt.get_unverified_header(token)
            key = self._keys.get(header.get("kid", ""))
            claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
        except (jwt.PyJWTError, RecursionError):
            return None
        issuer = claims.get("iss")
        if not isinstance(issuer, str) or (issuer not in self._issuers and issuer != LEGACY_ISSUER):
            return None
        candidates = [key] if key is not None else list(self._keys.values())
        for candidate in candidates:
            try:
                jwt.decode(token, candidate.key, [candidate.algorithm], options=_SIGNATURE_ONLY)
            except jwt.PyJWTError:
                continue
            return claims
        CACHE.missed()
        CACHE.fetched(good=False)
        raise InvalidToken("invalid signature")

    def _bound(self, claims: dict[str, Any]) -> User:
        now = clock.now()
        if now.timestamp() > claims.get("exp", 0) + LEEWAY.total_seconds():
            raise InvalidToken("service account token has expired")
        if now.timestamp() < claims.get("nbf", 0) - LEEWAY.total_seconds():
            raise InvalidToken("service account token is not valid yet")
        private = claims.get("kubernetes.io") or {}
        namespace = private.get("namespace", "")
        account = private.get("serviceaccount") or {}
        name, uid = account.get("name", ""), account.get("uid", "")
        self._account(namespace, name, uid)
        extra: dict[str, tuple[str, ...]] = {}
        if claims.get("jti"):
            extra[names.CREDENTIAL_ID] = (f"JTI={claims['jti']}",)
        for kind, resource in (("secret", "secrets"), ("pod", "pods"), ("node", "nodes")):
            ref = private.get(kind)
            if ref is None:
                continue
            if kind != "node" or "pod" not in private:
                self._exists(kind, resource, "" if kind == "node" else namespace, ref)
            if kind == "pod":
                extra[names.POD_NAME], extra[names.POD_UID] = (ref["name"],), (ref.get("uid", ""),)
            if kind == "node":
                extra[names.NODE_NAME] = (ref["name"],)
                if ref.get("uid"):
                    extra[names.NODE_UID] = (ref["uid"],)
        _note_staleness(claims, now.timestamp())
        groups = with_authenticated(names.account_groups(namespace))
        return User(names.account_user(namespace, name), groups, uid, extra)

    def _account(self, namespace: str, name: str, uid: str) -> None:
        account = self._lookup.get("serviceaccounts", namespace, name)
        if account is None:
            raise InvalidToken(f'serviceaccounts "{name}" not found')
        if _deleted(account):
            raise InvalidToken(f"service account {namespace}/{name} has been deleted")
        if account.metadata.uid != uid:
            raise InvalidToken(f"service account UID ({account.metadata.uid}) does not match claim ({uid})")

    def _exists(self, kind: str, resource: str, namespace: str, ref: dict[str, str]) -> None:
        obj = self._lookup.get(resource, namespace, ref["name"])
        if obj is None or _deleted(obj):
            raise InvalidToken("service account token has been invalidated")
        if obj.metadata.uid != ref.get("uid"):
            raise InvalidToken(
                f"{kind} UID ({obj.metadata.uid}) does not match service account {kind} ref claim ({ref.get('uid')})"
            )

    def _legacy(self, token: str, claims: dict[str, Any]) -> User:
        import base64

        prefix = "kubernetes.io/serviceaccount"
        namespace, name = claims.get(f"{prefix}/namespace", ""), claims.get(f"{prefix}/service-account.name", "")
        uid = claims.get(f"{prefix}/service-account.uid", "")
        secret_name = claims.get(f"{prefix}/secret.name", "")
        if not (namespace and name and uid and secret_name):
            raise InvalidToken("token could not be validated: missing claims")
        secret = self._lookup.get("secrets", namespace, secret_name)
        if secret is None or _deleted(secret):
            raise InvalidToken("service account token has been invalidated")
        if base64.b64decode((secret.data or {}).get("token", "")).decode("utf-8", "replace") != token:
            raise InvalidToken("service account token has been invalidated")
        if (secret.metadata.labels or {}).get(_INVALID_SINCE):
            raise InvalidToken(
                f"the token in secret {namespace}/{secret_name} for service account {namespace}/{name} has been marked "
                "invalid. Use tokens from the TokenRequest API or manually created secret-based tokens, or remove the "
                f"'{_INVALID_SINCE}' label from the secret to temporarily allow use of this token"
            )
        self._account(namespace, name, uid)
        metrics.LEGACY_TOKENS.add()
        metrics.MANUAL_TOKENS.add()
        return User(names.account_user(namespace, name), with_authenticated(names.account_groups(namespace)), uid)


_SIGNATURE_ONLY: Any = {
    "verify_signature": True,
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_aud": False,
    "verify_iss": False,
    "verify_sub": False,
    "verify_jti": False,
}


def _deleted(obj: Any) -> bool:
    """Whether `obj` has been due to go for longer than the leeway: its grace period counts from deletionTimestamp."""
    timestamp = obj.metadata.deletion_timestamp
    return timestamp is not None and times.parse(timestamp) < clock.now() - LEEWAY


def _go_list(values: Sequence[str]) -> str:
    return f"[{' '.join(chr(34) + v + chr(34) for v in values)}]"


def _note_staleness(claims: Mapping[str, Any], now: float) -> None:
    """Who uses a token after the time at which it should have been renewed is counted, and stands in the audit log."""
    after = (claims.get("kubernetes.io") or {}).get("warnafter")
    if not after:
        return
    if now <= after:
        metrics.VALID_TOKENS.add()
        return
    metrics.STALE_TOKENS.add()
    if (trail := audit_trail()) is not None:
        text = f"subject: {claims.get('sub', '')}, seconds after warning threshold: {now - after:.0f}"
        trail.annotate({STALE_TOKEN: text})
