"""AuthenticationConfiguration (apiserver.config.k8s.io): issuers of JSON web tokens, and where nobody is anonymous.

Read from `--authentication-config`, or made of the `--oidc-*` flags. Source: Kubernetes' "kube-apiserver Configuration
(v1)".
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

from podling.machinery.validation import Findings

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


class ConfigurationError(ValueError):
    """A configuration that can't be used; the text says why."""


def load(path: str, disallowed_issuers: tuple[str, ...]) -> Configuration:
    """The configuration in a file, checked. Raises ConfigurationError."""
    from podling.apiserver.authn import authentication_check

    config: Configuration = read(path, Configuration, KIND, API_VERSIONS)
    raise_for(authentication_check.findings(config, disallowed_issuers))
    return config


def read(path: str, type_: Any, kind: str, versions: tuple[str, ...]) -> Any:
    """A configuration file (YAML or JSON) as `type_`. Raises ConfigurationError."""
    import yaml

    try:
        text = Path(path).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"open {path}: {(error.strerror or str(error)).lower()}") from None
    if not text.strip():
        raise ConfigurationError(f'empty config file "{path}"')
    try:
        document = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path} is not YAML: {error}") from None
    if not isinstance(document, dict):
        raise ConfigurationError(f"{path} holds no {kind}")
    found = document.get("kind"), document.get("apiVersion")
    if found[0] != kind or found[1] not in versions:
        what = f'no kind "{found[0] or ""}" is registered for version "{found[1] or ""}"'
        raise ConfigurationError(f"{path}: {what}; write kind: {kind}, apiVersion: {versions[0]}")
    try:
        return msgspec.convert(document, type_)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"{path}: strict decoding error: {error}") from None


def raise_for(findings: Findings) -> None:
    """ConfigurationError with all findings, if there are any."""
    texts = list(dict.fromkeys(str(f) for f in findings))
    if texts:
        raise ConfigurationError(texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]")
