"""The plugins that are on by default, in upstream's order."""

from __future__ import annotations

from collections.abc import Iterable

from podling.apiserver.admission.base import Chain, Plugin
from podling.apiserver.admission.certificates import (
    CertificateApproval,
    CertificateSigning,
    CertificateSubjectRestriction,
    ClusterTrustBundleAttest,
)
from podling.apiserver.admission.default_toleration_seconds import DefaultTolerationSeconds
from podling.apiserver.admission.limit_ranger import LimitRanger
from podling.apiserver.admission.mutating_policy import MutatingAdmissionPolicy
from podling.apiserver.admission.namespace_lifecycle import NamespaceLifecycle
from podling.apiserver.admission.pod_security import PodSecurity
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

PLUGINS: tuple[type[Plugin], ...] = (
    NamespaceLifecycle,
    LimitRanger,
    ServiceAccount,
    TaintNodesByCondition,
    PodSecurity,
    Priority,
    DefaultTolerationSeconds,
    StorageObjectInUseProtection,
    RuntimeClass,
    CertificateApproval,
    CertificateSigning,
    ClusterTrustBundleAttest,
    CertificateSubjectRestriction,
    DefaultStorageClass,
    MutatingAdmissionPolicy,
    MutatingAdmissionWebhook,
    ValidatingAdmissionPolicy,
    ValidatingAdmissionWebhook,
)

#: After all others: what it admits is charged.
LAST: tuple[type[Plugin], ...] = (ResourceQuota,)


#: Off unless `--enable-admission-plugins` names them.
OPTIONAL: tuple[type[Plugin], ...] = ()


#: Made by the assembly, not by their class alone; `default_chain` gets them as `extra`.
ELSEWHERE = ("NodeRestriction",)


def check(options: Options) -> None:
    """OptionError for names of plugins that there are not, or that are both on and off."""
    on, off = set(options.enable_admission_plugins), set(options.disable_admission_plugins)
    names = {*ELSEWHERE, *(p.name for p in (*PLUGINS, *OPTIONAL, *LAST))}
    if unknown := (on | off) - names:
        known = ", ".join(sorted(names))
        raise OptionError(f"there is no admission plugin {', '.join(sorted(unknown))}; there are {known}")
    if both := on & off:
        raise OptionError(f"admission plugins can't be both enabled and disabled: {', '.join(sorted(both))}")


def default_chain(app: Core, extra: Iterable[Plugin] = (), *, options: Options | None = None) -> Chain:
    """The plugins that `options` leave on, with `extra` before the last. Raises OptionError."""
    options = options or Options()
    check(options)
    on, off = options.enable_admission_plugins, options.disable_admission_plugins
    chosen = [p for p in PLUGINS if p.name not in off] + [p for p in OPTIONAL if p.name in on]
    last = [p(app) for p in LAST if p.name not in off]
    return Chain([*(p(app) for p in chosen), *(p for p in extra if p.name not in off), *last])
