"""Gets a container's image as its pull policy says, and tells what it does (pkg/kubelet/images)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from podling import clock
from podling.api import core_v1
from podling.api.errors import StatusError
from podling.client.base import Client
from podling.images import credentials, reference
from podling.images.base import Credentials, Image, ImageError, ImageService, InvalidReference
from podling.kubelet import pods
from podling.kubelet.backoff import Backoff, duration
from podling.kubelet.container_statuses import Failure
from podling.kubelet.measures import Measures
from podling.kubelet.pods import AnyContainer

#: (type, reason, message)
Tell = Callable[[str, str, str], None]


class PullFailure(Exception):
    """No image: `failure` becomes the container's waiting state; it may be tried again in `retry_after` seconds."""

    def __init__(self, failure: Failure, retry_after: float) -> None:
        super().__init__(failure.message)
        self.failure, self.retry_after = failure, retry_after


class Registered(msgspec.Struct, frozen=True):
    """An image in the store under the name that the status shows, and its digest reference."""

    image: Image
    digest: str


def with_default_tag(name: str) -> str:
    """`busybox` -> `busybox:latest`, else unchanged. Raises InvalidReference."""
    parsed = reference.parse(name)
    if parsed.tag == reference.DEFAULT_TAG and not parsed.digest and not name.endswith(f":{parsed.tag}"):
        return f"{name}:{parsed.tag}"
    return name


def default_policy(name: str) -> str:
    """imagePullPolicy where it is not set: Always for :latest."""
    try:
        return "Always" if reference.parse(name).tag == reference.DEFAULT_TAG else "IfNotPresent"
    except InvalidReference:
        return "IfNotPresent"


class ImagePuller:
    """Pulls in parallel (at most `parallel` at a time; 0: no limit), backs off per pod and image."""

    def __init__(
        self,
        client: Client,
        images: ImageService,
        *,
        parallel: int,
        first: float,
        most: float,
        measures: Measures | None = None,
    ) -> None:
        self._client, self._images = client, images
        self._measures = measures or Measures()
        self._slots = asyncio.Semaphore(parallel) if parallel > 0 else None
        self._backoff = Backoff(first, most)
        self._last_errors: dict[str, str] = {}
        #: Digest references by image id, for status.imageID.
        self.digests: dict[str, str] = {}

    async def learn(self) -> None:
        """Know the digests of what is in the store already."""
        for image in await self._images.list():
            self._register(image, "")

    async def ensure(self, pod: core_v1.Pod, container: AnyContainer, tell: Tell) -> Image:
        """The image, pulled if need be. Raises PullFailure; every outcome is told as an event."""
        wanted = container.image or ""
        try:
            name = with_default_tag(wanted)
        except InvalidReference as error:
            message = f'Failed to apply default image tag "{wanted}": couldn\'t parse image name "{wanted}": {error}'
            tell("Warning", "InspectFailed", message)
            raise PullFailure(Failure("InvalidImageName", message), self._backoff_forever()) from None
        policy = container.image_pull_policy or default_policy(wanted)
        if policy != "Always":
            image = await self._inspect(wanted, name, tell)
            if image is not None:
                text = f'Container image "{wanted}" already present on machine and can be accessed by the pod'
                tell("Normal", "Pulled", text)
                return self._register(image, name)
            if policy == "Never":
                message = f'Container image "{wanted}" is not present with pull policy of Never'
                tell("Warning", "ErrImageNeverPull", message)
                raise PullFailure(Failure("ErrImageNeverPull", message), self._backoff_forever())
        return await self._pull(pod, wanted, name, tell)

    def _backoff_forever(self) -> float:
        # What waits for a person is looked at again at the pace of a pod's regular sync.
        return 60.0

    async def _inspect(self, wanted: str, name: str, tell: Tell) -> Image | None:
        try:
            return await self._images.status(name)
        except ImageError as error:
            message = f'Failed to inspect image "{wanted}": {error}'
            tell("Warning", "InspectFailed", message)
            raise PullFailure(Failure("ImageInspectError", message), 10.0) from None

    async def _pull(self, pod: core_v1.Pod, wanted: str, name: str, tell: Tell) -> Image:
        key = f"{pods.uid(pod)}_{name}"
        remaining = self._backoff.remaining(key)
        if remaining > 0:
            message = f'Back-off pulling image "{wanted}"'
            tell("Normal", "BackOff", message)
            if last := self._last_errors.get(key):
                message = f"{message}: {last}"
            raise PullFailure(Failure("ImagePullBackOff", message), remaining)
        tell("Normal", "Pulling", f'Pulling image "{wanted}"')
        began = clock.elapsed()
        try:
            image, took = await self._pull_now(pod, name)
        except (ImageError, OSError) as error:
            tell("Warning", "Failed", f'Failed to pull image "{wanted}": {error}')
            self._backoff.next(key, clock.now())
            self._last_errors[key] = f"ErrImagePull: {error}"
            # Looked at again soon, to say that it now backs off.
            raise PullFailure(Failure("ErrImagePull", str(error)), 1.0) from None
        whole = clock.elapsed() - began
        tell(
            "Normal",
            "Pulled",
            f'Successfully pulled image "{wanted}" in {_rounded(took)} ({_rounded(whole)} including waiting). '
            f"Image size: {image.size} bytes.",
        )
        self._last_errors.pop(key, None)
        self._backoff.forget(key)
        return self._register(image, name)

    async def _pull_now(self, pod: core_v1.Pod, name: str) -> tuple[Image, float]:
        """The image and the seconds that the pull itself took."""
        found = await self._credentials(pod, name)
        if self._slots is None:
            return await self._timed(name, found)
        async with self._slots:
            return await self._timed(name, found)

    async def _timed(self, name: str, found: tuple[Credentials, ...]) -> tuple[Image, float]:
        began = clock.elapsed()
        image = await self._images.pull(name, found)
        took = clock.elapsed() - began
        self._measures.pulled(image.size, took)
        return image, took

    async def _credentials(self, pod: core_v1.Pod, name: str) -> tuple[Credentials, ...]:
        secrets = []
        for named in pod.spec.image_pull_secrets or ():
            try:
                secrets.append(await self._client.get(core_v1.Secret, named.name or "", pods.namespace(pod)))
            except StatusError:
                # Upstream pulls without a secret that is not there: the image may be public.
                continue
        if not secrets:
            return ()
        return credentials.keyring_of_secrets(secrets).lookup(reference.parse(name).name)

    def _register(self, image: Image, name: str) -> Image:
        self.digests[image.id] = _digest_reference(image, name)
        return image

    def forget_pod(self, uid: str) -> None:
        for key in [k for k in self._last_errors if k.startswith(uid)]:
            del self._last_errors[key]
        self._backoff.collect()


def _digest_reference(image: Image, name: str) -> str:
    """What status.imageID shows: the image by digest, under the name that it was asked for if it has that."""
    if name and image.repo_digests:
        try:
            repository = reference.parse(name).name
        except InvalidReference:
            repository = ""
        for digest in image.repo_digests:
            if digest.startswith(f"{repository}@"):
                return digest
    return image.repo_digests[0] if image.repo_digests else image.id


def _rounded(seconds: float) -> str:
    return duration(int(seconds * 1000) / 1000)


class ImageVolumes:
    """Images as volumes: what `volumes.base.ImageMounter` asks for."""

    def __init__(self, puller: ImagePuller, images: ImageService, tell: Callable[..., None]) -> None:
        self._puller, self._images, self._tell = puller, images, tell

    async def image_id(self, pod: core_v1.Pod, reference: str, pull_policy: str) -> str:
        """The image, pulled if need be. Raises ImageError."""
        wanted = core_v1.Container(name="", image=reference, image_pull_policy=pull_policy or None)
        try:
            image = await self._puller.ensure(
                pod, wanted, lambda type_, reason, text: self._tell(pod, type_, reason, text)
            )
        except PullFailure as error:
            raise ImageError(f"{error.failure.reason}: {error.failure.message}") from None
        return image.id

    async def mount(self, image_id: str, key: str, target: str, *, readonly: bool = False) -> None:
        await self._images.mount(image_id, key, target, readonly=readonly)

    async def unmount(self, key: str, target: str) -> None:
        await self._images.unmount(key, target)
