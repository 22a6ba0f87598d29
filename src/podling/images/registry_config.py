"""Where images of a registry are really fetched: mirrors, plain http, certificate authorities.

The files are containerd's (`certs.d/<registry host>/hosts.toml`), so that what people have already works:

    server = "https://registry.example.com"
    [host."http://mirror.internal:5000"]
      capabilities = ["pull", "resolve"]
      skip_verify = true
      ca = "/etc/ssl/mirror.pem"
"""

from __future__ import annotations

import ipaddress
import tomllib
from pathlib import Path
from typing import Any

import msgspec

from podling.images.base import ImageError

_HUB = "docker.io"
_HUB_ENDPOINT = "https://registry-1.docker.io"


class InvalidRegistryConfig(ImageError):
    """A hosts.toml cannot be read."""


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A server to ask, as `https://host[:port]`; `base` is where its API stands (`/v2` unless overridden).

    `ca` are files of PEM certificates that are trusted besides the system's. `plain_guess` is plain http that nobody
    configured: if TLS is spoken there, the next endpoint is right.
    """

    url: str
    base: str = "/v2"
    resolve: bool = True
    skip_verify: bool = False
    ca: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    mirror: bool = False
    plain_guess: bool = False


class RegistryConfig:
    """Endpoints by registry host. `insecure` hosts are spoken to in plain http, as are loopback addresses."""

    def __init__(self, directory: Path | None = None, insecure: frozenset[str] = frozenset()) -> None:
        self._directory = directory
        self._insecure = insecure

    def endpoints(self, domain: str) -> tuple[Endpoint, ...]:
        """What to try for images of `domain`, in order; the registry itself comes last."""
        configured = self._configured(domain)
        return configured if configured is not None else self._default(domain)

    def _default(self, domain: str) -> tuple[Endpoint, ...]:
        if domain == _HUB:
            return (Endpoint(url=_HUB_ENDPOINT),)
        if domain in self._insecure:
            return (Endpoint(url=f"http://{domain}"),)
        if is_loopback(domain):
            return (Endpoint(url=f"http://{domain}", plain_guess=True), Endpoint(url=f"https://{domain}"))
        return (Endpoint(url=f"https://{domain}"),)

    def _configured(self, domain: str) -> tuple[Endpoint, ...] | None:
        if self._directory is None:
            return None
        for name in (domain, domain.replace(":", "_") + "_", "_default"):
            path = self._directory / name / "hosts.toml"
            try:
                document = tomllib.loads(path.read_text())
            except FileNotFoundError:
                continue
            except (OSError, ValueError) as error:
                raise InvalidRegistryConfig(f"{path} is no valid registry configuration: {error}") from None
            return self._of_document(document, domain, path)
        return None

    def _of_document(self, document: dict[str, Any], domain: str, path: Path) -> tuple[Endpoint, ...]:
        mirrors = [
            _endpoint(url, table, path, mirror=True)
            for url, table in (document.get("host") or {}).items()
            if "pull" in table.get("capabilities", ("pull", "resolve"))
        ]
        server = document.get("server")
        last = (_endpoint(server, document, path, mirror=False),) if server else self._default(domain)
        return (*mirrors, *last)


def _endpoint(url: str, table: dict[str, Any], path: Path, *, mirror: bool) -> Endpoint:
    if "://" not in url:
        url = f"https://{url}"
    scheme, _, rest = url.partition("://")
    host, _, base = rest.rstrip("/").partition("/")
    if scheme not in ("http", "https") or not host:
        raise InvalidRegistryConfig(f"{path}: {url!r} is no http or https address")
    prefix = f"/{base}" if base else ""
    if not table.get("override_path") and not prefix.endswith("/v2"):
        prefix += "/v2"
    ca = table.get("ca") or ()
    return Endpoint(
        url=f"{scheme}://{host}",
        base=prefix,
        resolve="resolve" in table.get("capabilities", ("pull", "resolve")),
        skip_verify=bool(table.get("skip_verify")),
        ca=tuple(str(path.parent / file) for file in ([ca] if isinstance(ca, str) else ca)),
        headers=tuple((k, v) for k, v in (table.get("header") or {}).items() if isinstance(v, str)),
        mirror=mirror,
    )


def is_loopback(domain: str) -> bool:
    """Whether a registry's host[:port] is this machine itself."""
    host = domain[1:].partition("]")[0] if domain.startswith("[") else domain.partition(":")[0]
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
