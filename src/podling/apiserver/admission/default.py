"""The plugins that are on by default, in upstream's order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from podling.apiserver.app import ApiServer

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


def default_chain(app: ApiServer, extra: Iterable[Plugin] = (), *, without: frozenset[str] = frozenset()) -> Chain:
    """The default plugins but those named in `without`, with `extra` before the last."""
    first, last = ([p(app) for p in plugins if p.name not in without] for plugins in (PLUGINS, LAST))
    return Chain([*first, *extra, *last])
