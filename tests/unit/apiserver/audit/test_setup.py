from pathlib import Path

import pytest

from podling.apiserver import assembly, options
from podling.apiserver.audit import setup
from podling.apiserver.audit.backend import Forgiving, Union
from podling.apiserver.audit.batch import Batching
from podling.apiserver.audit.log_file import LogFile
from podling.apiserver.audit.truncate import Truncating
from podling.apiserver.options import OptionError, Options

POLICY = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]\n"
KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: s}}]
clusters: [{name: s, cluster: {server: "http://127.0.0.1:1/audit"}}]
"""


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    for name, text in (("policy", POLICY), ("webhook", KUBECONFIG)):
        (tmp_path / name).write_text(text)
    return {
        "audit_policy_file": str(tmp_path / "policy"),
        "audit_log_path": str(tmp_path / "log"),
        "audit_webhook_config_file": str(tmp_path / "webhook"),
    }


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["audit-log-path=/l", "audit-log-format=xml"],
         'invalid audit log format xml, allowed formats are "legacy,json"'),
        (["audit-log-path=/l", "audit-log-mode=now"],
         'invalid audit log mode now, allowed modes are "batch,blocking,blocking-strict"'),
        (["audit-log-path=/l", "audit-log-mode=batch", "audit-log-batch-buffer-size=0"],
         "invalid audit batch log buffer size 0, must be a positive number"),
        (["audit-log-path=/l", "audit-log-mode=batch", "audit-log-batch-max-size=0"],
         "invalid audit batch log max batch size 0, must be a positive number"),
        (["audit-log-path=/l", "audit-log-mode=batch", "audit-log-batch-throttle-enable=true"],
         "invalid audit batch log throttle QPS 0.0, must be a positive number"),
        (["audit-log-path=/l", "audit-log-truncate-max-event-size=0"],
         "invalid audit truncate log max event size 0, must be a positive number"),
        (["audit-log-path=/l", "audit-log-truncate-max-batch-size=5"],
         r"invalid audit truncate log max batch size 5, must be greater than max event size \(102400\)"),
        (["audit-log-path=/l", "audit-log-version=audit.k8s.io/v1beta1"], "invalid group version"),
        (["audit-log-path=l"], "--audit-log-path=l: write an absolute path, or - for standard output"),
        (["audit-log-path=/"], "--audit-log-path=/ is a directory"),
        (["audit-policy-file=p.yaml"], r"--audit-policy-file=p\.yaml: write an absolute path"),
        (["audit-policy-file=/nowhere"], "--audit-policy-file: loading audit policy file: /nowhere can't be read"),
        (["audit-webhook-config-file=/nowhere"], "--audit-webhook-config-file: initializing audit webhook: .*nowhere"),
        (["audit-webhook-batch-throttle-qps=fast"], "write a number that is not negative"),
    ],
)  # fmt: skip
def test_wrong_flags_are_refused_in_upstreams_words(arguments: list[str], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        assembly.check(options.parse(arguments))


def test_good_flags_are_not(files: dict[str, str]) -> None:
    assembly.check(Options(**files))  # type: ignore[arg-type]


def test_without_a_policy_nothing_is_recorded(files: dict[str, str]) -> None:
    del files["audit_policy_file"]
    assert setup.auditor(Options(**files)) is None  # type: ignore[arg-type]


def test_without_a_backend_nothing_is_recorded(files: dict[str, str]) -> None:
    assert setup.auditor(Options(audit_policy_file=files["audit_policy_file"])) is None


async def test_the_log_is_written_at_once_and_the_webhook_in_batches(files: dict[str, str]) -> None:
    found = setup.auditor(Options(**files))  # type: ignore[arg-type]
    assert found is not None and isinstance(found._backend, Union)
    log, webhook = found._backend._backends
    assert isinstance(log, Forgiving) and isinstance(log._inner, LogFile)
    assert isinstance(webhook, Batching)
    assert (webhook._config.size, webhook._config.rate, webhook._config.burst) == (400, 10.0, 15)


async def test_strict_and_truncated(files: dict[str, str]) -> None:
    del files["audit_webhook_config_file"]
    found = setup.auditor(
        Options(**files, audit_log_mode="blocking-strict", audit_log_truncate_enabled=True)  # type: ignore[arg-type]
    )
    assert found is not None and isinstance(found._backend, Truncating)
    assert isinstance(found._backend._inner, LogFile)
