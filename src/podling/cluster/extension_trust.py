"""The ConfigMap extension-apiserver-authentication: where extension API servers read whom to believe.

What stands there stays, and what is missing is added: another API server of the cluster may have another CA. Source:
kube-apiserver's clusterauthenticationtrust controller.
"""

from __future__ import annotations

import json

from podling.api import core_v1, errors, meta_v1
from podling.api.struct import clone
from podling.apiserver.options import Options
from podling.client.base import Client
from podling.cluster.certificates import FRONT_PROXY

NAME, NAMESPACE = "extension-apiserver-authentication", "kube-system"

_CLIENT_CA, _PROXY_CA = "client-ca-file", "requestheader-client-ca-file"
_ALLOWED = "requestheader-allowed-names"
_END = "-----END CERTIFICATE-----\n"


def required(ca: bytes, front_proxy_ca: bytes, options: Options) -> dict[str, str]:
    """What this cluster's API server has to stand there for. The CAs are PEM."""
    other = b""
    allowed = [FRONT_PROXY]
    if options.requestheader_client_ca_file:
        with open(options.requestheader_client_ca_file, "rb") as file:
            other = file.read()
        # An empty list is everybody whom the CA knows.
        allowed = [*options.requestheader_allowed_names, FRONT_PROXY] if options.requestheader_allowed_names else []
    lists = {
        _ALLOWED: allowed,
        "requestheader-extra-headers-prefix": ["X-Remote-Extra-", *options.requestheader_extra_headers_prefix],
        "requestheader-group-headers": ["X-Remote-Group", *options.requestheader_group_headers],
        "requestheader-uid-headers": ["X-Remote-Uid", *options.requestheader_uid_headers],
        "requestheader-username-headers": ["X-Remote-User", *options.requestheader_username_headers],
    }
    return {
        _CLIENT_CA: ca.decode(),
        _PROXY_CA: _with_certificates(front_proxy_ca.decode(), other.decode()),
        **{key: json.dumps(list(dict.fromkeys(values))) for key, values in lists.items()},
    }


def combined(there: dict[str, str], wanted: dict[str, str]) -> dict[str, str]:
    """What stands there with all that is wanted."""
    result = dict(there)
    for key, value in wanted.items():
        if key in (_CLIENT_CA, _PROXY_CA):
            result[key] = _with_certificates(there.get(key, ""), value)
        else:
            result[key] = json.dumps(_with_names(there.get(key, ""), json.loads(value), key))
    return result


def _with_certificates(there: str, wanted: str) -> str:
    found = dict.fromkeys([*_certificates(there), *_certificates(wanted)])
    return "".join(found)


def _certificates(bundle: str) -> list[str]:
    return [f"{part.strip()}\n{_END}" for part in bundle.replace("\r\n", "\n").split(_END.strip()) if part.strip()]


def _with_names(there: str, wanted: list[str], key: str) -> list[str]:
    try:
        known = json.loads(there) if there else wanted
    except ValueError:
        known = []
    if not isinstance(known, list):
        known = []
    if key == _ALLOWED and not (known and wanted):
        # Everybody is more than some.
        return []
    return list(dict.fromkeys([*known, *wanted]))


async def publish(client: Client, ca: bytes, front_proxy_ca: bytes, options: Options) -> None:
    """Make the ConfigMap, or add to it what is missing."""
    wanted = required(ca, front_proxy_ca, options)
    try:
        there = await client.get(core_v1.ConfigMap, NAME, NAMESPACE)
    except errors.StatusError as error:
        if not errors.is_not_found(error):
            raise
        meta = meta_v1.ObjectMeta(name=NAME, namespace=NAMESPACE)
        await client.create(core_v1.ConfigMap(metadata=meta, data=wanted))
        return
    data = combined(there.data or {}, wanted)
    if data != there.data:
        changed = clone(there)
        changed.data = data
        await client.update(changed)
