"""Who the API server is to webhooks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from apiserver.admission.hooks import ca_bundle
from apiserver.authn.provider import listening
from podling.api.admissionregistration_v1 import WebhookClientConfig
from podling.apiserver import assembly, options
from podling.apiserver.admission.webhook_credentials import Credentials
from podling.apiserver.admission.webhooks_client import Caller
from podling.apiserver.options import OptionError


def kubeconfig(folder: Path, **users: str) -> Path:
    """Tokens by users' names."""
    path = folder / "kubeconfig"
    entries = [{"name": name, "user": {"token": token}} for name, token in users.items()]
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", "users": entries}))
    return path


@pytest.mark.parametrize(
    ("url", "token"),
    [
        ("https://hook.default.svc:443/x", "service"),
        ("https://other.default.svc/x", "namespace"),
        ("https://hook.default.svc:8443/x", "port"),
        ("https://a.b.example.com", "example"),
        ("https://somewhere.else", "all"),
    ],
)
def test_the_most_exact_user_counts(tmp_path: Path, url: str, token: str) -> None:
    users = {
        "hook.default.svc": "service", "hook.default.svc:8443": "port", "*.default.svc": "namespace",
        "*.example.com": "example", "*": "all",
    }  # fmt: skip
    found = Credentials(str(kubeconfig(tmp_path, **users))).of(url)
    assert found is not None and found.token == token


def test_without_a_user_for_it_a_server_is_shown_nothing(tmp_path: Path) -> None:
    assert (
        Credentials(str(kubeconfig(tmp_path, **{"hook.default.svc": "t"}))).of("https://hook.default.svc:8443") is None
    )


async def test_a_webhook_is_shown_the_token(tmp_path: Path) -> None:
    seen: list[str | None] = []

    def answer(request: web.BaseRequest, body: bytes) -> Any:
        seen.append(request.headers.get("Authorization"))
        return {}

    credentials = Credentials(str(kubeconfig(tmp_path, **{"*": "secret"})))
    async with listening(answer) as url:
        for known in (credentials, None):
            caller = Caller(None, known)  # type: ignore[arg-type]
            await caller.call(WebhookClientConfig(url=url, ca_bundle=ca_bundle()), b"{}", 5)
            await caller.close()
    assert seen == ["Bearer secret", None]


@pytest.mark.parametrize(
    ("file", "said"),
    [("", "kubeConfigFile: Required value"), ("relative", "write an absolute path"), ("/nowhere", "cannot read")],
)
def test_configurations_that_can_not_be_used(tmp_path: Path, file: str, said: str) -> None:
    document = {
        "apiVersion": "apiserver.config.k8s.io/v1", "kind": "WebhookAdmissionConfiguration", "kubeConfigFile": file,
    }  # fmt: skip
    path = tmp_path / "admission.yaml"
    plugins = [{"name": "ValidatingAdmissionWebhook", "configuration": document}]
    path.write_text(
        json.dumps({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AdmissionConfiguration", "plugins": plugins})
    )
    with pytest.raises(OptionError, match=said):
        assembly.check(options.parse([f"admission-control-config-file={path}"]))
