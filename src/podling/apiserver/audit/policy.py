"""audit.k8s.io/v1 Policy: read from its file and validated in upstream's words (pkg/apis/audit/validation)."""

from __future__ import annotations

from msgspec import field

from podling import log
from podling.api import meta_v1, names
from podling.api.struct import ApiStruct, empty_list
from podling.apiserver import config_file
from podling.apiserver.config_file import ConfigFileError
from podling.machinery import schema
from podling.machinery.validation import Findings, Path, invalid, not_supported, required

LOG = log.get(__name__)

API_VERSION = "audit.k8s.io/v1"

#: In the order in which each holds more than the one before it.
LEVELS = ("None", "Metadata", "Request", "RequestResponse")
NONE, METADATA, REQUEST, REQUEST_RESPONSE = LEVELS
STAGES = ("RequestReceived", "ResponseStarted", "ResponseComplete", "Panic")
REQUEST_RECEIVED, RESPONSE_STARTED, RESPONSE_COMPLETE, PANIC = STAGES


class GroupResources(ApiStruct):
    group: str = ""
    resources: list[str] = field(default_factory=list)
    resource_names: list[str] = field(default_factory=list)


class PolicyRule(ApiStruct):
    level: str = ""
    users: list[str] = field(default_factory=list)
    user_groups: list[str] = field(default_factory=list)
    verbs: list[str] = field(default_factory=list)
    resources: list[GroupResources] = field(default_factory=list)
    namespaces: list[str] = field(default_factory=list)
    non_resource_urls: list[str] = field(name="nonResourceURLs", default_factory=list)
    omit_stages: list[str] = field(default_factory=list)
    omit_managed_fields: bool | None = None


class Policy(ApiStruct):
    kind: str = ""
    api_version: str = ""
    metadata: meta_v1.ObjectMeta | None = None
    rules: list[PolicyRule] = field(default_factory=empty_list)
    omit_stages: list[str] = field(default_factory=list)
    omit_managed_fields: bool = False


def load(path: str) -> Policy:
    """The policy in a file. Raises ConfigFileError. Unknown fields are only warned of, as upstream does."""
    policy, problems = config_file.load(config_file.read(path), path, API_VERSION, "Policy", Policy)
    if problems:
        said = schema.StrictDecodeError(problems)
        LOG.warning("Audit policy contains errors, falling back to lenient decoding: %s", said)
    if found := validate(policy):
        raise config_file.findings(path, found)
    if not policy.rules:
        raise ConfigFileError(f"{path}: loaded illegal policy with 0 rules")
    return policy


def validate(policy: Policy) -> Findings:
    found = _stages(policy.omit_stages, Path("omitStages"))
    for index, rule in enumerate(policy.rules):
        found += _rule(rule, Path("rules").index(index))
    return found


def _rule(rule: PolicyRule, at: Path) -> Findings:
    found = []
    if not rule.level:
        found.append(required(at.child("level")))
    elif rule.level not in LEVELS:
        found.append(not_supported(at.child("level"), rule.level, LEVELS))
    urls = at.child("nonResourceURLs")
    found += _urls(rule.non_resource_urls, urls)
    found += _resources(rule.resources, at.child("resources"))
    found += _stages(rule.omit_stages, at.child("omitStages"))
    if rule.non_resource_urls and (rule.resources or rule.namespaces):
        why = "rules cannot apply to both regular resources and non-resource URLs"
        found.append(invalid(urls, rule.non_resource_urls, why))
    return found


def _urls(urls: list[str], at: Path) -> Findings:
    found = []
    for index, url in enumerate(urls):
        if url == "*":
            continue
        if not url.startswith("/"):
            found.append(invalid(at.index(index), url, "non-resource URL rules must begin with a '/' character"))
        if "*" in url[:-1]:
            why = "non-resource URL wildcards '*' must be the final character of the rule"
            found.append(invalid(at.index(index), url, why))
    return found


def _resources(resources: list[GroupResources], at: Path) -> Findings:
    found = []
    for item in resources:
        if item.group not in ("", "*") and (problems := names.dns_subdomain(item.group)):
            found.append(invalid(at.child("group"), item.group, ",".join(problems)))
        if item.resource_names and not item.resources:
            why = "using resourceNames requires at least one resource"
            found.append(invalid(at.child("resourceNames"), item.resource_names, why))
    return found


def _stages(stages: list[str], at: Path) -> Findings:
    why = f"allowed stages are {','.join(STAGES)}"
    return [invalid(at.index(i), stage, why) for i, stage in enumerate(stages) if stage not in STAGES]
