"""Which ends of a container are followed by a new start."""

from __future__ import annotations

from typing import Any

import pytest

from podling.api import core_v1
from podling.api.struct import from_dict
from podling.machinery import restart_policy


def _spec(policy: str, own: dict[str, Any]) -> core_v1.PodSpec:
    return from_dict({"restartPolicy": policy, "containers": [{"name": "a", "image": "i", **own}]}, core_v1.PodSpec)


def _rule(action: str, operator: str, *codes: int) -> dict[str, Any]:
    return {"action": action, "exitCodes": {"operator": operator, "values": list(codes)}}


@pytest.mark.parametrize(
    ("policy", "own", "restarting"),
    [
        ("Always", {}, {0, 1, 2}),
        ("OnFailure", {}, {1, 2}),
        ("Never", {}, set()),
        ("Never", {"restartPolicy": "Always"}, {0, 1, 2}),
        ("Always", {"restartPolicy": "Never"}, set()),
        ("Never", {"restartPolicy": "Never", "restartPolicyRules": [_rule("Restart", "In", 2)]}, {2}),
        ("Never", {"restartPolicy": "Never", "restartPolicyRules": [_rule("Restart", "NotIn", 2)]}, {0, 1}),
        ("Never", {"restartPolicy": "Never", "restartPolicyRules": [_rule("RestartAllContainers", "In", 1)]}, {1}),
    ],
)
def test_restarts(policy: str, own: dict[str, Any], restarting: set[int]) -> None:
    spec = _spec(policy, own)
    assert {code for code in (0, 1, 2) if restart_policy.restarts_after(spec.containers[0], spec, code)} == restarting


def test_rules_for_the_whole_pod() -> None:
    one = _spec("Never", {"restartPolicy": "Never", "restartPolicyRules": [_rule("Restart", "In", 1)]})
    every = _spec("Never", {"restartPolicy": "Never", "restartPolicyRules": [_rule("RestartAllContainers", "In", 1)]})
    assert not restart_policy.could_restart_all(one)
    assert restart_policy.could_restart_all(every)
    assert restart_policy.could_restart_all(core_v1.PodSpec(init_containers=every.containers))
