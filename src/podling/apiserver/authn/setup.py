"""Authentication as the options say: which kinds of tokens there are, and what is read again when its file changes."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

from podling import log
from podling.apiserver.authn import metrics
from podling.apiserver.authn.authenticator import PUBLIC_PATHS, Anonymous, Authenticator
from podling.apiserver.authn.lookup import Lookup
from podling.apiserver.authn.service_accounts import TokenValidator
from podling.apiserver.authn.tokens import Later, Tokens
from podling.apiserver.options import OptionError, Options

LOG = log.get(__name__)


class Authentication:
    """The authenticator, and what keeps it up to date. `start` on the event loop, `close` at the end."""

    def __init__(
        self,
        options: Options,
        lookup: Lookup,
        accounts: TokenValidator,
        *,
        issuer: str,
        audiences: tuple[str, ...],
        client_ca: bytes = b"",
    ) -> None:
        self._options = options
        self._disallowed = (issuer,)
        self._audiences = audiences
        self._task: asyncio.Task[None] | None = None
        self._issuers: list[Any] = []
        self._webhook: Any = None
        static = None
        if options.token_auth_file:
            from podling.apiserver.authn import token_file

            static = token_file.load(options.token_auth_file)
        tokens = Tokens(lookup, accounts, audiences=audiences, static=static)
        proxy = _front_proxy(options, client_ca) if options.requestheader_client_ca_file else None
        self.authenticator = Authenticator(tokens, anonymous=Anonymous(options.anonymous_auth), front_proxy=proxy)
        if options.authentication_token_webhook_config_file:
            self._webhook = _token_webhook(options, audiences)
        if options.authentication_config:
            from podling.apiserver.authn import authentication_check

            self._use(authentication_check.load(options.authentication_config, self._disallowed))
        elif options.oidc_issuer_url:
            from podling.apiserver.authn import oidc_flags

            self._use(oidc_flags.configuration(options), oidc_flags.algorithms(options))
        else:
            self._replace([])

    def start(self) -> None:
        if self._options.authentication_config:
            self._task = asyncio.create_task(self._follow(), name="authentication configuration")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        for kind in (*self._issuers, *([self._webhook] if self._webhook is not None else [])):
            await kind.close()

    def _use(self, config: Any, algorithms: tuple[str, ...] = ()) -> None:
        """Authenticate by an AuthenticationConfiguration from now on."""
        from podling.apiserver.authn.jwt_issuer import ALGORITHMS, JwtIssuer

        self._replace([JwtIssuer(j, self._audiences, algorithms=algorithms or ALGORITHMS) for j in config.jwt])
        if config.anonymous is not None:
            paths = frozenset(c.path for c in config.anonymous.conditions)
            self.authenticator.anonymous = Anonymous(config.anonymous.enabled, paths)
        else:
            self.authenticator.anonymous = Anonymous(self._options.anonymous_auth, PUBLIC_PATHS)

    def _replace(self, issuers: list[Any]) -> None:
        self._issuers = issuers
        more: list[Later] = [*issuers]
        if self._webhook is not None:
            more.append(self._webhook)
        self.authenticator.tokens.more = more

    async def _follow(self) -> None:
        """Read the configuration again when its file changes; one that can't be used changes nothing."""
        from podling.apiserver.authn import authentication_check
        from podling.file_watch import contents

        path = self._options.authentication_config
        async for _ in contents(path):
            try:
                config = authentication_check.load(path, self._disallowed)
            except ValueError as error:
                metrics.reloaded(good=False)
                LOG.error("the authentication configuration is not taken over: %s", error)
                continue
            before = self._issuers
            self._use(config)
            for issuer in before:
                await issuer.close()
            metrics.reloaded(good=True)
            LOG.info("reloaded authentication config")


def _front_proxy(options: Options, client_ca: bytes) -> Any:
    from podling.apiserver.authn.request_header import FrontProxy

    return FrontProxy(
        Path(options.requestheader_client_ca_file).read_bytes(),
        client_ca,
        allowed_names=options.requestheader_allowed_names,
        user_headers=options.requestheader_username_headers,
        uid_headers=options.requestheader_uid_headers,
        group_headers=options.requestheader_group_headers,
        extra_prefixes=options.requestheader_extra_headers_prefix,
    )


def _token_webhook(options: Options, audiences: tuple[str, ...]) -> Any:
    from podling.apiserver.authn.token_webhook import TokenWebhook
    from podling.apiserver.remote_review import RemoteReview
    from podling.client import kubeconfig

    remote = RemoteReview(kubeconfig.load(options.authentication_token_webhook_config_file))
    return TokenWebhook(
        remote,
        audiences,
        version=options.authentication_token_webhook_version,
        seconds=options.authentication_token_webhook_cache_ttl,
    )


def check(options: Options) -> None:
    """OptionError if authentication can't be set up so."""
    if options.authentication_config and options.oidc_issuer_url:
        raise OptionError("authentication-config file and oidc-* flags are mutually exclusive")
    if bool(options.oidc_issuer_url) != bool(options.oidc_client_id):
        what = "must be specified together when any oidc-* flags are set"
        raise OptionError(f"oidc-issuer-url and oidc-client-id {what}")
    if options.authentication_token_webhook_version not in ("v1", "v1beta1"):
        raise OptionError("authentication-token-webhook-version must be v1 or v1beta1")
    if options.requestheader_client_ca_file and not options.requestheader_username_headers:
        raise OptionError("requestheader-client-ca-file needs requestheader-username-headers: write X-Remote-User")
    try:
        _read_all(options)
    except OptionError:
        raise
    except (OSError, ValueError) as error:
        raise OptionError(str(error)) from None


def _read_all(options: Options) -> None:
    """Whatever there is of files. Raises OSError, ValueError."""
    from podling.client import kubeconfig

    if options.token_auth_file:
        from podling.apiserver.authn import token_file

        token_file.load(options.token_auth_file)
    if options.requestheader_client_ca_file:
        _front_proxy(options, Path(options.requestheader_client_ca_file).read_bytes())
    if options.authentication_token_webhook_config_file:
        try:
            kubeconfig.load(options.authentication_token_webhook_config_file)
        except kubeconfig.KubeconfigError as error:
            raise OptionError(f"authentication-token-webhook-config-file: {error}") from None
    if options.authentication_config:
        from podling.apiserver.authn import authentication_check

        config = authentication_check.load(options.authentication_config, ())
        if config.anonymous is not None and not options.anonymous_auth:
            what = "flag cannot be set when anonymous field is configured in authentication configuration file"
            raise OptionError(f"--anonymous-auth {what}")
    if options.oidc_issuer_url:
        from podling.apiserver import config_file
        from podling.apiserver.authn import authentication_check, oidc_flags

        oidc_flags.algorithms(options)
        config_file.raise_for(authentication_check.findings(oidc_flags.configuration(options)))
