from typing import Any

import pytest

from podling.api.request import User
from podling.api.struct import from_dict
from podling.apiserver.audit.policy import Policy, PolicyRule
from podling.apiserver.audit.rules import Decision, Rules, matches
from podling.apiserver.request_info import RequestInfo, resolve

ALICE = User("alice", ("admins", "system:authenticated"))
POD = resolve("GET", "/api/v1/namespaces/web/pods/a", {})
LOG = resolve("GET", "/api/v1/namespaces/web/pods/a/log", {})
SCALE = resolve("PUT", "/apis/apps/v1/namespaces/web/deployments/d/scale", {})
NODE = resolve("GET", "/api/v1/nodes/n", {})
HEALTH = resolve("GET", "/healthz/ping", {})


@pytest.mark.parametrize(
    ("rule", "info", "expected"),
    [
        ({}, POD, True),
        ({"users": ["alice"]}, POD, True),
        ({"users": ["bob"]}, POD, False),
        ({"userGroups": ["other", "admins"]}, POD, True),
        ({"userGroups": ["other"]}, POD, False),
        ({"verbs": ["list"]}, POD, False),
        ({"verbs": ["get"]}, HEALTH, True),
        ({"namespaces": ["web"]}, POD, True),
        ({"namespaces": [""]}, NODE, True),
        ({"namespaces": [""]}, POD, False),
        ({"namespaces": [""]}, HEALTH, False),
        ({"resources": [{"group": ""}]}, LOG, True),
        ({"resources": [{"group": "apps"}]}, POD, False),
        ({"resources": [{"group": "*"}]}, SCALE, True),
        ({"resources": [{"resources": ["pods"]}]}, POD, True),
        ({"resources": [{"resources": ["pods"]}]}, LOG, False),
        ({"resources": [{"resources": ["pods/log"]}]}, LOG, True),
        ({"resources": [{"resources": ["pods/*"]}]}, LOG, True),
        ({"resources": [{"resources": ["*/scale"], "group": "apps"}]}, SCALE, True),
        ({"resources": [{"resources": ["*/scale"]}]}, LOG, False),
        ({"resources": [{"resources": ["*"]}]}, LOG, True),
        ({"resources": [{"resources": ["pods"], "resourceNames": ["b"]}]}, POD, False),
        ({"resources": [{"resources": ["pods"], "resourceNames": ["a"]}]}, POD, True),
        ({"nonResourceURLs": ["/healthz*"]}, HEALTH, True),
        ({"nonResourceURLs": ["/healthz"]}, HEALTH, False),
        ({"nonResourceURLs": ["*"]}, HEALTH, True),
        ({"nonResourceURLs": ["*"]}, POD, False),
    ],
)
def test_rules_match(rule: dict[str, Any], info: RequestInfo, expected: bool) -> None:
    assert matches(from_dict(rule, PolicyRule), ALICE, info) is expected


def test_nobody_matches_no_users() -> None:
    assert not matches(from_dict({"users": ["alice"]}, PolicyRule), None, POD)
    assert not matches(from_dict({"userGroups": ["admins"]}, PolicyRule), None, POD)
    assert matches(PolicyRule(), None, POD)


def test_the_first_rule_that_matches_decides() -> None:
    policy = {
        "omitStages": ["RequestReceived"],
        "omitManagedFields": True,
        "rules": [
            {"level": "None", "users": ["bob"]},
            {"level": "Request", "verbs": ["get"], "omitStages": ["Panic"], "omitManagedFields": False},
            {"level": "Metadata", "users": ["alice"]},
        ],
    }
    rules = Rules(from_dict(policy, Policy))
    stages = frozenset({"RequestReceived", "Panic"})
    assert rules.decide(ALICE, POD) == Decision("Request", stages, False)
    assert rules.decide(ALICE, SCALE) == Decision("Metadata", frozenset({"RequestReceived"}), True)
    assert rules.decide(User("carol"), SCALE) == Decision("None", frozenset({"RequestReceived"}), True)
