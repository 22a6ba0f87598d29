"""The flags of auditing: checked, in upstream's words, and made into an auditor (pkg/server/options/audit.go)."""

from __future__ import annotations

import os
from pathlib import Path

from podling import log
from podling.apiserver.audit import policy
from podling.apiserver.audit.auditor import Auditor
from podling.apiserver.audit.backend import BATCH, BLOCKING_STRICT, MODES, Backend, Forgiving, Union
from podling.apiserver.audit.batch import BatchConfig, Batching
from podling.apiserver.audit.log_file import FORMATS, MEGABYTE, LogFile, Rotation
from podling.apiserver.audit.rules import Rules
from podling.apiserver.audit.truncate import Truncating
from podling.apiserver.audit.webhook import Webhook
from podling.apiserver.config_file import ConfigFileError
from podling.apiserver.options import OptionError, Options
from podling.client import kubeconfig

LOG = log.get(__name__)


def check(options: Options) -> None:
    """Read all that the flags name. Raises OptionError."""
    for flag in ("audit_policy_file", "audit_webhook_config_file"):
        if (path := getattr(options, flag)) and not os.path.isabs(path):
            raise OptionError(f"--{flag.replace('_', '-')}={path}: write an absolute path")
    if options.audit_log_path:
        _check_log(options)
        _check_backend(options, "log")
    if options.audit_webhook_config_file:
        _check_backend(options, "webhook")
        _webhook_config(options)
    if options.audit_policy_file:
        _policy(options)


def auditor(options: Options) -> Auditor | None:
    """None if nothing is to be recorded anywhere. Raises OptionError."""
    if not options.audit_policy_file:
        return None
    rules = Rules(_policy(options))
    backends: list[Backend] = []
    if options.audit_log_path:
        rotation = Rotation(
            size=options.audit_log_maxsize * MEGABYTE,
            backups=options.audit_log_maxbackup,
            age=options.audit_log_maxage,
            compress=options.audit_log_compress,
        )
        log_file = LogFile(options.audit_log_path, options.audit_log_format, rotation)
        backends.append(_wrapped(options, "log", log_file))
    if options.audit_webhook_config_file:
        webhook = Webhook(_webhook_config(options), options.audit_webhook_initial_backoff)
        backends.append(_wrapped(options, "webhook", webhook))
    if not backends:
        LOG.warning("there is an audit policy, but neither --audit-log-path nor --audit-webhook-config-file")
        return None
    return Auditor(rules, backends[0] if len(backends) == 1 else Union(backends))


def _of(options: Options, plugin: str, name: str) -> object:
    return getattr(options, f"audit_{plugin}_{name}")


def _wrapped(options: Options, plugin: str, backend: Backend) -> Backend:
    """In its mode, and with what it is not given."""

    def number(name: str) -> float:
        value = _of(options, plugin, name)
        assert isinstance(value, int | float)
        return value

    mode = _of(options, plugin, "mode")
    if mode == BATCH:
        config = BatchConfig(
            buffer=int(number("batch_buffer_size")),
            size=int(number("batch_max_size")),
            wait=number("batch_max_wait"),
            rate=number("batch_throttle_qps") if _of(options, plugin, "batch_throttle_enable") else 0.0,
            burst=int(number("batch_throttle_burst")),
            beside=plugin == "webhook",
        )
        backend = Batching(backend, config)
    elif mode != BLOCKING_STRICT:
        backend = Forgiving(backend)
    if _of(options, plugin, "truncate_enabled"):
        most = int(number("truncate_max_event_size")), int(number("truncate_max_batch_size"))
        backend = Truncating(backend, *most)
    return backend


def _policy(options: Options) -> policy.Policy:
    try:
        return policy.load(options.audit_policy_file)
    except ConfigFileError as error:
        raise OptionError(f"--audit-policy-file: loading audit policy file: {error}") from None


def _webhook_config(options: Options) -> kubeconfig.Config:
    try:
        config = kubeconfig.load(options.audit_webhook_config_file)
    except (kubeconfig.KubeconfigError, ValueError, OSError) as error:
        raise OptionError(f"--audit-webhook-config-file: initializing audit webhook: {error}") from None
    if not config.server:
        raise OptionError(f"--audit-webhook-config-file: {options.audit_webhook_config_file} names no server")
    return config


def _check_log(options: Options) -> None:
    shown = options.audit_log_format
    if shown not in FORMATS:
        raise OptionError(f'invalid audit log format {shown}, allowed formats are "legacy,json"')
    path = options.audit_log_path
    if path != "-" and not os.path.isabs(path):
        raise OptionError(f"--audit-log-path={path}: write an absolute path, or - for standard output")
    if path != "-" and Path(path).is_dir():
        raise OptionError(f"--audit-log-path={path} is a directory: write the path of a file")


def _check_backend(options: Options, plugin: str) -> None:
    mode = _of(options, plugin, "mode")
    if mode not in MODES:
        raise OptionError(f'invalid audit {plugin} mode {mode}, allowed modes are "{",".join(MODES)}"')
    if mode == BATCH:
        _check_batch(options, plugin)
    most_event, most_batch = _of(options, plugin, "truncate_max_event_size"), _of(
        options, plugin, "truncate_max_batch_size"
    )  # fmt: skip
    assert isinstance(most_event, int) and isinstance(most_batch, int)
    if most_event <= 0:
        why = f"invalid audit truncate {plugin} max event size {most_event}, must be a positive number"
        raise OptionError(why)
    if most_batch < most_event:
        why = f"must be greater than max event size ({most_event})"
        raise OptionError(f"invalid audit truncate {plugin} max batch size {most_batch}, {why}")
    version = _of(options, plugin, "version")
    if version != policy.API_VERSION:
        raise OptionError(
            f'--audit-{plugin}-version={version}: invalid group version, allowed versions are ["{policy.API_VERSION}"]'
        )


def _check_batch(options: Options, plugin: str) -> None:
    needed = {"batch_buffer_size": "buffer size", "batch_max_size": "max batch size"}
    if _of(options, plugin, "batch_throttle_enable"):
        needed |= {"batch_throttle_qps": "throttle QPS", "batch_throttle_burst": "throttle burst"}
    for name, words in needed.items():
        if not (value := _of(options, plugin, name)):
            raise OptionError(f"invalid audit batch {plugin} {words} {value}, must be a positive number")
