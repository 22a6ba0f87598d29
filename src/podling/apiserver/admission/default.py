"""The plugins that are on by default, those that may be, and the order in which they are asked, which is upstream's."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import Any

from podling.apiserver.admission.base import Chain, Plugin
from podling.apiserver.admission.certificates import (
    CertificateApproval,
    CertificateSigning,
    CertificateSubjectRestriction,
    ClusterTrustBundleAttest,
)
from podling.apiserver.admission.default_ingress_class import DefaultIngressClass
from podling.apiserver.admission.default_toleration_seconds import DefaultTolerationSeconds
from podling.apiserver.admission.limit_ranger import LimitRanger
from podling.apiserver.admission.mutating_policy import MutatingAdmissionPolicy
from podling.apiserver.admission.namespace_lifecycle import NamespaceLifecycle
from podling.apiserver.admission.persistent_volume_claim_resize import PersistentVolumeClaimResize
from podling.apiserver.admission.pod_resize_validator import PodResizeValidator
from podling.apiserver.admission.pod_security import PodSecurity
from podling.apiserver.admission.pod_topology_labels import PodTopologyLabels
from podling.apiserver.admission.priority import Priority
from podling.apiserver.admission.resource_quota import ResourceQuota
from podling.apiserver.admission.runtime_class import RuntimeClass
from podling.apiserver.admission.service_account import ServiceAccount
from podling.apiserver.admission.storage import DefaultStorageClass, StorageObjectInUseProtection
from podling.apiserver.admission.taint_nodes_by_condition import TaintNodesByCondition
from podling.apiserver.admission.validating_policy import ValidatingAdmissionPolicy
from podling.apiserver.admission.webhooks import MutatingAdmissionWebhook, ValidatingAdmissionWebhook
from podling.apiserver.core import Core
from podling.apiserver.options import OptionError, Options
from podling.errors import PodlingError

PLUGINS: tuple[type[Plugin], ...] = (
    NamespaceLifecycle,
    LimitRanger,
    ServiceAccount,
    TaintNodesByCondition,
    PodSecurity,
    Priority,
    DefaultTolerationSeconds,
    StorageObjectInUseProtection,
    PersistentVolumeClaimResize,
    RuntimeClass,
    CertificateApproval,
    CertificateSigning,
    ClusterTrustBundleAttest,
    CertificateSubjectRestriction,
    DefaultStorageClass,
    DefaultIngressClass,
    PodTopologyLabels,
    PodResizeValidator,
    MutatingAdmissionPolicy,
    MutatingAdmissionWebhook,
    ValidatingAdmissionPolicy,
    ValidatingAdmissionWebhook,
)

#: After all others: what it admits is charged.
LAST: tuple[type[Plugin], ...] = (ResourceQuota,)

#: Off unless `--enable-admission-plugins` names them, and not loaded before: by name, the plugin that each is asked
#: before.
OPTIONAL: dict[str, tuple[str, str]] = {
    "NamespaceAutoProvision": ("namespace_auto_provision", "NamespaceLifecycle"),
    "NamespaceExists": ("namespace_exists", "LimitRanger"),
    "LimitPodHardAntiAffinityTopology": ("limit_pod_hard_anti_affinity_topology", "LimitRanger"),
    "AlwaysPullImages": ("always_pull_images", "PodSecurity"),
    "ImagePolicyWebhook": ("image_policy_webhook", "PodSecurity"),
    "PodNodeSelector": ("pod_node_selector", "Priority"),
    "PodTolerationRestriction": ("pod_toleration_restriction", "StorageObjectInUseProtection"),
    "EventRateLimit": ("event_rate_limit", "StorageObjectInUseProtection"),
    "ExtendedResourceToleration": ("extended_resource_toleration", "StorageObjectInUseProtection"),
    "OwnerReferencesPermissionEnforcement": ("owner_references_permission_enforcement", "RuntimeClass"),
    "DenyServiceExternalIPs": ("deny_service_external_ips", "MutatingAdmissionPolicy"),
}

#: Made by the assembly, not by their class alone; `default_chain` gets them as `extra`.
ELSEWHERE = ("NodeRestriction",)


def check(options: Options) -> None:
    """OptionError for names of plugins that there are not, that are both on and off, or that can't be configured so."""
    on, off = set(options.enable_admission_plugins), set(options.disable_admission_plugins)
    names = {*ELSEWHERE, *OPTIONAL, *(p.name for p in (*PLUGINS, *LAST))}
    if unknown := (on | off) - names:
        known = ", ".join(sorted(names))
        raise OptionError(f"there is no admission plugin {', '.join(sorted(unknown))}; there are {known}")
    if both := on & off:
        raise OptionError(f"admission plugins can't be both enabled and disabled: {', '.join(sorted(both))}")
    if configurations := _documents(options):
        if unknown := set(configurations) - names:
            raise OptionError(f"admission-control-config-file names unknown plugins: {', '.join(sorted(unknown))}")
        for plugin in _chosen(options):
            _configuration(plugin, configurations)
    for name in ("EventRateLimit", "ImagePolicyWebhook"):
        if name in on and name not in configurations:
            what = "configure it in the file of admission-control-config-file"
            raise OptionError(f"the admission plugin {name} does nothing by itself: {what}")


def default_chain(app: Core, extra: Iterable[Plugin] = (), *, options: Options | None = None) -> Chain:
    """The plugins that `options` leave on, with `extra` before the last. Raises OptionError."""
    options = options or Options()
    check(options)
    off = options.disable_admission_plugins
    configurations = _documents(options)
    chosen = [_made(p, app, configurations) for p in _chosen(options)]
    last = [_made(p, app, configurations) for p in LAST if p.name not in off]
    return Chain([*chosen, *(p for p in extra if p.name not in off), *last])


def _chosen(options: Options) -> list[type[Plugin]]:
    """Those that are on, without the last, in their order."""
    on, off = options.enable_admission_plugins, options.disable_admission_plugins
    wanted = [name for name in OPTIONAL if name in on]
    chosen: list[type[Plugin]] = []
    for plugin in PLUGINS:
        chosen += [_load(name) for name in wanted if OPTIONAL[name][1] == plugin.name]
        if plugin.name not in off:
            chosen.append(plugin)
    return chosen


def _load(name: str) -> type[Plugin]:
    found: type[Plugin] = getattr(importlib.import_module(f"podling.apiserver.admission.{OPTIONAL[name][0]}"), name)
    return found


def _documents(options: Options) -> dict[str, dict[str, Any]]:
    """What the administrator has written for single plugins. Raises OptionError."""
    if not options.admission_control_config_file:
        return {}
    from podling.apiserver.admission import config

    try:
        return config.load(options.admission_control_config_file)
    except ValueError as error:
        raise OptionError(f"admission-control-config-file: {error}") from None


def _configuration(plugin: type[Plugin], documents: dict[str, dict[str, Any]]) -> Any:
    """What a plugin is to be made with; None if nothing is said of it. Raises OptionError."""
    if plugin.name not in documents:
        return None
    try:
        return plugin.parse(documents[plugin.name])
    except (ValueError, PodlingError) as error:
        raise OptionError(f"admission-control-config-file: {plugin.name}: {error}") from None


def _made(plugin: type[Plugin], app: Core, documents: dict[str, dict[str, Any]]) -> Plugin:
    configuration = _configuration(plugin, documents)
    if configuration is None:
        return plugin(app)
    make: Any = plugin
    made: Plugin = make(app, configuration)
    return made
