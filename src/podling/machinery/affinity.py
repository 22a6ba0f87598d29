"""Terms of pod affinity: which pods they speak of."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from podling.api import core_v1, selectors

#: Gives the labels of a namespace.
NamespaceLabels = Callable[[str], Mapping[str, str]]


class Term:
    """A PodAffinityTerm of a pod in `namespace`, ready to be asked. `labels` are that pod's own, for matchLabelKeys."""

    def __init__(self, term: core_v1.PodAffinityTerm, namespace: str, labels: Mapping[str, str]) -> None:
        self.topology_key = term.topology_key
        self._selector = selectors.from_label_selector(term.label_selector)
        self._same = {key: labels[key] for key in term.match_label_keys or () if key in labels}
        self._other = {key: labels[key] for key in term.mismatch_label_keys or () if key in labels}
        self._namespaces = set(term.namespaces or ())
        self._namespace_selector = (
            selectors.from_label_selector(term.namespace_selector) if term.namespace_selector is not None else None
        )
        if not self._namespaces and self._namespace_selector is None:
            self._namespaces = {namespace}

    def matches(self, pod: core_v1.Pod, namespace_labels: NamespaceLabels) -> bool:
        """Whether `pod` is one that the term speaks of."""
        namespace = pod.metadata.namespace or ""
        if namespace not in self._namespaces and not (
            self._namespace_selector is not None and self._namespace_selector.matches(namespace_labels(namespace))
        ):
            return False
        labels = pod.metadata.labels or {}
        if any(labels.get(key) != value for key, value in self._same.items()):
            return False
        if any(key in labels and labels[key] == value for key, value in self._other.items()):
            return False
        return self._selector.matches(labels)


def terms(pod: core_v1.Pod, listed: list[core_v1.PodAffinityTerm] | tuple[core_v1.PodAffinityTerm, ...]) -> list[Term]:
    """The terms of a pod."""
    return [Term(t, pod.metadata.namespace or "", pod.metadata.labels or {}) for t in listed]
