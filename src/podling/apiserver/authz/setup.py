"""Authorization as the options say, where that is something else than Node and RBAC."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable

from podling import log
from podling.apiserver.authz import metrics
from podling.apiserver.authz.attributes import Attributes, Authorize, Decision, Verdict
from podling.apiserver.authz.authorization_config import (
    AuthorizerConfig,
    Configuration,
    Connection,
    Webhook,
    findings,
    load,
)
from podling.apiserver.authz.authorizer import Authorizer
from podling.apiserver.authz.union import Union
from podling.apiserver.authz.webhook import WebhookAuthorizer
from podling.apiserver.options import OptionError, Options
from podling.apiserver.remote_review import RemoteReview

LOG = log.get(__name__)

#: The modes that need none of this.
DEFAULT = ["Node", "RBAC"]
_EVERYTHING_ALLOWED = Decision(True)
_EVERYTHING_DENIED = Decision(False, "Everything is forbidden.")


class Modes:
    """The authorizers of a configuration, around the Node and RBAC authorizers of `base`."""

    def __init__(self, options: Options, base: Authorizer) -> None:
        self._options = options
        self._base = base
        self._webhooks: list[WebhookAuthorizer] = []
        self._task: asyncio.Task[None] | None = None
        self._use(configuration(options))

    def start(self) -> None:
        if self._options.authorization_config:
            self._task = asyncio.create_task(self._follow(), name="authorization configuration")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        for webhook in self._webhooks:
            await webhook.close()

    def _use(self, config: Configuration) -> None:
        webhooks: list[WebhookAuthorizer] = []
        members = [counted(self._member(a, webhooks), a) for a in config.authorizers]
        self._webhooks = webhooks
        self._base.use(Union(members).authorize, [a.type for a in config.authorizers])

    def _member(self, config: AuthorizerConfig, webhooks: list[WebhookAuthorizer]) -> Authorize:
        if config.type == "Node":
            return self._base.node.authorize
        if config.type == "RBAC":
            return self._base.rbac.authorize
        if config.type == "AlwaysAllow":
            return lambda attributes: _EVERYTHING_ALLOWED
        if config.type == "AlwaysDeny":
            return lambda attributes: _EVERYTHING_DENIED
        if config.type == "ABAC":
            from podling.apiserver.authz import abac

            return abac.Abac(abac.load(self._options.authorization_policy_file)).authorize
        from podling.client import kubeconfig

        assert config.webhook is not None
        remote = RemoteReview(kubeconfig.load(config.webhook.connection_info.kube_config_file))
        webhook = WebhookAuthorizer(config.webhook, remote, name=config.name)
        webhooks.append(webhook)
        return webhook.authorize

    async def _follow(self) -> None:
        """Read the configuration again when its file changes; one that can't be used changes nothing."""
        from podling.file_watch import contents

        path = self._options.authorization_config
        async for _ in contents(path):
            before = self._webhooks
            try:
                config = load(path)
                _check_reload(config)
                self._use(config)
            except (OSError, ValueError, OptionError) as error:
                metrics.reloaded(good=False)
                LOG.error("the authorization configuration is not taken over: %s", error)
                continue
            for webhook in before:
                await webhook.close()
            metrics.reloaded(good=True)
            LOG.info("reloaded authz config")


def counted(authorize: Authorize, config: AuthorizerConfig) -> Authorize:
    """An authorizer whose decisions are counted, but for those that leave it to others."""
    allowed, denied = metrics.allowing(config.type, config.name), metrics.denying(config.type, config.name)

    def count(decision: Decision) -> Decision:
        if decision.allowed:
            allowed.value += 1
        elif decision.denied:
            denied.value += 1
        return decision

    async def later(pending: Awaitable[Decision]) -> Decision:
        return count(await pending)

    def judge(attributes: Attributes) -> Verdict:
        verdict = authorize(attributes)
        return count(verdict) if isinstance(verdict, Decision) else later(verdict)

    return judge


def _check_reload(config: Configuration) -> None:
    """The kubeconfigs of webhooks can be read. Raises OptionError."""
    from podling.client import kubeconfig

    for authorizer in config.authorizers:
        if authorizer.webhook is not None:
            try:
                kubeconfig.load(authorizer.webhook.connection_info.kube_config_file)
            except (kubeconfig.KubeconfigError, ValueError) as error:
                raise OptionError(str(error)) from None


def configuration(options: Options) -> Configuration:
    """Raises ValueError and OSError."""
    if options.authorization_config:
        return load(options.authorization_config)
    authorizers = []
    for mode in options.authorization_mode:
        webhook = _webhook(options) if mode == "Webhook" else None
        authorizers.append(AuthorizerConfig(type=mode, name=mode.lower(), webhook=webhook))
    return Configuration(authorizers=authorizers)


def _webhook(options: Options) -> Webhook:
    return Webhook(
        authorized_ttl=f"{options.authorization_webhook_cache_authorized_ttl}s",
        cache_authorized_requests=options.authorization_webhook_cache_authorized_ttl > 0,
        unauthorized_ttl=f"{options.authorization_webhook_cache_unauthorized_ttl}s",
        cache_unauthorized_requests=options.authorization_webhook_cache_unauthorized_ttl > 0,
        timeout="30s",
        subject_access_review_version=options.authorization_webhook_version,
        failure_policy="NoOpinion",
        connection_info=Connection(type="KubeConfigFile", kube_config_file=options.authorization_webhook_config_file),
    )


def check(options: Options) -> None:
    """OptionError if authorization can't be set up so."""
    modes = options.authorization_mode
    if options.authorization_config:
        webhook = options.authorization_webhook_config_file
        if modes != DEFAULT or webhook:
            other = "authorization-webhook-config-file" if webhook else "authorization-mode"
            raise OptionError(f"--authorization-config can not be specified when --{other} is")
    elif not modes:
        raise OptionError("at least one authorization-mode must be passed")
    if "Webhook" in modes and not options.authorization_webhook_config_file:
        raise OptionError("authorization-mode Webhook needs authorization-webhook-config-file")
    if options.authorization_webhook_config_file and "Webhook" not in modes:
        what = "cannot specify --authorization-webhook-config-file without mode Webhook"
        raise OptionError(what)
    try:
        config = configuration(options)
        if not options.authorization_config and (wrong := _findings(config)):
            raise OptionError(wrong)
        if any(a.type == "ABAC" for a in config.authorizers):
            from podling.apiserver.authz import abac

            if not options.authorization_policy_file:
                raise OptionError("authorization-mode ABAC needs authorization-policy-file")
            abac.load(options.authorization_policy_file)
        _check_reload(config)
    except (OSError, ValueError) as error:
        raise OptionError(str(error)) from None


def _findings(config: Configuration) -> str:
    """What is wrong with the modes that flags name; zero durations mean that nothing is kept."""
    for authorizer in config.authorizers:
        if authorizer.webhook is not None:
            version = authorizer.webhook.subject_access_review_version
            if version not in ("v1", "v1beta1"):
                return "authorization-webhook-version must be v1 or v1beta1"
    plain = [a if a.webhook is None else AuthorizerConfig(type="AlwaysDeny", name=a.name) for a in config.authorizers]
    found = findings(Configuration(authorizers=plain))
    return f"authorization-mode: {found[0]}" if found else ""
