"""Baseline: SELinux types are those of containers; user and role are not chosen."""

from __future__ import annotations

from podling.api import core_v1, meta_v1
from podling.machinery.pod_security.check import (
    BASELINE,
    Check,
    Forbidden,
    Revision,
    Test,
    containers,
    named,
    setters,
)

_V1_0 = frozenset(("", "container_t", "container_init_t", "container_kvm_t"))
_V1_31 = _V1_0 | {"container_engine_t"}


def _allowing(types: frozenset[str]) -> Test:
    def test(meta: meta_v1.ObjectMeta, spec: core_v1.PodSpec) -> Forbidden | None:
        def bad(context: core_v1.PodSecurityContext | core_v1.SecurityContext | None) -> core_v1.SELinuxOptions | None:
            options = context.se_linux_options if context is not None else None
            if options is None or ((options.type or "") in types and not options.user and not options.role):
                return None
            return options

        of_pod = bad(spec.security_context)
        of_containers = {c.name: found for c in containers(spec) if (found := bad(c.security_context)) is not None}
        every = [*([of_pod] if of_pod is not None else ()), *of_containers.values()]
        if not every:
            return None
        said = []
        if wrong := sorted({o.type or "" for o in every} - types):
            said.append(named("type", wrong))
        if any(o.user for o in every):
            said.append("user may not be set")
        if any(o.role for o in every):
            said.append("role may not be set")
        who = setters(of_pod is not None, list(of_containers))
        return Forbidden("seLinuxOptions", f"{who} set forbidden securityContext.seLinuxOptions: {'; '.join(said)}")

    return test


CHECK = Check("seLinuxOptions", BASELINE, (Revision(0, _allowing(_V1_0)), Revision(31, _allowing(_V1_31))))
