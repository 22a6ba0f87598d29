from typing import Any

import pytest

from podling.apiserver import assembly, options
from podling.apiserver.options import OptionError, Options


@pytest.mark.parametrize(
    ("argument", "field", "value"),
    [
        ("event-ttl=90m", "event_ttl", 5400.0),
        ("--event-ttl=0", "event_ttl", 0.0),
        ("enable-admission-plugins=A, B", "enable_admission_plugins", ["A", "B"]),
        ("disable-admission-plugins=", "disable_admission_plugins", []),
        ("audit-webhook-batch-throttle-qps=0.5", "audit_webhook_batch_throttle_qps", 0.5),
        ("feature-gates=CBORServingAndStorage=true", "feature_gates", {"CBORServingAndStorage": True}),
        ("--feature-gates= CBORServingAndStorage = F ,", "feature_gates", {"CBORServingAndStorage": False}),
    ],
)
def test_flags_are_upstreams(argument: str, field: str, value: Any) -> None:
    assert getattr(options.parse([argument]), field) == value


def test_later_flags_are_set_over_earlier_ones() -> None:
    base = options.parse(["event-ttl=2h", "disable-admission-plugins=Priority"])
    assert options.parse(["event-ttl=3h"], base) == Options(event_ttl=10800.0, disable_admission_plugins=["Priority"])


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("colour=red", "no such flag; known are"),
        ("event-ttl", "write event-ttl=VALUE"),
        ("feature-gates=Colours=true", "unrecognized feature gate: Colours; known are CBORServingAndStorage"),
        ("feature-gates=CBORServingAndStorage", "missing bool value for CBORServingAndStorage"),
        (
            "feature-gates=CBORServingAndStorage=on",
            'invalid value of CBORServingAndStorage=on, err: strconv.ParseBool: parsing "on": invalid syntax',
        ),
        ("event-ttl=soon", 'time: invalid duration "soon"; write 1h, 5m30s or 250ms'),
    ],
)
def test_wrong_flags_say_what_is_right(argument: str, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        options.parse([argument])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["proxy-client-key-file=/k"], "proxy-client-cert-file and proxy-client-key-file must be specified together"),
        (
            ["proxy-client-cert-file=/nowhere/c", "proxy-client-key-file=/nowhere/k"],
            "proxy-client-cert-file /nowhere/c and proxy-client-key-file /nowhere/k: .*No such file",
        ),
    ],
)
def test_the_front_proxys_certificate_can_be_read(arguments: list[str], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        assembly.check(options.parse(arguments))


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("enable-admission-plugins=Prioritty", "there is no admission plugin Prioritty; there are .*Priority"),
        ("disable-admission-plugins=Nothing", "there is no admission plugin Nothing"),
    ],
)
def test_admission_plugins_are_known(argument: str, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        assembly.check(options.parse([argument]))


def test_a_plugin_is_not_both_on_and_off() -> None:
    with pytest.raises(OptionError, match="both enabled and disabled: Priority"):
        assembly.check(Options(enable_admission_plugins=["Priority"], disable_admission_plugins=["Priority"]))
