from pathlib import Path

import pytest

from podling.api.struct import from_dict
from podling.apiserver.audit import policy
from podling.apiserver.audit.policy import Policy
from podling.apiserver.config_file import ConfigFileError

HEAD = "apiVersion: audit.k8s.io/v1\nkind: Policy\n"


def load(tmp_path: Path, text: str) -> Policy:
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    return policy.load(str(path))


def test_all_fields_are_read(tmp_path: Path) -> None:
    found = load(
        tmp_path,
        HEAD
        + """
omitStages: [RequestReceived]
omitManagedFields: true
rules:
- level: RequestResponse
  users: [a]
  userGroups: [g]
  verbs: [get]
  resources: [{group: apps, resources: [deployments], resourceNames: [web]}]
  namespaces: [ns]
  omitStages: [Panic]
  omitManagedFields: false
- level: Metadata
  nonResourceURLs: [/healthz*]
""",
    )
    first, second = found.rules
    assert (found.omit_stages, found.omit_managed_fields) == (["RequestReceived"], True)
    assert (first.level, first.users, first.user_groups, first.verbs) == ("RequestResponse", ["a"], ["g"], ["get"])
    assert (first.resources[0].group, first.resources[0].resource_names) == ("apps", ["web"])
    assert (first.namespaces, first.omit_stages, first.omit_managed_fields) == (["ns"], ["Panic"], False)
    assert second.non_resource_urls == ["/healthz*"] and second.omit_managed_fields is None


def test_unknown_fields_are_only_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert load(tmp_path, HEAD + "rules: [{level: None, colour: red}]").rules[0].level == "None"
    assert 'unknown field "rules[0].colour"' in caplog.text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "policy.yaml is empty"),
        ("- 1", "holds no Policy: write an object with apiVersion: audit.k8s.io/v1"),
        ("kind: Policy\nrules: []", "says no apiVersion, Policy: write apiVersion: audit.k8s.io/v1 and kind: Policy"),
        ("apiVersion: audit.k8s.io/v1beta1\nkind: Policy", "says audit.k8s.io/v1beta1, Policy"),
        (HEAD, "loaded illegal policy with 0 rules"),
        (HEAD + "rules: {", "is no Policy: error converting YAML to JSON"),
        (HEAD + "rules: [{level: Everything}]", 'rules[0].level: Unsupported value: "Everything"'),
    ],
)
def test_a_bad_file_is_named_with_what_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigFileError) as caught:
        load(tmp_path, text)
    assert str(tmp_path / "policy.yaml") in str(caught.value) and said in str(caught.value)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ConfigFileError, match=r"/nowhere/p\.yaml can't be read: No such file or directory"):
        policy.load("/nowhere/p.yaml")


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({}, "rules[0].level: Required value"),
        (
            {"level": "Some"},
            'rules[0].level: Unsupported value: "Some": supported values: '
            '"None", "Metadata", "Request", "RequestResponse"',
        ),
        (
            {"level": "None", "nonResourceURLs": ["healthz"]},
            'rules[0].nonResourceURLs[0]: Invalid value: "healthz": non-resource URL rules must begin with a '
            "'/' character",
        ),
        (
            {"level": "None", "nonResourceURLs": ["*", "/a*b"]},
            "rules[0].nonResourceURLs[1]: Invalid value: \"/a*b\": non-resource URL wildcards '*' must be the final "
            "character of the rule",
        ),
        (
            {"level": "None", "nonResourceURLs": ["/a"], "namespaces": ["b"]},
            'rules[0].nonResourceURLs: Invalid value: ["/a"]: rules cannot apply to both regular resources and '
            "non-resource URLs",
        ),
        (
            {"level": "None", "resources": [{"resourceNames": ["a"]}]},
            'rules[0].resources.resourceNames: Invalid value: ["a"]: using resourceNames requires at least one '
            "resource",
        ),
        (
            {"level": "None", "omitStages": ["Late"]},
            'rules[0].omitStages[0]: Invalid value: "Late": allowed stages are '
            "RequestReceived,ResponseStarted,ResponseComplete,Panic",
        ),
    ],
)
def test_findings_are_in_upstreams_words(rule: dict[str, object], said: str) -> None:
    found = policy.validate(from_dict({"rules": [rule]}, Policy))
    assert [str(f) for f in found] == [said]


def test_a_group_is_a_domain_without_version() -> None:
    rule = {"level": "None", "resources": [{"group": "rbac.authorization.k8s.io/v1"}]}
    (found,) = policy.validate(from_dict({"rules": [rule]}, Policy))
    assert str(found).startswith(
        'rules[0].resources.group: Invalid value: "rbac.authorization.k8s.io/v1": a lowercase RFC 1123 subdomain'
    )


def test_stages_of_the_whole_policy_are_checked() -> None:
    (found,) = policy.validate(from_dict({"omitStages": ["x"]}, Policy))
    assert str(found).startswith('omitStages[0]: Invalid value: "x"')
