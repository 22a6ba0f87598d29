"""What an administrator may set of the API server: kube-apiserver's own flags, under their own names.

`podling up --kube-apiserver-arg NAME=VALUE` gives one; they are kept in `cluster.json`. A flag becomes a field here
(dashes are underscores), its type says how its value is read, its default is upstream's.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import msgspec

from podling.api import times
from podling.apiserver import features
from podling.errors import PodlingError


class OptionError(PodlingError):
    """A flag that does not exist, or a value that it can't have."""


#: A number that is no duration.
Number = Annotated[float, msgspec.Meta(ge=0)]


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Files are absolute paths on the machine of the control plane; an empty path leaves the feature off."""

    #: Features that are switched on or off against their default, `A=true,B=false`; `features` has those that exist.
    feature_gates: dict[str, bool] = {}
    #: Admission plugins beside the default ones, or without some of them.
    enable_admission_plugins: list[str] = []
    disable_admission_plugins: list[str] = []
    #: How long an event stays after its last write, in seconds; 0 keeps it for ever. Written as a duration: `1h0m0s`.
    event_ttl: float = 3600.0

    #: Plugins' own configuration (AdmissionConfiguration).
    admission_control_config_file: str = ""

    #: Whether requests without credentials are answered at all; at the public paths, they are.
    anonymous_auth: bool = True
    #: AuthenticationConfiguration: issuers of tokens, and where nobody is anonymous; read again when it changes.
    authentication_config: str = ""
    #: Lines of `token,user,uid,"group1,group2"`.
    token_auth_file: str = ""
    #: A kubeconfig whose server is asked whose a token is.
    authentication_token_webhook_config_file: str = ""
    authentication_token_webhook_version: str = "v1beta1"
    authentication_token_webhook_cache_ttl: float = 120.0
    #: One issuer of OpenID Connect.
    oidc_issuer_url: str = ""
    oidc_client_id: str = ""
    oidc_username_claim: str = "sub"
    oidc_username_prefix: str = ""
    oidc_groups_claim: str = ""
    oidc_groups_prefix: str = ""
    oidc_required_claim: list[str] = []
    oidc_signing_algs: list[str] = msgspec.field(default_factory=lambda: ["RS256"])
    oidc_ca_file: str = ""
    #: Whose certificates may name users in headers.
    requestheader_client_ca_file: str = ""
    requestheader_allowed_names: list[str] = []
    requestheader_username_headers: list[str] = []
    requestheader_uid_headers: list[str] = []
    requestheader_group_headers: list[str] = []
    requestheader_extra_headers_prefix: list[str] = []

    #: What is shown to aggregated API servers; the cluster has a certificate of its own for it.
    proxy_client_cert_file: str = ""
    proxy_client_key_file: str = ""
    #: Whether an aggregated API server may not send clients elsewhere.
    aggregator_reject_forwarding_redirect: bool = True

    #: Who decides what is allowed, in this order: Node, RBAC, Webhook, ABAC, AlwaysAllow, AlwaysDeny.
    authorization_mode: list[str] = msgspec.field(default_factory=lambda: ["Node", "RBAC"])
    #: AuthorizationConfiguration, instead of the modes; read again when it changes.
    authorization_config: str = ""
    #: Lines of ABAC policies.
    authorization_policy_file: str = ""
    #: A kubeconfig whose server is asked what is allowed.
    authorization_webhook_config_file: str = ""
    authorization_webhook_version: str = "v1beta1"
    authorization_webhook_cache_authorized_ttl: float = 300.0
    authorization_webhook_cache_unauthorized_ttl: float = 30.0

    #: Priority and fairness share these requests out among who asks; without it they are plain limits, 0 being none.
    enable_priority_and_fairness: bool = True
    max_requests_inflight: int = 400
    max_mutating_requests_inflight: int = 200
    #: Seconds that a request may take (unless it is a watch or a stream), and that a watch lasts at least.
    request_timeout: float = 60.0
    min_request_timeout: int = 1800
    #: After SIGTERM, /readyz fails for this long before requests are refused; and how the watches are spread that end.
    shutdown_delay_duration: float = 0.0
    shutdown_send_retry_after: bool = False
    shutdown_watch_termination_grace_period: float = 0.0
    #: For how long after the start /livez forgives what has not started yet.
    livez_grace_period: float = 0.0

    #: What is recorded of requests (audit.k8s.io/v1 Policy), and where: in a file (`-`: standard output), at a webhook.
    audit_policy_file: str = ""
    audit_log_path: str = ""
    audit_log_format: str = "json"
    audit_log_version: str = "audit.k8s.io/v1"
    #: Megabytes of a file, old files that are kept, and the days for which they are; 0 is no limit.
    audit_log_maxsize: int = 100
    audit_log_maxbackup: int = 100
    audit_log_maxage: int = 366
    audit_log_compress: bool = False
    audit_log_mode: str = "blocking"
    audit_log_batch_buffer_size: int = 10_000
    audit_log_batch_max_size: int = 1
    audit_log_batch_max_wait: float = 0.0
    audit_log_batch_throttle_enable: bool = False
    audit_log_batch_throttle_qps: Number = 0.0
    audit_log_batch_throttle_burst: int = 0
    audit_log_truncate_enabled: bool = False
    audit_log_truncate_max_batch_size: int = 10 * 1024 * 1024
    audit_log_truncate_max_event_size: int = 100 * 1024
    #: A kubeconfig whose server is where events are sent.
    audit_webhook_config_file: str = ""
    audit_webhook_version: str = "audit.k8s.io/v1"
    audit_webhook_initial_backoff: float = 10.0
    audit_webhook_mode: str = "batch"
    audit_webhook_batch_buffer_size: int = 10_000
    audit_webhook_batch_max_size: int = 400
    audit_webhook_batch_max_wait: float = 30.0
    audit_webhook_batch_throttle_enable: bool = True
    audit_webhook_batch_throttle_qps: Number = 10.0
    audit_webhook_batch_throttle_burst: int = 15
    audit_webhook_truncate_enabled: bool = False
    audit_webhook_truncate_max_batch_size: int = 10 * 1024 * 1024
    audit_webhook_truncate_max_event_size: int = 100 * 1024

    #: By what resources are encrypted in the store (apiserver.config.k8s.io/v1 EncryptionConfiguration).
    encryption_provider_config: str = ""
    encryption_provider_config_automatic_reload: bool = False


def parse(arguments: Iterable[str], base: Options | None = None) -> Options:
    """`NAME=VALUE` words, with or without leading dashes, over `base`. Raises OptionError with what would be right."""
    known = {f.name.replace("_", "-"): f for f in msgspec.structs.fields(Options)}
    found = {}
    for argument in arguments:
        name, equals, text = argument.removeprefix("--").partition("=")
        field = known.get(name)
        if field is None:
            raise OptionError(f"--kube-apiserver-arg {argument}: no such flag; known are {', '.join(sorted(known))}")
        if not equals:
            raise OptionError(f"--kube-apiserver-arg {argument}: write {name}=VALUE")
        found[field.name] = _value(field.type, name, text)
    return msgspec.structs.replace(base or Options(), **found)


def _value(type_: object, name: str, text: str) -> object:
    if type_ == list[str]:
        return [part for part in (p.strip() for p in text.split(",")) if part]
    if type_ == dict[str, bool]:
        try:
            return features.parse(text)
        except features.GateError as error:
            known = ", ".join(features.GATES)
            raise OptionError(f"--kube-apiserver-arg {name}={text}: {error}; known are {known}") from None
    if type_ is bool:
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
        raise OptionError(f"--kube-apiserver-arg {name}={text}: write true or false")
    if type_ is int:
        if text.isdecimal():
            return int(text)
        raise OptionError(f"--kube-apiserver-arg {name}={text}: write a whole number that is not negative")
    if type_ == Number:
        try:
            return msgspec.convert(text, Number, strict=False)
        except msgspec.ValidationError:
            raise OptionError(f"--kube-apiserver-arg {name}={text}: write a number that is not negative") from None
    if type_ is float:
        try:
            return times.parse_duration(text) / 1e9
        except ValueError as error:
            raise OptionError(f"--kube-apiserver-arg {name}={text}: {error}; write 1h, 5m30s or 250ms") from None
    return text
