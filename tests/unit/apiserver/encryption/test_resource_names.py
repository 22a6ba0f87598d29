import pytest

from podling.apiserver.encryption import resource_names
from podling.apiserver.encryption.resource_names import GroupResource
from podling.machinery.validation import Path


@pytest.mark.parametrize(
    ("text", "group", "resource", "shown"),
    [
        ("secrets", "", "secrets", "secrets"),
        ("*.", "", "*", "*."),
        ("deployments.apps", "apps", "deployments", "deployments.apps"),
        ("*.apps", "apps", "*", "*.apps"),
        ("*.*", "*", "*", "*.*"),
        ("pandas.awesome.bears.example", "awesome.bears.example", "pandas", "pandas.awesome.bears.example"),
    ],
)
def test_names_mean_groups_and_resources(text: str, group: str, resource: str, shown: str) -> None:
    found = resource_names.parse(text)
    assert found == GroupResource(group, resource) and str(found) == shown


def test_keys_of_the_store_belong_to_resources() -> None:
    assert resource_names.of_key("/registry/core/secrets/default/a/b") == GroupResource("", "secrets")
    assert resource_names.of_key("/registry/apps/deployments/ns/web") == GroupResource("apps", "deployments")
    assert resource_names.of_key("/registry/health") == GroupResource("", "")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ("secrets configmaps *.apps", []),
        ("Secrets", ['r[0]: Invalid value: "Secrets": resource name should not contain capital letters']),
        ("*", ["r[0]: Invalid value: \"*\": use '*.' to encrypt all the resources from core API group or *.* to "
               "encrypt all resources"]),
        ("apiserveripinfo", ['r[0]: Invalid value: "apiserveripinfo": resources which do not have REST API/s cannot be '
                             "encrypted"]),
        ("a.extensions", ["r[0]: Invalid value: \"a.extensions\": 'extensions' group has been removed and cannot be "
                          "used for encryption"]),
        ("a.*", ['r[0]: Invalid value: "a.*": encrypting the same resource across groups is not supported']),
        ("a a", ['r: Invalid value: ["a","a"]: the same resource cannot be specified multiple times']),
    ],
)  # fmt: skip
def test_findings_are_in_upstreams_words(names: str, said: list[str]) -> None:
    assert [str(f) for f in resource_names.validate(names.split(), Path("r"))] == said


def test_events_are_named_by_the_core_group() -> None:
    (found,) = resource_names.validate(["events.events.k8s.io"], Path("r"))
    assert str(found).endswith("Use 'events' instead in the config file")


@pytest.mark.parametrize("names", ["*. secrets", "*.* secrets", "*.apps deployments.apps", "*.* *.apps"])
def test_names_that_others_contain_are_refused(names: str) -> None:
    (found,) = resource_names.validate(names.split(), Path("r"))
    assert "using overlapping resources such as 'secrets' and '*.' in the same resource list is not allowed" in str(
        found
    )
