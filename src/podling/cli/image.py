"""`podling image`: images without a registry, and with one. Works while the cluster runs and while it doesn't."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from podling.cluster import lifecycle
from podling.images.base import Credentials, ImageConfig, ImageError, ImageNotFound
from podling.images.store import ImageStore


def configure(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)

    def verb(name: str, text: str) -> argparse.ArgumentParser:
        made = verbs.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        # After the verb as well as before it; a default here would hide the one given before.
        made.add_argument("--data-dir", type=Path, default=argparse.SUPPRESS, metavar="DIR", help=argparse.SUPPRESS)
        return made

    pull = verb("pull", "fetch images from their registry")
    pull.add_argument("references", nargs="+", metavar="IMAGE")
    pull.add_argument("--user", help="name:password for the registry")
    pull.add_argument("--insecure", action="store_true", help="the registry has no TLS, or a certificate nobody knows")
    load = verb("import", "take images from docker or OCI archives")
    load.add_argument("archives", nargs="+", metavar="ARCHIVE", help="a file or directory, or - for standard input")
    load.add_argument("--name", default="", help="the name of an image that the archive does not name")
    create = verb("create", "make an image from a directory, a tar archive or Debian packages")
    create.add_argument("reference", metavar="IMAGE")
    create.add_argument(
        "--rootfs", metavar="PATH", help="a directory or tar archive with the root file system, laid over the packages"
    )
    create.add_argument("--package", action="append", metavar="NAME", help="a Debian package (repeatable)")
    create.add_argument("--dependencies", action="store_true", help="the packages' dependencies as well")
    create.add_argument("--entrypoint", nargs="+", default=[], metavar="WORD")
    create.add_argument("--cmd", nargs="+", default=[], metavar="WORD")
    create.add_argument("--env", action="append", default=[], metavar="NAME=VALUE")
    create.add_argument("--user", default="", help="who runs in it")
    create.add_argument("--workdir", default="", help="where it runs")
    verb("list", "show the images")
    remove = verb("remove", "forget images")
    remove.add_argument("references", nargs="+", metavar="IMAGE")
    exists = verb("exists", "exit 0 if the image is here, 1 if not; say nothing")
    exists.add_argument("reference", metavar="IMAGE")


def run(arguments: argparse.Namespace) -> int:
    return asyncio.run(_run(arguments))


async def _run(arguments: argparse.Namespace) -> int:
    paths = lifecycle.find(arguments.data_dir)
    store = open_store(paths.images, insecure=getattr(arguments, "insecure", False), names=_references(arguments))
    try:
        return await _VERBS[arguments.verb](store, arguments)
    finally:
        await store.close()


def _references(arguments: argparse.Namespace) -> list[str]:
    return list(getattr(arguments, "references", ()))


def open_store(path: Path, *, insecure: bool, names: list[str]) -> ImageStore:
    """The image store; with `insecure`, the registries of `names` are asked without TLS."""
    from podling.images.reference import parse
    from podling.images.registry_config import RegistryConfig

    hosts = frozenset(parse(name).domain for name in names) if insecure else frozenset()
    return ImageStore(str(path), registries=RegistryConfig(insecure=hosts))


async def _pull(store: ImageStore, arguments: argparse.Namespace) -> int:
    credentials: tuple[Credentials, ...] = ()
    if arguments.user:
        name, _, password = arguments.user.partition(":")
        credentials = (Credentials(username=name, password=password),)
    for reference in arguments.references:
        image = await store.pull(reference, credentials, _progress(reference))
        print(f"\r{reference}: {image.id} ({_size(image.size)})")
    return 0


def _progress(reference: str) -> Callable[[int, int], None] | None:
    if not sys.stderr.isatty():
        return None

    def show(done: int, total: int) -> None:
        of = f" of {_size(total)}" if total else ""
        print(f"\r{reference}: {_size(done)}{of}   ", end="", file=sys.stderr, flush=True)

    return show


async def _import(store: ImageStore, arguments: argparse.Namespace) -> int:
    from podling.images.archive import import_archive

    for archive in arguments.archives:
        path = "/dev/stdin" if archive == "-" else archive
        for image in await import_archive(store, path, arguments.name):
            print(f"{', '.join(image.repo_tags) or image.id} ({_size(image.size)})")
    return 0


async def _create(store: ImageStore, arguments: argparse.Namespace) -> int:
    from podling.images import build

    config = ImageConfig(
        entrypoint=tuple(arguments.entrypoint),
        cmd=tuple(arguments.cmd),
        env=tuple(arguments.env),
        user=arguments.user,
        working_dir=arguments.workdir,
    )
    rootfs, names = arguments.rootfs or "", arguments.package
    if names:
        image = await build.create_from_packages(
            store, arguments.reference, names, config, dependencies=arguments.dependencies, rootfs=rootfs
        )
    elif rootfs:
        image = await build.create_from_rootfs(store, arguments.reference, rootfs, config)
    else:
        raise ImageError("an image is made of --rootfs PATH, of --package NAME, or of both")
    print(f"{arguments.reference}: {image.id} ({_size(image.size)})")
    return 0


async def _list(store: ImageStore, arguments: argparse.Namespace) -> int:
    rows = [("IMAGE", "ID", "SIZE")]
    for image in await store.list():
        names = image.repo_tags or image.repo_digests or ("<none>",)
        rows += [(name, image.id.removeprefix("sha256:")[:12], _size(image.size)) for name in names]
    widths = [max(len(row[n]) for row in rows) for n in range(2)]
    for row in rows:
        print(f"{row[0]:{widths[0]}}  {row[1]:{widths[1]}}  {row[2]}")
    return 0


async def _remove(store: ImageStore, arguments: argparse.Namespace) -> int:
    for reference in arguments.references:
        if await store.status(reference) is None:
            raise ImageNotFound(f"there is no image {reference}: `podling image list` shows those that are")
        await store.remove(reference)
        print(f"removed {reference}")
    return 0


async def _exists(store: ImageStore, arguments: argparse.Namespace) -> int:
    return 0 if await store.status(arguments.reference) is not None else 1


_VERBS: dict[str, Callable[[ImageStore, argparse.Namespace], Awaitable[int]]] = {
    "pull": _pull,
    "import": _import,
    "create": _create,
    "list": _list,
    "remove": _remove,
    "exists": _exists,
}


def _size(count: int) -> str:
    """`1.9 MB`."""
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"
