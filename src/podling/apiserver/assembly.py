"""The API server put together: who may ask, what is admitted, which virtual resources and documents are answered.

`ApiServer` knows none of the parts that are wired here; this module is the only one that knows them all.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from podling.api import core_v1, registry
from podling.api.errors import StatusError
from podling.api.request import Request, User
from podling.apiserver import features
from podling.apiserver.admission import default
from podling.apiserver.admission.default import default_chain
from podling.apiserver.admission.node_restriction import NodeRestriction
from podling.apiserver.aggregation.aggregator import Aggregator
from podling.apiserver.aggregation.registration import Registration
from podling.apiserver.answer import Answer
from podling.apiserver.app import ApiServer
from podling.apiserver.authn import setup as authn_setup
from podling.apiserver.authn.impersonation import Impersonation
from podling.apiserver.authn.legacy_token_uses import LegacyTokenUses
from podling.apiserver.authn.service_accounts import TokenIssuer, TokenValidator
from podling.apiserver.authn.setup import Authentication
from podling.apiserver.authz.authorizer import Authorizer
from podling.apiserver.authz.escalation_plugin import EscalationCheck
from podling.apiserver.authz.reviews import Reviews
from podling.apiserver.cache import ROOT
from podling.apiserver.crd.loading import CustomResources
from podling.apiserver.entry import Change, Entry
from podling.apiserver.event_ttl import EventTtl
from podling.apiserver.flowcontrol import setup as flowcontrol
from podling.apiserver.flowcontrol.limiter import Limiter
from podling.apiserver.handlers.kubelets import Kubelets, client_tls
from podling.apiserver.handlers.streaming import Streaming
from podling.apiserver.handlers.subresources import reviewing
from podling.apiserver.legacy_token_tracking import LegacyTokenTracking
from podling.apiserver.options import OptionError, Options
from podling.apiserver.request_info import RequestInfo
from podling.apiserver.resources.core.service import ServiceStrategy
from podling.apiserver.service_ranges import ServiceRanges
from podling.apiserver.usage import NodeUsages
from podling.apiserver.watch import Scope, Watch
from podling.store.base import Store

if TYPE_CHECKING:
    from podling.apiserver.authz.setup import Modes
    from podling.apiserver.encryption.setup import AtRest


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What a cluster decides for its API server. Without a signing key there are no tokens and no authentication."""

    service_cidr: str = "10.96.0.0/16"
    node_port_range: str = "30000-32767"
    signing_key: bytes = b""
    issuer: str = "https://kubernetes.default.svc.cluster.local"
    #: Gives the files of the certificate and key that are shown to aggregated API servers; asked when there are some.
    proxy_client: Callable[[], tuple[str, str] | None] = lambda: None
    #: Whose client certificates are users' (PEM).
    client_ca: bytes = b""
    #: What the administrator has set.
    options: Options = Options()


def check(options: Options) -> None:
    """Read all that the options name, as the API server will at its start. Raises OptionError in one sentence."""
    default.check(options)
    authn_setup.check(options)
    if options.proxy_client_cert_file or options.proxy_client_key_file:
        _check_proxy_client(options)
    if options.authorization_mode != Options().authorization_mode or options.authorization_config:
        from podling.apiserver.authz import setup as authz_setup

        authz_setup.check(options)
    flowcontrol.check(options)
    if options.audit_log_path or options.audit_webhook_config_file or options.audit_policy_file:
        # Here, since an API server that records nothing need not load it.
        from podling.apiserver.audit import setup

        setup.check(options)
    if options.encryption_provider_config or options.encryption_provider_config_automatic_reload:
        from podling.apiserver.encryption import setup as encryption

        encryption.check(options)


def _proxy_client(settings: Settings) -> Callable[[], tuple[str, str] | None]:
    """Where the certificate is by which aggregated API servers know this one: the administrator's or the cluster's."""
    named = settings.options.proxy_client_cert_file, settings.options.proxy_client_key_file
    return (lambda: named) if all(named) else settings.proxy_client


def _check_proxy_client(options: Options) -> None:
    import ssl

    certificate, key = options.proxy_client_cert_file, options.proxy_client_key_file
    if not (certificate and key):
        raise OptionError("proxy-client-cert-file and proxy-client-key-file must be specified together")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise OptionError(f"proxy-client-cert-file {certificate} and proxy-client-key-file {key}: {error}") from None


class _Cached:
    """`authn.lookup.Lookup` over the watch cache."""

    def __init__(self, app: ApiServer) -> None:
        self._app = app

    def get(self, resource: str, namespace: str, name: str) -> Any | None:
        return self._app.cached("", resource, f"{namespace}/{name}" if namespace else name)


class Assembly:
    """An API server with its authenticator and authorizer. `start` when the store is open."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._at_rest = _at_rest(store, settings.options)
        self.app = ApiServer(self._at_rest.store if self._at_rest is not None else store)
        self.app.cbor = features.enabled(settings.options.feature_gates, features.CBOR)
        self.app.min_request_timeout = settings.options.min_request_timeout
        self.app.health.grace = settings.options.livez_grace_period
        self.settings = settings
        self._flow = flowcontrol.FlowControl(self.app, settings.options, self.app.metrics, hook=self.app.health.hook)
        self._definitions_known = self.app.health.hook("poststarthook/crd-informer-synced")
        self.authorizer = Authorizer()
        self._custom = CustomResources(self.app)
        self._registration = Registration(self.app, self.app.health)
        self._aggregator = Aggregator(
            self.app, _proxy_client(settings), redirects=not settings.options.aggregator_reject_forwarding_redirect
        )
        self._event_ttl: EventTtl | None = None
        self._escalation = EscalationCheck(self.app, self.authorizer)
        self.app.authorizer = self.authorizer.authorize
        self._modes = self._authorization()
        self._authentication: Authentication | None = None
        self._uses: LegacyTokenUses | None = None
        self._tracking: LegacyTokenTracking | None = None
        #: Makes the token of a service account for a Secret of this name.
        self.sign_token: Callable[[core_v1.ServiceAccount, str], str] | None = None
        extra = (NodeRestriction(self.app), self._escalation)
        self.app.admission = default_chain(self.app, extra, options=settings.options)
        if settings.signing_key:
            self._set_up_tokens()
        if settings.options.audit_policy_file:
            from podling.apiserver.audit import setup

            self.app.auditor = setup.auditor(settings.options)

    def _authorization(self) -> Modes | None:
        """Other authorizers than Node and RBAC, if there are to be some."""
        options = self.settings.options
        if options.authorization_mode == Options().authorization_mode and not options.authorization_config:
            return None
        from podling.apiserver.authz.setup import Modes

        return Modes(options, self.authorizer)

    def _set_up_tokens(self) -> None:
        app, lookup = self.app, _Cached(self.app)
        issuer = TokenIssuer(self.settings.signing_key, lookup, issuer=self.settings.issuer)
        self._uses, self._tracking = LegacyTokenUses(app), LegacyTokenTracking(app)
        validator = TokenValidator(issuer.keys, lookup, issuers=(issuer.issuer,), used=self._uses.used)
        self._authentication = Authentication(
            self.settings.options, lookup, validator, issuer=issuer.issuer, audiences=issuer.audiences,
            client_ca=self.settings.client_ca,
        )  # fmt: skip
        app.authenticator = self._authentication.authenticator.authenticate
        app.impersonator = Impersonation(self.authorizer.authorize).impersonated
        app.token_issuer = issuer.issue
        self.sign_token = issuer.sign_legacy
        reviews = Reviews(self.authorizer, self._authentication.authenticator.tokens)
        for resource in registry.BUILTIN:
            if resource.virtual and resource.group in ("authentication.k8s.io", "authorization.k8s.io"):
                app.virtual[resource.group, resource.version, resource.name] = reviewing(reviews.handle_review)
        app.paths["/openid/v1/jwks"] = _document(issuer.jwks, "application/jwk-set+json")
        app.paths["/.well-known/openid-configuration"] = _document(
            lambda: issuer.discovery(f"{issuer.issuer}/openid/v1/jwks"), "application/json"
        )

    async def start(self) -> None:
        """Load the cache, and from it what authorization and allocation must know."""
        if self.app.auditor is not None:
            self.app.auditor.start()
        if self._at_rest is not None:
            await self._start_encrypted(self._at_rest)
        else:
            await self.app.start()
        for part in (self._authentication, self._modes, self._tracking):
            if part is not None:
                part.start()
        self._definitions_known()
        for kind in Authorizer.KINDS:
            self._follow(kind, self.authorizer.observe)

        services = self.app.lookup("", "services")
        assert services is not None and isinstance(services.strategy, ServiceStrategy)
        first, _, last = self.settings.node_port_range.partition("-")
        ranges = ServiceRanges(
            [self.settings.service_cidr], (e.object for e in services.cache.all()), (int(first), int(last))
        )
        services.strategy.allocator = ranges.allocator
        ranges.follow(self._follow)

        events = self.app.lookup("", "events")
        if events is not None and self.settings.options.event_ttl > 0:
            self._event_ttl = EventTtl(self.app.hub, events.cache, timedelta(seconds=self.settings.options.event_ttl))
            self._event_ttl.start()
        self._registration.start()
        self._flow.start()

    @property
    def limiter(self) -> Limiter:
        """For the HTTP server: who is served at once."""
        return self._flow.limiter

    async def _start_encrypted(self, at_rest: AtRest) -> None:
        """Load what is encrypted. Raises encryption.setup.Unreadable, which says which key is missing."""
        await at_rest.start()
        self.app.hub.outdated = at_rest.store.outdated
        if at_rest.checked:
            self.app.health.add("kms-providers", at_rest.check)
        try:
            await self.app.start()
        except StatusError:
            problem = await at_rest.explain(ROOT)
            if problem is None:
                raise
            raise problem from None

    async def close(self) -> None:
        """End all watches and timers; the store stays open."""
        if self._event_ttl is not None:
            await self._event_ttl.close()
        await self._registration.close()
        await self._aggregator.close()
        for part in (self._authentication, self._modes, self._tracking, self._uses):
            if part is not None:
                await part.close()
        if self.app.usages is not None:
            await self.app.usages.close()
        await self._flow.close()
        await self._custom.close()
        await self.app.close()
        if self.app.auditor is not None:
            await self.app.auditor.close()
        if self._at_rest is not None:
            await self._at_rest.close()

    def _follow(self, kind: type[Any], observe: Callable[[str, Any], None]) -> None:
        """Tell of every object of a kind: those that are there, and each change at the moment it happens."""
        resource = registry.of(kind)
        served = self.app.lookup(resource.group, resource.name)
        assert served is not None
        cache = served.cache
        for entry in cache.all():
            observe("ADDED", entry.object)

        def tell(event: str, entry: Entry, change: Change | None) -> None:
            observe(event, entry.object)

        watch = Watch(cache, Scope())
        watch.attach(tell, lambda: None)
        cache.register(watch)

    def streaming(self, *, ca: Path, certificate: Path, key: Path) -> Streaming:
        """What answers exec, attach, logs, port forwarding and proxying; this certificate is shown to node agents."""
        kubelets = Kubelets(self.app, client_tls(certificate, key, ca))
        self.app.usages = NodeUsages(kubelets.summary)
        return Streaming(self.app, kubelets)


def _at_rest(store: Store, options: Options) -> AtRest | None:
    """What encrypts, if anything does. Raises OptionError."""
    if not options.encryption_provider_config:
        return None
    # Here, since a server that encrypts nothing need not load it.
    from podling.apiserver.encryption.setup import AtRest

    return AtRest(store, options)


def _document(
    text: Callable[[], bytes], content_type: str
) -> Callable[[Request, RequestInfo, User], Awaitable[Answer]]:
    async def answer(request: Request, info: RequestInfo, user: User) -> Answer:
        return Answer(body=text(), headers={"Content-Type": content_type})

    return answer
