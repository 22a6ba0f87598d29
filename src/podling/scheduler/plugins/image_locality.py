"""ImageLocality: nodes that have the pod's images already are better, the larger the images the more."""

from __future__ import annotations

from typing import Any

from podling.scheduler.cache import Cache, NodeInfo, PodInfo
from podling.scheduler.framework import MAX_SCORE, SKIP, Plugin

_MEGABYTE = 1024 * 1024
#: Below the first, images make no difference; above the second, per container, more makes none.
_LEAST, _MOST = 23 * _MEGABYTE, 1000 * _MEGABYTE


def _normal(image: str) -> str:
    return image if ":" in image.rpartition("/")[2] or "@" in image else f"{image}:latest"


class ImageLocality(Plugin):
    name = "ImageLocality"
    scores = True

    def prepare_score(self, info: PodInfo, cache: Cache, nodes: list[NodeInfo]) -> Any:
        spec = info.pod.spec
        images = [_normal(c.image or "") for c in [*(spec.init_containers or ()), *spec.containers]]
        having = {image: sum(1 for n in nodes if image in n.images) for image in images}
        if not any(having.values()):
            return SKIP
        return images, {image: count / len(nodes) for image, count in having.items()}

    def score(self, state: Any, info: PodInfo, node: NodeInfo) -> int:
        images, spread = state
        found = sum(int(node.images[i] * spread[i]) for i in images if i in node.images)
        most = _MOST * len(images)
        return MAX_SCORE * (min(max(found, _LEAST), most) - _LEAST) // (most - _LEAST)
