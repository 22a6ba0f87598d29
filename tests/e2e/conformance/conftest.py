"""One cluster of two nodes for all of the folder; a namespace a module, and another for each test that wants one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from podling.cluster.pki import Pki
from tests.e2e.conformance.client import Api, Namespace
from tests.e2e.conformance.pods import AGNHOST, AS_USER, BUSYBOX, ENTRY
from tests.e2e.harness import alone, free_port, kubectls, podling

OPTIONS = ["--name", "duo", "--nodes", "2", "--port", free_port(), "--node-cidr", "10.217.0.0/24"]
OPTIONS += ["--pod-cidr", "10.248.0.0/16", "--service-cidr", "10.100.0.0/16"]
PACKAGES = ("busybox-static", "python3-minimal", "libpython3.11-stdlib", "python3-h2")


def make_images(directory: Path, work: Path) -> None:
    """The stand-in for agnhost, with a certificate for its HTTPS servers, and three of busybox."""
    rootfs = work / "agnhost"
    shutil.copytree(Path(__file__).parent / "agnhost", rootfs)
    pair = Pki(work / "pki").serving("localhost", "localhost", dns=("localhost",))
    shutil.copy(pair.certificate_path, rootfs / "localhost.crt")
    shutil.copy(pair.key_path, rootfs / "localhost.key")
    packages = [word for name in PACKAGES for word in ("--package", name)]
    what = ["--entrypoint", "agnhost", "--cmd", "pause"]
    podling(directory, "image", "create", AGNHOST, *packages, "--dependencies", "--rootfs", str(rootfs), *what)
    for name, *more in (
        (BUSYBOX,),
        (ENTRY, "--entrypoint", "echo", "entry", "--cmd", "from", "the", "image"),
        (AS_USER, "--user", "www-data"),
    ):
        podling(directory, "image", "create", name, "--package", "busybox-static", *more)


@pytest.fixture(scope="session")
def duo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The data directory of a cluster with the nodes duo-1 and duo-2."""
    work = tmp_path_factory.mktemp("duo")
    directory = work / "cluster"
    with alone("duo"):
        try:
            make_images(directory, work)
            podling(directory, "up", *OPTIONS)
            yield directory
        finally:
            podling(directory, "down", "--purge")


@pytest.fixture(scope="session")
def api(duo: Path) -> Api:
    return Api(str(duo / "admin.kubeconfig"))


def _namespace(api: Api, duo: Path) -> Iterator[Namespace]:
    made = Namespace(api, next(iter(kubectls().values())), duo / "admin.kubeconfig")
    made.open()
    yield made
    made.close()


@pytest.fixture(scope="module")
def shared(api: Api, duo: Path) -> Iterator[Namespace]:
    """A namespace for all tests of a module."""
    yield from _namespace(api, duo)


@pytest.fixture
def space(api: Api, duo: Path) -> Iterator[Namespace]:
    """A namespace for one test."""
    yield from _namespace(api, duo)
