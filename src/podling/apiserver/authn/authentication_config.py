"""AuthenticationConfiguration (apiserver.config.k8s.io): issuers of JSON web tokens, and where nobody is anonymous.

Read from `--authentication-config`, or made of the `--oidc-*` flags. Source: Kubernetes' "kube-apiserver Configuration
(v1)".
"""

from __future__ import annotations

from typing import Literal

import msgspec

API_VERSIONS = tuple(f"apiserver.config.k8s.io/{v}" for v in ("v1", "v1beta1", "v1alpha1"))
KIND = "AuthenticationConfiguration"


class _Config(msgspec.Struct, rename="camel", forbid_unknown_fields=True, frozen=True, kw_only=True):
    pass


class Issuer(_Config, frozen=True):
    url: str = ""
    discovery_url: str | None = msgspec.field(default=None, name="discoveryURL")
    certificate_authority: str = ""
    audiences: list[str] = []
    audience_match_policy: str = ""
    egress_selector_type: str = ""


class PrefixedClaim(_Config, frozen=True):
    """A claim with a prefix for its values, or an expression."""

    claim: str = ""
    prefix: str | None = None
    expression: str = ""


class Claim(_Config, frozen=True):
    claim: str = ""
    expression: str = ""


class ExtraMapping(_Config, frozen=True):
    key: str = ""
    value_expression: str = ""


class ClaimMappings(_Config, frozen=True):
    username: PrefixedClaim = PrefixedClaim()
    groups: PrefixedClaim = PrefixedClaim()
    uid: Claim = Claim()
    extra: list[ExtraMapping] = []


class ClaimRule(_Config, frozen=True):
    claim: str = ""
    required_value: str = ""
    expression: str = ""
    message: str = ""


class UserRule(_Config, frozen=True):
    expression: str = ""
    message: str = ""


class Jwt(_Config, frozen=True):
    issuer: Issuer = Issuer()
    claim_validation_rules: list[ClaimRule] = []
    claim_mappings: ClaimMappings = ClaimMappings()
    user_validation_rules: list[UserRule] = []


class AnonymousCondition(_Config, frozen=True):
    path: str = ""


class AnonymousConfig(_Config, frozen=True):
    enabled: bool = False
    conditions: list[AnonymousCondition] = []


class Configuration(_Config, frozen=True):
    api_version: str = API_VERSIONS[0]
    kind: Literal["AuthenticationConfiguration"] = "AuthenticationConfiguration"
    jwt: list[Jwt] = []
    anonymous: AnonymousConfig | None = None
