"""Secrets: what each well-known type must contain."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Any

import msgspec

from podling.api import core_v1, names
from podling.apiserver.resources import printing
from podling.apiserver.resources.core.configmap import LIMIT, decoded_size, immutability
from podling.apiserver.strategy import Context, Strategy
from podling.machinery.validation import Findings, Path, each, immutable, invalid, required, too_long

_DATA = Path("data")
_ACCOUNT = "kubernetes.io/service-account.name"
_DOCKER = {"kubernetes.io/dockercfg": ".dockercfg", "kubernetes.io/dockerconfigjson": ".dockerconfigjson"}


class SecretStrategy(Strategy[core_v1.Secret]):
    selectable_fields = ("type",)
    columns = (printing.NAME, printing.text("Type"), printing.text("Data"), printing.AGE)

    def default(self, obj: core_v1.Secret) -> None:
        obj.type = obj.type or "Opaque"
        if obj.string_data:
            # Only for writing: plain text that is stored with the rest.
            encoded = {k: base64.b64encode(v.encode()).decode() for k, v in obj.string_data.items()}
            obj.data = {**(obj.data or {}), **encoded}
        obj.string_data = None

    def validate(self, obj: core_v1.Secret) -> Findings:
        found: Findings = []
        data = obj.data or {}
        for key in data:
            found += each(_DATA.key(key), key, names.config_map_key(key))
        if sum(map(decoded_size, data.values())) > LIMIT:
            found.append(too_long(_DATA, LIMIT))
        return found + _by_type(obj, data)

    def prepare_update(self, new: core_v1.Secret, old: core_v1.Secret, context: Context) -> None:
        # An update that leaves the type out keeps it.
        if new.type == "Opaque" and old.type and old.type != "Opaque":
            new.type = old.type

    def validate_update(self, new: core_v1.Secret, old: core_v1.Secret) -> Findings:
        found = immutable(new.type, old.type, Path("type"))
        return found + immutability(new, old, {"data": "data"}) + self.validate(new)

    def fields(self, obj: core_v1.Secret) -> dict[str, str]:
        return {"type": obj.type or ""}

    def row(self, obj: core_v1.Secret, now: datetime) -> list[Any]:
        return [printing.name(obj.metadata), obj.type or "", len(obj.data or ()), printing.age(obj.metadata, now)]


def _by_type(secret: core_v1.Secret, data: dict[str, str]) -> Findings:
    match secret.type:
        case "kubernetes.io/service-account-token":
            if not (secret.metadata.annotations or {}).get(_ACCOUNT):
                return [required(Path("metadata").child("annotations").key(_ACCOUNT))]
        case "kubernetes.io/dockercfg" | "kubernetes.io/dockerconfigjson":
            key = _DOCKER[secret.type]
            if key not in data:
                return [required(_DATA.key(key))]
            try:
                msgspec.json.decode(base64.b64decode(data[key]), type=dict)
            except (msgspec.DecodeError, ValueError) as error:
                return [invalid(_DATA.key(key), "<secret contents redacted>", str(error))]
        case "kubernetes.io/basic-auth":
            if "username" not in data and "password" not in data:
                return [required(_DATA.key("username")), required(_DATA.key("password"))]
        case "kubernetes.io/ssh-auth":
            if not data.get("ssh-privatekey"):
                return [required(_DATA.key("ssh-privatekey"))]
        case "kubernetes.io/tls":
            return [required(_DATA.key(key)) for key in ("tls.crt", "tls.key") if key not in data]
    return []
