"""What an AuthenticationConfiguration must hold to, in upstream's words."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from podling.apiserver import config_file
from podling.apiserver.authn import jwt_rules
from podling.apiserver.authn.authentication_config import (
    API_VERSIONS,
    KIND,
    ClaimMappings,
    ClaimRule,
    Configuration,
    Issuer,
    Jwt,
    PrefixedClaim,
    UserRule,
)
from podling.machinery import cel, validation
from podling.machinery.cel.syntax import Ident, Node, Select
from podling.machinery.validation import Findings, Path

_MATCH_ANY = "MatchAny"
_BOTH = "claim and expression can't both be set"
_MAX_ISSUERS = 64


def load(path: str, disallowed_issuers: tuple[str, ...]) -> Configuration:
    """The configuration in a file, checked. Raises ConfigFileError."""
    config: Configuration = config_file.strict(path, Configuration, KIND, API_VERSIONS)
    config_file.raise_for(findings(config, disallowed_issuers))
    return config


def findings(config: Configuration, disallowed: Sequence[str] = ()) -> Findings:
    """What is wrong with it."""
    root = Path("jwt")
    if len(config.jwt) > _MAX_ISSUERS:
        return [validation.too_many(root, len(config.jwt), _MAX_ISSUERS)]
    found: Findings = []
    issuers: set[str] = set()
    discovery: set[str] = set()
    for index, jwt in enumerate(config.jwt):
        path = root.index(index)
        found += of_jwt(jwt, path, disallowed)
        if jwt.issuer.url in issuers:
            found.append(validation.duplicate(path.child("issuer", "url"), jwt.issuer.url))
        issuers.add(jwt.issuer.url)
        url = jwt.issuer.discovery_url
        if url and url in discovery:
            found.append(validation.duplicate(path.child("issuer", "discoveryURL"), url))
        discovery.add(url or "")
    if config.anonymous is not None and not config.anonymous.enabled and config.anonymous.conditions:
        why = "enabled should be set to true when conditions are defined"
        shown = [{"path": c.path} for c in config.anonymous.conditions]
        found.append(validation.invalid(Path("anonymous").child("conditions"), shown, why))
    return found


def of_jwt(jwt: Jwt, path: Path, disallowed: Sequence[str] = ()) -> Findings:
    """What is wrong with one issuer."""
    checker = _Checker()
    found = _issuer(jwt.issuer, path.child("issuer"), disallowed)
    found += checker.claim_rules(jwt.claim_validation_rules, path.child("claimValidationRules"))
    found += checker.mappings(jwt.claim_mappings, path.child("claimMappings"))
    found += checker.user_rules(jwt.user_validation_rules, path.child("userValidationRules"))
    return found


def _issuer(issuer: Issuer, path: Path, disallowed: Sequence[str]) -> Findings:
    at = path.child("url")
    found = _url(issuer.url, at, disallowed) if issuer.url else [validation.required(at)]
    if issuer.discovery_url:
        at = path.child("discoveryURL")
        if issuer.url and issuer.url.rstrip("/") == issuer.discovery_url.rstrip("/"):
            found.append(validation.invalid(at, issuer.discovery_url, "discoveryURL must be different from URL"))
        found += _url(issuer.discovery_url, at, ())
    found += _audiences(issuer, path)
    if issuer.certificate_authority:
        found += _authority(issuer.certificate_authority, path.child("certificateAuthority"))
    if issuer.egress_selector_type:
        at = path.child("egressSelectorType")
        why = "egress selectors are not supported here: leave it out, issuers are called directly"
        found.append(validation.invalid(at, issuer.egress_selector_type, why))
    return found


def _url(text: str, path: Path, disallowed: Sequence[str]) -> Findings:
    found: Findings = []
    if text in disallowed:
        why = f"URL must not overlap with disallowed issuers: [{' '.join(sorted(disallowed))}]"
        found.append(validation.invalid(path, text, why))
    try:
        parts = urlsplit(text)
    except ValueError as error:
        return [*found, validation.invalid(path, text, f"parse {validation.quote(text)}: {error}")]
    if parts.scheme != "https":
        found.append(validation.invalid(path, text, "URL scheme must be https"))
    if "@" in parts.netloc:
        found.append(validation.invalid(path, text, "URL must not contain a username or password"))
    if parts.query:
        found.append(validation.invalid(path, text, "URL must not contain a query"))
    if parts.fragment:
        found.append(validation.invalid(path, text, "URL must not contain a fragment"))
    return found


def _audiences(issuer: Issuer, path: Path) -> Findings:
    at, policy = path.child("audiences"), issuer.audience_match_policy
    if not issuer.audiences:
        return [validation.required(at, f"at least one {at} is required")]
    found: Findings = []
    for index, audience in enumerate(issuer.audiences):
        if not audience:
            found.append(validation.required(at.index(index)))
        if audience in issuer.audiences[:index]:
            found.append(validation.duplicate(at.index(index), audience))
    at = path.child("audienceMatchPolicy")
    if len(issuer.audiences) > 1 and policy != _MATCH_ANY:
        why = "audienceMatchPolicy must be MatchAny for multiple audiences"
        found.append(validation.invalid(at, policy, why))
    if len(issuer.audiences) == 1 and policy not in ("", _MATCH_ANY):
        why = "audienceMatchPolicy must be empty or MatchAny for single audience"
        found.append(validation.invalid(at, policy, why))
    return found


def _authority(pem: str, path: Path) -> Findings:
    from cryptography import x509

    try:
        x509.load_pem_x509_certificates(pem.encode())
    except ValueError:
        why = "data does not contain any valid RSA or ECDSA certificates"
        return [validation.invalid(path, "<omitted>", why)]
    return []


class _Checker:
    """What the expressions of one issuer use of the claims about e-mail addresses."""

    def __init__(self) -> None:
        self._verified = False

    def claim_rules(self, rules: Sequence[ClaimRule], path: Path) -> Findings:
        found: Findings = []
        claims: set[str] = set()
        expressions: set[str] = set()
        for index, rule in enumerate(rules):
            at = path.index(index)
            if rule.claim and rule.expression:
                found.append(validation.invalid(at, rule.claim, _BOTH))
            elif not rule.claim and not rule.expression:
                found.append(validation.required(at, "claim or expression is required"))
            elif rule.claim:
                if rule.message:
                    why = "may not be specified when claim is set"
                    found.append(validation.invalid(at.child("message"), rule.message, why))
                if rule.claim in claims:
                    found.append(validation.duplicate(at.child("claim"), rule.claim))
                claims.add(rule.claim)
            else:
                if rule.required_value:
                    why = "may not be specified when expression is set"
                    found.append(validation.invalid(at.child("requiredValue"), rule.required_value, why))
                if rule.expression in expressions:
                    found.append(validation.duplicate(at.child("expression"), rule.expression))
                    continue
                expressions.add(rule.expression)
                found += self._claims(rule.expression, at.child("expression"), jwt_rules.CONDITION)
        return found

    def mappings(self, mappings: ClaimMappings, path: Path) -> Findings:
        username = mappings.username
        found = self._prefixed(username, path.child("username"), needed=True)
        uses_email = not found and bool(username.expression) and _uses(username.expression, "email")
        verified_before = self._verified
        found += self._prefixed(mappings.groups, path.child("groups"), needed=False)
        # An expression for groups or the uid does not show that the address was verified.
        self._verified = verified_before
        uid = mappings.uid
        if uid.claim and uid.expression:
            found.append(validation.invalid(path.child("uid"), "", _BOTH))
        elif uid.expression:
            found += self._claims(uid.expression, path.child("uid", "expression"), jwt_rules.TEXT)
            self._verified = verified_before
        found += self._extra(mappings, path.child("extra"))
        if uses_email and not self._verified:
            names = (
                "claims.email_verified must be used in claimMappings.username.expression or "
                "claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is "
                "used in claimMappings.username.expression"
            )
            found.append(validation.invalid(path.child("username", "expression"), username.expression, names))
        return found

    def _extra(self, mappings: ClaimMappings, path: Path) -> Findings:
        found: Findings = []
        seen: set[str] = set()
        for index, mapping in enumerate(mappings.extra):
            at, key = path.index(index), mapping.key
            found += validation.domain_prefixed_path(key, at.child("key"))
            if key != key.lower():
                found.append(validation.invalid(at.child("key"), key, "must be lowercase"))
            domain = f".{key.partition('/')[0]}" if "/" in key else ""
            if domain.endswith((".kubernetes.io", ".k8s.io")):
                why = "k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use"
                found.append(validation.invalid(at.child("key"), key, why))
            if key in seen:
                found.append(validation.duplicate(at.child("key"), key))
                continue
            seen.add(key)
            if not mapping.value_expression:
                found.append(validation.required(at.child("valueExpression")))
                continue
            found += self._claims(mapping.value_expression, at.child("valueExpression"), jwt_rules.TEXTS)
        return found

    def _prefixed(self, mapping: PrefixedClaim, path: Path, *, needed: bool) -> Findings:
        if mapping.expression and mapping.claim:
            return [validation.invalid(path, "", _BOTH)]
        if mapping.expression:
            found: Findings = []
            if mapping.prefix is not None:
                why = "may not be specified when expression is set"
                found.append(validation.invalid(path.child("prefix"), mapping.prefix, why))
            result = jwt_rules.TEXT if needed else jwt_rules.TEXTS
            return found + self._claims(mapping.expression, path.child("expression"), result)
        if mapping.claim:
            if mapping.prefix is not None:
                return []
            why = "prefix is required when claim is set. It can be set to an empty string to disable prefixing"
            return [validation.required(path.child("prefix"), why)]
        return [validation.required(path, "claim or expression is required")] if needed else []

    def _claims(self, expression: str, path: Path, result: tuple[cel.Type, ...]) -> Findings:
        try:
            jwt_rules.claims_program(expression, result)
        except cel.CompileError as error:
            return [validation.invalid(path, expression, str(error))]
        self._verified = self._verified or _uses(expression, "email_verified")
        return []

    def user_rules(self, rules: Sequence[UserRule], path: Path) -> Findings:
        found: Findings = []
        seen: set[str] = set()
        for index, rule in enumerate(rules):
            at = path.index(index).child("expression")
            if not rule.expression:
                found.append(validation.required(at))
                continue
            if rule.expression in seen:
                found.append(validation.duplicate(at, rule.expression))
                continue
            seen.add(rule.expression)
            try:
                jwt_rules.user_program(rule.expression)
            except cel.CompileError as error:
                found.append(validation.invalid(at, rule.expression, str(error)))
        return found


def _uses(expression: str, claim: str) -> bool:
    """Whether it reads `claims.<claim>`, also optionally (`claims.?<claim>`)."""
    pending: list[Node] = [jwt_rules.claims_program(expression, ()).root]
    while pending:
        node = pending.pop()
        if isinstance(node, Select) and node.field == claim:
            operand = node.operand
            if isinstance(operand, Ident) and operand.name == "claims":
                return True
        pending += cel.children(node)
    return False
