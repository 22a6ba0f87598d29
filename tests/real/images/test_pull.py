"""Pulls from a real registry, and from one that misbehaves."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from podling.images import registry_client
from podling.images.base import Credentials, InvalidReference, PullFailed
from podling.images.registry_config import RegistryConfig
from podling.images.store import ImageStore
from tests.real.images.conftest import skopeo
from tests.real.images.fake_registry import FakeRegistry, serving
from tests.real.images.making import Built, index_of, member, simple, tar, write_layout

pytestmark = pytest.mark.real


@pytest.fixture
async def fake(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeRegistry]:
    monkeypatch.setattr(registry_client, "_FIRST_DELAY", 0.01)
    made = FakeRegistry()
    async with serving(made):
        yield made


def _big() -> Built:
    return Built([tar(member("big", os.urandom(3_000_000)))], compression="")


async def test_from_dockers_registry(store: ImageStore, tmp_path: Path, registry: str, root: Path) -> None:
    layers = [tar(member(f"layer{number}", os.urandom(100_000))) for number in range(5)]
    image = Built(layers)
    folder = write_layout(tmp_path / "layout", (image, "v1"))
    await skopeo("copy", "--dest-tls-verify=false", f"oci:{folder}:v1", f"docker://{registry}/team/app:v1")
    steps: list[tuple[int, int]] = []
    found = await store.pull(f"{registry}/team/app:v1", progress=lambda done, total: steps.append((done, total)))
    assert found.id == image.id
    assert found.repo_tags == (f"{registry}/team/app:v1",)
    assert found.repo_digests == (f"{registry}/team/app@{image.target['digest']}",)
    assert steps[-1][0] == steps[-1][1] == sum(layer["size"] for layer in image.layers)
    assert steps == sorted(steps)
    await store.mount(found.id, "c1", str(root))
    assert len(list(root.iterdir())) == 5
    by_digest = await store.pull(f"{registry}/team/app@{image.target['digest']}")
    assert by_digest.id == image.id
    with pytest.raises(PullFailed) as caught:
        await store.pull(f"{registry}/team/app:v2")
    name = f"{registry}/team/app:v2"
    assert str(caught.value) == (
        f'failed to pull and unpack image "{name}": failed to resolve reference "{name}": {name}: not found'
    )
    assert caught.value.code == "NotFound"


async def test_the_second_pull_asks_only_for_the_digest(store: ImageStore, fake: FakeRegistry) -> None:
    fake.add("app:1", simple())
    await store.pull(f"{fake.address}/app:1")
    fake.requests.clear()
    await store.pull(f"{fake.address}/app:1")
    assert [(verb, path) for verb, path, _ in fake.requests] == [("HEAD", "/v2/app/manifests/1")]


async def test_registries_without_the_digest_header(store: ImageStore, fake: FakeRegistry) -> None:
    image = simple()
    fake.add("app:1", image)
    fake.digest_header = False
    assert (await store.pull(f"{fake.address}/app:1")).id == image.id


async def test_an_index_gives_this_platform(store: ImageStore, fake: FakeRegistry) -> None:
    mine, other = simple("mine"), simple("other")
    native = store.platform.architecture
    foreign = "s390x" if native != "s390x" else "amd64"
    whole = index_of((other, foreign), (mine, native))
    fake.add("app:1", whole)
    found = await store.pull(f"{fake.address}/app:1")
    assert found.id == mine.id
    assert found.repo_digests == (f"{fake.address}/app@{whole.target['digest']}",)
    fake.add("app:2", index_of((other, foreign)))
    with pytest.raises(PullFailed, match="no match for platform in manifest: not found"):
        await store.pull(f"{fake.address}/app:2")


@pytest.mark.parametrize("ranges", [True, False])
async def test_goes_on_where_the_connection_broke(store: ImageStore, fake: FakeRegistry, ranges: bool) -> None:
    image = _big()
    fake.add("app:1", image)
    fake.ranges, fake.break_after = ranges, [2_000_000, 500_000]
    assert (await store.pull(f"{fake.address}/app:1")).id == image.id
    blob = [headers for _, path, headers in fake.requests if path.endswith(image.layers[0]["digest"])]
    assert len(blob) == 3
    assert "Range" not in blob[0] and "Range" in blob[1]


async def test_a_later_pull_goes_on_too(tmp_path: Path, fake: FakeRegistry) -> None:
    image = _big()
    fake.add("app:1", image)
    place = tmp_path / "store"
    first = ImageStore(place)
    fake.break_after = [2_500_000]
    pull = asyncio.create_task(first.pull(f"{fake.address}/app:1"))
    while fake.break_after:
        await asyncio.sleep(0.005)
    pull.cancel()
    await asyncio.gather(pull, return_exceptions=True)
    await first.close()
    fake.requests.clear()
    second = ImageStore(place)
    assert (await second.pull(f"{fake.address}/app:1")).id == image.id
    await second.close()
    assert len([p for p in fake.paths() if p.endswith(image.layers[0]["digest"])]) == 1


async def test_a_corrupt_blob_is_refused(store: ImageStore, fake: FakeRegistry) -> None:
    image = _big()
    fake.add("app:1", image)
    fake.corrupt = {image.layers[0]["digest"]}
    with pytest.raises(
        PullFailed, match=r"unexpected commit digest sha256:[0-9a-f]{64}, expected .*: failed precondition"
    ):
        await store.pull(f"{fake.address}/app:1")
    assert await store.list() == []
    other = simple()
    fake.add("app:1", other)
    fake.corrupt = {other.config["digest"]}
    with pytest.raises(PullFailed, match="unexpected commit digest"):
        await store.pull(f"{fake.address}/app:1")


async def test_a_layer_that_is_not_what_the_configuration_says(store: ImageStore, fake: FakeRegistry) -> None:
    image = simple()
    image.diff_ids[0] = "sha256:" + "0" * 64
    lying = Built.__new__(Built)
    lying.blobs = dict(image.blobs)
    config = image.blobs[image.config["digest"]].replace(simple().diff_ids[0].encode(), image.diff_ids[0].encode())
    lying.config = lying.put(config, image.config["mediaType"])
    manifest = image.blobs[image.target["digest"]].replace(image.id.encode(), lying.config["digest"].encode())
    lying.target = lying.put(manifest, image.target["mediaType"])
    fake.add("app:1", lying)
    with pytest.raises(PullFailed, match=r"failed to extract layer sha256:0+: wrong diff id calculated on extraction"):
        await store.pull(f"{fake.address}/app:1")
    assert os.listdir(f"{store.layout.root}/layers") == []


async def test_busy_registries_are_asked_again(store: ImageStore, fake: FakeRegistry) -> None:
    image = simple()
    fake.add("app:1", image)
    await store.pull(f"{fake.address}/app:1")
    await store.remove(image.id)
    original = fake.handle

    async def busy_after_head(request):  # type: ignore[no-untyped-def]
        if request.method == "HEAD":
            fake.failures = []
            response = await original(request)
            fake.failures = [503, 429]
            return response
        return await original(request)

    fake.handle = busy_after_head  # type: ignore[method-assign]
    async with serving(fake) as address:
        assert (await store.pull(f"{address}/app:1")).id == image.id
    assert fake.failures == []


async def test_rate_limits_are_told(store: ImageStore, fake: FakeRegistry) -> None:
    fake.add("app:1", simple())
    fake.failures = [429]
    with pytest.raises(PullFailed, match=r"unexpected status from HEAD request to http://.*/v2/app/manifests/1: 429"):
        await store.pull(f"{fake.address}/app:1")


async def test_basic_credentials_one_after_the_other(store: ImageStore, fake: FakeRegistry) -> None:
    image = simple()
    fake.add("app:1", image)
    fake.users = {"me": "right"}
    wrong, right = Credentials(username="me", password="wrong"), Credentials(username="me", password="right")
    assert (await store.pull(f"{fake.address}/app:1", (wrong, right))).id == image.id
    with pytest.raises(PullFailed, match="401 Unauthorized"):
        await store.pull(f"{fake.address}/app:1", (wrong,))
    with pytest.raises(PullFailed, match="pull access denied, repository does not exist or may require authorization"):
        await store.pull(f"{fake.address}/app:1")


async def test_tokens(store: ImageStore, fake: FakeRegistry) -> None:
    image = simple()
    fake.add("app:1", image)
    fake.bearer = True
    assert (await store.pull(f"{fake.address}/app:1")).id == image.id
    assert fake.paths().count("/token") == 1
    fake.anonymous_tokens, fake.users = False, {"me": "right"}
    await store.remove(image.id)
    mine = Credentials(username="me", password="right")
    assert (await store.pull(f"{fake.address}/app:1", (mine,))).id == image.id
    wrong = Credentials(username="me", password="wrong")
    with pytest.raises(PullFailed, match=r"failed to authorize: failed to fetch oauth token: .*401 Unauthorized"):
        await store.pull(f"{fake.address}/app:1", (wrong,))
    assert (await store.pull(f"{fake.address}/app:1", (Credentials(identity_token="t"),))).id == image.id
    assert fake.paths("POST") == ["/token"]


async def test_a_token_without_the_right(store: ImageStore, fake: FakeRegistry) -> None:
    fake.bearer = fake.scope_refused = True
    with pytest.raises(PullFailed) as caught:
        await store.pull(f"{fake.address}/private:1")
    assert str(caught.value).endswith(
        "pull access denied, repository does not exist or may require authorization: "
        "server message: insufficient_scope: authorization failed"
    )


async def test_redirected_blobs_do_not_get_the_credentials(store: ImageStore, fake: FakeRegistry) -> None:
    image = simple()
    elsewhere = FakeRegistry()
    elsewhere.add("x:1", image)
    fake.add("app:1", image)
    fake.users = {"me": "right"}
    async with serving(elsewhere) as address:
        fake.blob_host = f"http://localhost:{address.partition(':')[2]}"
        await store.pull(f"{fake.address}/app:1", (Credentials(username="me", password="right"),))
    assert elsewhere.requests
    assert all("Authorization" not in headers for _, _, headers in elsewhere.requests)


async def test_mirrors_first_then_the_registry(tmp_path: Path, fake: FakeRegistry) -> None:
    image = simple()
    fake.add("app:1", image)
    mirror = FakeRegistry()
    async with serving(mirror) as address:
        folder = tmp_path / "certs.d" / fake.address
        folder.mkdir(parents=True)
        (folder / "hosts.toml").write_text(f'server = "http://{fake.address}"\n[host."http://{address}"]\n')
        store = ImageStore(tmp_path / "store", registries=RegistryConfig(tmp_path / "certs.d"))
        assert (await store.pull(f"{fake.address}/app:1")).id == image.id
        assert mirror.requests and fake.requests
        await store.remove(image.id)
        mirror.add("app:1", image)
        fake.requests.clear()
        assert (await store.pull(f"{fake.address}/app:1")).id == image.id
        assert fake.requests == []
        await store.close()


async def test_nobody_listens(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
        store = ImageStore(tmp_path / "store", registries=RegistryConfig(insecure=frozenset({address})))
        with pytest.raises(PullFailed) as caught:
            await store.pull(f"{address}/x:1")
        await store.close()
    assert str(caught.value) == (
        f'failed to pull and unpack image "{address}/x:1": failed to resolve reference "{address}/x:1": '
        f'failed to do request: Head "http://{address}/v2/x/manifests/1": '
        f"dial tcp {address}: connect: connection refused"
    )
    assert caught.value.code == "Unavailable"


async def test_names_that_are_none(store: ImageStore) -> None:
    with pytest.raises(InvalidReference, match="invalid reference format"):
        await store.pull("Not A Name")
