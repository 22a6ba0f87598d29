"""DefaultTolerationSeconds: a pod stays five minutes on a node that is not ready or not reached."""

from __future__ import annotations

from podling.api import core_v1
from podling.apiserver.admission.base import Attributes, Plugin

SECONDS = 300
TAINTS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")


class DefaultTolerationSeconds(Plugin):
    name = "DefaultTolerationSeconds"
    resources = frozenset(("pods",))
    mutates = True

    async def mutate(self, attributes: Attributes) -> None:
        spec = attributes.obj.spec
        if spec is None:
            return
        missing = [key for key in TAINTS if not any(_tolerates(t, key) for t in spec.tolerations or [])]
        if missing:
            spec.tolerations = [
                *(spec.tolerations or []),
                *(
                    core_v1.Toleration(key=key, operator="Exists", effect="NoExecute", toleration_seconds=SECONDS)
                    for key in missing
                ),
            ]


def _tolerates(toleration: core_v1.Toleration, key: str) -> bool:
    return (toleration.key or key) == key and (toleration.effect or "NoExecute") == "NoExecute"
