"""PodSecurity: pods are held to the Pod Security level that their namespace's labels want.

The level that is enforced refuses pods; the level that is audited is written to the audit log, and the level that is
warned of to the client, for pods and for what makes pods of a template. A namespace whose enforced level gets stricter
is told which of its pods would no longer be let in. The standards themselves are `machinery.pod_security`.
"""

from __future__ import annotations

import asyncio
from typing import Any

from podling import clock
from podling.api import core_v1, errors, meta_v1
from podling.api.errors import StatusError
from podling.apiserver.admission.base import CREATE, UPDATE, Attributes, Plugin
from podling.apiserver.admission.pod_security_config import Configuration, parse
from podling.apiserver.admission.pod_security_metrics import Counts
from podling.apiserver.core import Core
from podling.machinery.pod_security import policy
from podling.machinery.pod_security.check import AnyContainer, Forbidden
from podling.machinery.pod_security.policy import LevelVersion, Policy

_TEMPLATES = frozenset(
    (
        "replicationcontrollers", "podtemplates", "replicasets.apps", "deployments.apps", "statefulsets.apps",
        "daemonsets.apps", "jobs.batch", "cronjobs.batch",
    )
)  # fmt: skip
#: Subresources of pods that don't show a pod, or not its spec.
_NO_SPEC = frozenset(("exec", "attach", "binding", "eviction", "log", "portforward", "proxy", "status"))
#: How many pods of a namespace are looked at when its level changes, and for how many seconds.
MOST_PODS = 3000
MOST_SECONDS = 1.0


class PodSecurity(Plugin):
    name = "PodSecurity"
    resources = frozenset(("pods", "namespaces")) | _TEMPLATES
    subresources = None
    validates = True

    def __init__(self, app: Core, configuration: Configuration = Configuration()) -> None:  # noqa: B008 - frozen
        super().__init__(app)
        self.configuration = configuration

    @classmethod
    def parse(cls, document: dict[str, Any]) -> Configuration:
        return parse(document)

    def handles(self, attributes: Attributes) -> bool:
        if not super().handles(attributes):
            return False
        if attributes.qualified == "pods":
            return attributes.subresource not in _NO_SPEC
        return not attributes.subresource

    async def validate(self, attributes: Attributes) -> None:
        if attributes.qualified == "namespaces":
            await self._check_namespace(attributes)
        elif attributes.qualified == "pods":
            self._check_pod(attributes)
        else:
            self._check_template(attributes)

    def _namespace(self, name: str) -> core_v1.Namespace | None:
        served = self.app.lookup("", "namespaces", version="v1")
        entry = served.cache.get(name) if served is not None else None
        return entry.object if entry is not None else None

    # Pods and templates

    def _check_pod(self, attributes: Attributes) -> None:
        if self._exempt(attributes):
            return
        measured = Counts(attributes)
        namespace = self._namespace(attributes.namespace)
        if namespace is None:
            measured.failed(fatal=True)
            raise errors.internal(f'failed to lookup namespace "{attributes.namespace}"')
        wanted, problems = policy.of_labels(namespace.metadata.labels, self.configuration.defaults)
        if not problems and wanted.fully_privileged:
            _audit(attributes, "enforce-policy", str(LevelVersion()))
            measured.evaluated("enforce", wanted.enforce, allowed=True)
            return
        if attributes.operation == UPDATE and not significant(attributes.obj.spec, attributes.old.spec):
            return
        _note(attributes, problems)
        self._evaluate(attributes, wanted, attributes.obj.metadata, attributes.obj.spec, enforce=True)

    def _check_template(self, attributes: Attributes) -> None:
        if self._exempt(attributes):
            return
        namespace = self._namespace(attributes.namespace)
        if namespace is None:
            text = f'failed to lookup namespace "{attributes.namespace}": namespaces "{attributes.namespace}" not found'
            _audit(attributes, "error", text)
            Counts(attributes).failed(fatal=True)
            return
        wanted, problems = policy.of_labels(namespace.metadata.labels, self.configuration.defaults)
        if not problems and wanted.warn.level == wanted.audit.level == policy.PRIVILEGED:
            return
        template = template_of(attributes.obj)
        if template is None or template.spec is None:
            return
        _note(attributes, problems)
        meta = template.metadata or meta_v1.ObjectMeta()
        self._evaluate(attributes, wanted, meta, template.spec, enforce=False)

    def _exempt(self, attributes: Attributes) -> bool:
        if attributes.namespace in self.configuration.namespaces:
            _audit(attributes, "exempt", "namespace")
        elif attributes.user.name in self.configuration.usernames:
            _audit(attributes, "exempt", "user")
        else:
            return False
        Counts(attributes).exempt()
        return True

    def _evaluate(
        self,
        attributes: Attributes,
        wanted: Policy,
        meta: meta_v1.ObjectMeta,
        spec: core_v1.PodSpec,
        *,
        enforce: bool,
    ) -> None:
        """Audit, then refuse or warn. StatusError 403."""
        from podling.machinery.pod_security import standard

        if spec.runtime_class_name and spec.runtime_class_name in self.configuration.runtime_classes:
            _audit(attributes, "exempt", "runtimeClass")
            Counts(attributes).exempt()
            return
        measured = Counts(attributes)
        known: dict[LevelVersion, list[Forbidden]] = {}

        def found(level: LevelVersion) -> list[Forbidden]:
            if level not in known:
                known[level] = standard.evaluate(level, meta, spec)
            return known[level]

        refusal: StatusError | None = None
        if enforce:
            _audit(attributes, "enforce-policy", str(wanted.enforce))
            bad = found(wanted.enforce)
            measured.evaluated("enforce", wanted.enforce, allowed=not bad)
            if bad:
                text = f'violates PodSecurity "{wanted.enforce}": {standard.details(bad)}'
                resource = attributes.resource
                refusal = errors.forbidden(resource.name, resource.group, attributes.name, text)
        if bad := found(wanted.audit):
            measured.evaluated("audit", wanted.audit, allowed=False)
            text = f'would violate PodSecurity "{wanted.audit}": {standard.details(bad)}'
            _audit(attributes, "audit-violations", text)
        if refusal is not None:
            raise refusal
        if bad := found(wanted.warn):
            measured.evaluated("warn", wanted.warn, allowed=False)
            _warn(attributes, f'would violate PodSecurity "{wanted.warn}": {standard.details(bad)}')

    # Namespaces

    async def _check_namespace(self, attributes: Attributes) -> None:
        namespace, old = attributes.obj, attributes.old
        labels = namespace.metadata.labels
        new, problems = policy.of_labels(labels, self.configuration.defaults)
        if attributes.operation == CREATE:
            if problems:
                raise errors.invalid("Namespace", "", attributes.name, problems)
            self._warn_if_exempt(attributes, new)
            return
        before, old_problems = policy.of_labels(old.metadata.labels, self.configuration.defaults)
        if problems and problems != old_problems:
            raise errors.invalid("Namespace", "", attributes.name, problems)
        enforce, was = new.enforce, before.enforce
        if enforce == was or enforce.level == policy.PRIVILEGED:
            return
        if enforce.minor == was.minor and not policy.stricter(enforce.level, was.level):
            return
        if attributes.name in self.configuration.namespaces:
            self._warn_if_exempt(attributes, new)
            return
        for text in await self._existing(attributes.name, enforce):
            _warn(attributes, text)

    def _warn_if_exempt(self, attributes: Attributes, wanted: Policy) -> None:
        """Labels of a namespace that is exempt do nothing."""
        name, labels = attributes.name, attributes.obj.metadata.labels or {}
        if name not in self.configuration.namespaces:
            return
        if wanted.fully_privileged or wanted.equivalent(self.configuration.defaults):
            return
        ignored = []
        for mode in policy.MODES:
            label, level = policy.PREFIX + mode, getattr(wanted, mode)
            if level.level != policy.PRIVILEGED and (label in labels or f"{label}-version" in labels):
                ignored.append(f"{mode}={level}")
        text = f"is exempt from Pod Security, and the policy ({', '.join(ignored)}) will be ignored"
        _warn(attributes, f'namespace "{name}" {text}')

    async def _existing(self, namespace: str, enforce: LevelVersion) -> list[str]:
        """Warnings of pods that the new level would not let in; pods with the same reasons together."""
        from podling.machinery.pod_security import standard

        served = self.app.lookup("", "pods", version="v1")
        pods = self._in_order([e.object for e in served.cache.in_namespace(namespace)] if served is not None else [])
        until = clock.real_seconds() + MOST_SECONDS
        violating: dict[str, list[str]] = {}
        checked = 0
        for pod in pods[:MOST_PODS]:
            checked += 1
            if bad := standard.evaluate(enforce, pod.metadata, pod.spec):
                violating.setdefault(standard.reasons(bad), []).append(pod.metadata.name or "")
            if checked % 100 == 0:
                await asyncio.sleep(0)
                if clock.real_seconds() > until:
                    break
        texts = []
        if checked < len(pods):
            first = "new PodSecurity enforce level only checked against the first"
            texts.append(f"{first} {checked} of {len(pods)} existing pods")
        if violating:
            texts.append(
                f'existing pods in namespace "{namespace}" violate the new PodSecurity enforce level "{enforce}"'
            )
        return texts + sorted(f"{_some(sorted(names))}: {reasons}" for reasons, names in violating.items())

    def _in_order(self, pods: list[core_v1.Pod]) -> list[core_v1.Pod]:
        """One pod of each controller first: the others are most likely like it."""
        first: list[core_v1.Pod] = []
        others: list[core_v1.Pod] = []
        seen: set[str | None] = set()
        for pod in pods:
            if pod.spec.runtime_class_name and pod.spec.runtime_class_name in self.configuration.runtime_classes:
                continue
            owner = next((o.uid for o in pod.metadata.owner_references or () if o.controller), None)
            (others if owner is not None and owner in seen else first).append(pod)
            seen.add(owner)
        return first + others


def template_of(obj: Any) -> core_v1.PodTemplateSpec | None:
    """The pod template of a workload."""
    if isinstance(obj, core_v1.PodTemplate):
        return obj.template
    spec = obj.spec
    job = getattr(spec, "job_template", None)
    template: core_v1.PodTemplateSpec | None = (job.spec if job is not None else spec).template
    return template


def significant(new: core_v1.PodSpec, old: core_v1.PodSpec) -> bool:
    """Whether an update of a pod changes what the standards look at: containers come, or other images."""
    for attribute in ("containers", "init_containers"):
        now: list[AnyContainer] = getattr(new, attribute) or []
        before: list[AnyContainer] = getattr(old, attribute) or []
        if [c.image for c in now] != [c.image for c in before]:
            return True
    images = {c.name: c.image for c in old.ephemeral_containers or ()}
    return any(c.name not in images or images[c.name] != c.image for c in new.ephemeral_containers or ())


def _some(names: list[str]) -> str:
    more = len(names) - 1
    return names[0] if not more else f"{names[0]} (and {more} other pod{'s' if more > 1 else ''})"


def _note(attributes: Attributes, problems: list[errors.FieldError]) -> None:
    """That labels of the namespace can't be read (they come from before the plugin was there)."""
    if problems:
        texts = [str(p) for p in problems]
        text = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
        _audit(attributes, "error", f"Failed to parse policy: {text}")
        Counts(attributes).failed(fatal=False)


def _audit(attributes: Attributes, key: str, value: str) -> None:
    attributes.annotations[policy.PREFIX + key] = value


def _warn(attributes: Attributes, text: str) -> None:
    if text not in attributes.warnings:
        attributes.warnings.append(text)
