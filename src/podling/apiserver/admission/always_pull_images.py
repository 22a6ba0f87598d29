"""AlwaysPullImages: every pod pulls its images, so that nobody runs an image that they could not pull themselves."""

from __future__ import annotations

from collections.abc import Iterator

from podling.api import core_v1
from podling.apiserver.admission.base import CREATE, UPDATE, Attributes, Plugin
from podling.apiserver.admission.refusal import aggregate, forbidden
from podling.machinery.validation import Path, not_supported

_ALWAYS = "Always"
AnyContainer = core_v1.Container | core_v1.EphemeralContainer


class AlwaysPullImages(Plugin):
    name = "AlwaysPullImages"
    operations = frozenset((CREATE, UPDATE))
    resources = frozenset(("pods",))
    subresources = frozenset(("", "ephemeralcontainers"))
    mutates = True
    validates = True

    async def mutate(self, attributes: Attributes) -> None:
        if _nothing_new(attributes):
            return
        for _, container in _containers(attributes.obj):
            container.image_pull_policy = _ALWAYS
        for volume in attributes.obj.spec.volumes or ():
            if volume.image is not None and volume.image.reference:
                volume.image.pull_policy = _ALWAYS

    async def validate(self, attributes: Attributes) -> None:
        if _nothing_new(attributes):
            return
        texts = []
        for path, container in _containers(attributes.obj):
            if container.image_pull_policy != _ALWAYS:
                at = path.child("imagePullPolicy")
                texts.append(str(not_supported(at, container.image_pull_policy or "", (_ALWAYS,))))
        if texts:
            raise forbidden(attributes, aggregate(texts))


def _containers(pod: core_v1.Pod) -> Iterator[tuple[Path, AnyContainer]]:
    spec = pod.spec
    if spec is None:
        return
    kinds: tuple[tuple[str, list[AnyContainer]], ...] = (
        ("initContainers", [*(spec.init_containers or ())]),
        ("containers", [*spec.containers]),
        ("ephemeralContainers", [*(spec.ephemeral_containers or ())]),
    )
    for name, containers in kinds:
        for index, container in enumerate(containers):
            yield Path("spec").child(name).index(index), container


def _nothing_new(attributes: Attributes) -> bool:
    """Whether an update brings no image that was not there before."""
    if attributes.operation != UPDATE or attributes.old is None:
        return False
    before = {c.image for _, c in _containers(attributes.old)}
    return all(c.image in before for _, c in _containers(attributes.obj))
