"""The `--oidc-*` flags as an AuthenticationConfiguration with one issuer."""

from __future__ import annotations

from pathlib import Path

from podling.apiserver.authn.authentication_config import (
    ClaimMappings,
    ClaimRule,
    Configuration,
    Issuer,
    Jwt,
    PrefixedClaim,
)
from podling.apiserver.authn.jwt_issuer import ALGORITHMS
from podling.apiserver.options import OptionError, Options


def configuration(options: Options) -> Configuration:
    """Raises OSError if the CA file can't be read, OptionError for a claim without a value."""
    prefix = options.oidc_username_prefix
    if prefix == "-":
        prefix = ""
    elif not prefix and options.oidc_username_claim != "email":
        # Names of other issuers must not be taken for those of the cluster.
        prefix = f"{options.oidc_issuer_url}#"
    groups = PrefixedClaim()
    if options.oidc_groups_claim:
        groups = PrefixedClaim(claim=options.oidc_groups_claim, prefix=options.oidc_groups_prefix)
    ca = Path(options.oidc_ca_file).read_text() if options.oidc_ca_file else ""
    issuer = Issuer(url=options.oidc_issuer_url, audiences=[options.oidc_client_id], certificate_authority=ca)
    username = PrefixedClaim(claim=options.oidc_username_claim, prefix=prefix)
    rules = [ClaimRule(claim=claim, required_value=value) for claim, value in _required(options)]
    mappings = ClaimMappings(username=username, groups=groups)
    return Configuration(jwt=[Jwt(issuer=issuer, claim_validation_rules=rules, claim_mappings=mappings)])


def _required(options: Options) -> list[tuple[str, str]]:
    found = []
    for text in options.oidc_required_claim:
        claim, equals, value = text.partition("=")
        if not equals:
            raise OptionError(f"oidc-required-claim={text}: write CLAIM=VALUE")
        found.append((claim, value))
    return sorted(found)


def algorithms(options: Options) -> tuple[str, ...]:
    """Those that tokens may be signed with. OptionError for one that there is not."""
    for name in options.oidc_signing_algs:
        if name not in ALGORITHMS:
            raise OptionError(f'oidc: unsupported signing alg: "{name}"; there are {", ".join(ALGORITHMS)}')
    return tuple(options.oidc_signing_algs) or ("RS256",)
