"""MutatingAdmissionWebhook and ValidatingAdmissionWebhook: writes are shown to webhooks, which change or refuse them.

Source: k8s.io/apiserver pkg/admission/plugin/webhook.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec

from podling import clock, log
from podling.api import admissionregistration_v1 as v1
from podling.api import errors, meta_v1
from podling.api.errors import StatusError
from podling.apiserver import metadata
from podling.apiserver.admission import match, metrics
from podling.apiserver.admission.base import CONNECT, CREATE, DELETE, UPDATE, Attributes, Plugin
from podling.apiserver.admission.match_request import Seen, Wire, admission_request
from podling.apiserver.admission.webhooks_client import Caller, CallFailure
from podling.apiserver.audit import trail as audit
from podling.apiserver.authz.attributes import decided
from podling.apiserver.core import Core
from podling.apiserver.exchange import waiting
from podling.apiserver.served import Served
from podling.machinery import json_patch, schema

if TYPE_CHECKING:
    from podling.apiserver.admission.webhook_credentials import Credentials

T = TypeVar("T")

LOG = log.get(__name__)

VERSIONS = ("v1", "v1beta1")


class Hook(NamedTuple):
    """One webhook of a configuration. `uid` tells it from all others."""

    configuration: str
    uid: str
    webhook: Any


class CallingFailed(Exception):
    """The webhook could not be asked, or its answer is of no use; the failure policy says what that means.

    `code` is what it is counted under.
    """

    def __init__(self, name: str, why: str, code: int = 503) -> None:
        super().__init__(f'failed calling webhook "{name}": {why}')
        self.code = code


class Denied(StatusError):
    """The webhook's refusal."""


class Verdict(NamedTuple):
    """What a webhook answered."""

    allowed: bool
    status: meta_v1.Status | None
    patch: list[Any]


class WebhookPlugin(Plugin):
    """What both plugins share: the configurations, and asking a webhook."""

    operations = frozenset((CREATE, UPDATE, DELETE, CONNECT))
    subresources = None
    kind: type[Any]
    #: The label `type` of what is counted.
    step = ""
    active = False

    def __init__(self, app: Core, credentials: Credentials | None = None) -> None:
        super().__init__(app)
        self._configurations: dict[str, Any] = {}
        self._hooks: list[Hook] | None = []
        self._caller = Caller(app, credentials)
        app.observe(self.kind, self._observe)

    @classmethod
    def parse(cls, document: dict[str, Any]) -> Credentials:
        from podling.apiserver.admission.webhook_credentials import parse

        return parse(document)

    async def close(self) -> None:
        await self._caller.close()

    def _observe(self, event: str, configuration: Any) -> None:
        name = configuration.metadata.name
        if event == "DELETED":
            self._configurations.pop(name, None)
        else:
            self._configurations[name] = configuration
        self.active = bool(self._configurations)
        self._hooks = None

    def hooks(self) -> list[Hook]:
        """All webhooks, in the order of their configurations' names."""
        if self._hooks is None:
            self._hooks = [
                Hook(name, f"{name}/{hook.name}/{position}", hook)
                for name in sorted(self._configurations)
                for position, hook in enumerate(self._configurations[name].webhooks or ())
            ]
        return self._hooks

    async def matching(self, hook: Any, seen: Seen) -> Served | None:
        """The resource as which the webhook is to see the request; None if it is not to see it."""
        attributes = seen.attributes
        failure: StatusError | None = None
        try:
            if not match.namespace_selected(self.app, hook.namespace_selector, attributes):
                return None
        except StatusError as error:
            failure = error
        if not match.object_selected(hook.object_selector, attributes):
            return None
        served = match.resource_for(self.app, hook.rules or (), hook.match_policy, attributes)
        if served is None:
            return None
        if failure is not None:
            raise failure
        if hook.match_conditions:
            from podling.apiserver.admission.match_cel import matches_conditions

            policy = hook.failure_policy or "Fail"
            owner = "webhook", hook.name, self.step
            if not await decided(lambda: matches_conditions(seen, served, hook.match_conditions, policy, owner)):
                kind = metrics.ADMIT if self.mutates else metrics.VALIDATE
                metrics.CONDITION_EXCLUSIONS.add("webhook", hook.name, attributes.operation, kind)
                return None
        return served

    async def counted(self, hook: Any, seen: Seen, calling: Awaitable[T]) -> T:
        """The result of calling a webhook, which is counted."""
        began = clock.real_seconds()

        def count(code: int, error: str = "") -> None:
            seconds = clock.real_seconds() - began
            metrics.called(hook.name, self.step, seen.attributes.operation, seconds, code, error)

        try:
            result = await calling
        except CallingFailed as failure:
            count(failure.code, "" if hook.failure_policy == "Ignore" else metrics.CALLING)
            raise
        except Denied as denial:
            count(denial.code, metrics.NO_ERROR)
            raise
        except StatusError:
            count(0, metrics.INTERNAL)
            raise
        count(200)
        return result

    async def ask(self, hook: Any, seen: Seen, served: Served, *, mutating: bool) -> Verdict:
        """Ask a webhook. Raises CallingFailed, and StatusError 400 if it must not be asked in a dry run."""
        attributes = seen.attributes
        if attributes.dry_run and hook.side_effects not in ("None", "NoneOnDryRun"):
            raise errors.bad_request(f'admission webhook "{hook.name}" does not support dry run')
        version = next((v for v in hook.admission_review_versions or () if v in VERSIONS), "")
        if not version:
            why = "webhook does not accept known AdmissionReview versions (v1, v1beta1)"
            raise CallingFailed(hook.name, f"could not create admission objects: {why}", 400)
        uid = metadata.new_uid()
        body = review(uid, version, seen, served)
        try:
            with audit.spending("mutating-webhook" if mutating else "validating-webhook"):
                answer = await self._caller.call(hook.client_config, body, float(hook.timeout_seconds or 10))
        except CallFailure as error:
            raise CallingFailed(hook.name, f"failed to call webhook: {error}", error.code) from None
        try:
            response = read_response(answer, uid, version, mutating=mutating)
        except ValueError as error:
            raise CallingFailed(hook.name, str(error)) from None
        for key, value in (response.get("auditAnnotations") or {}).items():
            attributes.annotations[f"{hook.name}/{key}"] = value
        for warning in response.get("warnings") or ():
            if warning not in attributes.warnings:
                attributes.warnings.append(warning)
        return _verdict(hook.name, response)


class MutatingAdmissionWebhook(WebhookPlugin):
    name = "MutatingAdmissionWebhook"
    kind = v1.MutatingWebhookConfiguration
    step = metrics.ADMIT
    mutates = True

    async def mutate(self, attributes: Attributes) -> None:
        if match.exempt(attributes):
            return
        seen = Seen(self.app, attributes)
        notes: dict[str, Any] = attributes.notes.setdefault(
            self.name, {"again": set(), "called": set(), "output": None}
        )
        if attributes.again and notes["output"] is not None and notes["output"] != _fingerprint(seen):
            # Other plugins changed the object since.
            notes["again"] |= notes["called"]
        for index, hook in enumerate(self.hooks()):
            webhook = hook.webhook
            served = await self.matching(webhook, seen)
            if served is None or (attributes.again and hook.uid not in notes["again"]):
                continue
            try:
                with waiting():
                    changed = await self.counted(webhook, seen, self._call(hook, seen, served, index))
            except CallingFailed as error:
                if webhook.failure_policy != "Ignore":
                    raise errors.internal(str(error)) from None
                metrics.FAIL_OPEN.add(webhook.name, self.step)
                LOG.warning("failed calling webhook, failing open %s: %s", webhook.name, error)
                key = f"failed-open.mutation.webhook.admission.k8s.io/round_{int(attributes.again)}_index_{index}"
                attributes.annotations[key] = webhook.name
                changed = False
            if changed:
                notes["again"] |= notes["called"]
                notes["called"] = set()
                attributes.reinvoke = True
            if webhook.reinvocation_policy == "IfNeeded":
                notes["called"].add(hook.uid)
        notes["output"] = _fingerprint(seen) if attributes.reinvoke or notes["called"] else None

    async def _call(self, hook: Hook, seen: Seen, served: Served, index: int) -> bool:
        """Whether it changed the object."""
        name, attributes = hook.webhook.name, seen.attributes
        verdict = await self.ask(hook.webhook, seen, served, mutating=True)
        place = f"round_{int(attributes.again)}_index_{index}"
        changed = False
        if not verdict.allowed:
            raise denied(name, verdict.status)
        if verdict.patch:
            changed = self._apply(name, verdict.patch, seen, served)
            key = f"patch.webhook.admission.k8s.io/{place}"
            attributes.annotations[key] = json.dumps(
                {
                    "configuration": hook.configuration,
                    "webhook": name,
                    "patch": verdict.patch,
                    "patchType": "JSONPatch",
                },
                separators=(",", ":"),
            )
        attributes.annotations[f"mutation.webhook.admission.k8s.io/{place}"] = json.dumps(
            {"configuration": hook.configuration, "webhook": name, "mutated": changed}, separators=(",", ":")
        )
        return changed

    def _apply(self, name: str, patch: list[Any], seen: Seen, served: Served) -> bool:
        before = seen.object(served)
        if before is None or seen.attributes.obj is None:
            why = (
                f'admission webhook "{name}" attempted to modify the object, which is not supported for this operation'
            )
            raise errors.internal(why)
        # Through JSON: the patch must not reach what the object shares with others.
        document = msgspec.json.decode(msgspec.json.encode(before))
        try:
            after = json_patch.apply(document, patch)
            seen.update(served, after)
        except (json_patch.PatchError, schema.DecodeError, msgspec.ValidationError) as error:
            raise errors.internal(str(error)) from None
        return seen.object(served) != before


class ValidatingAdmissionWebhook(WebhookPlugin):
    name = "ValidatingAdmissionWebhook"
    kind = v1.ValidatingWebhookConfiguration
    step = metrics.VALIDATING
    validates = True

    async def validate(self, attributes: Attributes) -> None:
        if match.exempt(attributes):
            return
        seen = Seen(self.app, attributes)
        relevant = []
        for hook in self.hooks():
            served = await self.matching(hook.webhook, seen)
            if served is not None:
                relevant.append((hook, served))
        if not relevant:
            return
        with waiting():
            results = await asyncio.gather(
                *(self._call(hook, seen, served, index) for index, (hook, served) in enumerate(relevant)),
                return_exceptions=True,
            )
        failures = [r for r in results if r is not None]
        if failures:
            raise failures[0]

    async def _call(self, hook: Hook, seen: Seen, served: Served, index: int) -> None:
        webhook, attributes = hook.webhook, seen.attributes
        try:
            await self.counted(webhook, seen, self._judged(webhook, seen, served))
        except CallingFailed as error:
            if webhook.failure_policy != "Ignore":
                raise errors.internal(str(error)) from None
            metrics.FAIL_OPEN.add(webhook.name, self.step)
            LOG.warning("failed calling webhook, failing open %s: %s", webhook.name, error)
            key = f"failed-open.validating.webhook.admission.k8s.io/round_0_index_{index}"
            attributes.annotations[key] = webhook.name

    async def _judged(self, webhook: Any, seen: Seen, served: Served) -> None:
        """Raises CallingFailed, and StatusError for a refusal."""
        verdict = await self.ask(webhook, seen, served, mutating=False)
        if not verdict.allowed:
            raise denied(webhook.name, verdict.status)


def _fingerprint(seen: Seen) -> bytes | None:
    obj = seen.object(seen.own)
    return msgspec.json.encode(obj) if obj is not None else None


def review(uid: str, version: str, seen: Seen, served: Served) -> bytes:
    """An AdmissionReview that asks."""
    request = admission_request(seen, served)
    request["uid"] = uid
    request["object"] = seen.object(served)
    request["oldObject"] = seen.old(served)
    request.setdefault("options", None)
    body: Wire = {"kind": "AdmissionReview", "apiVersion": f"admission.k8s.io/{version}", "request": request}
    return msgspec.json.encode(body)


_KINDS = {"v1": "admission.k8s.io/v1", "v1beta1": "admission.k8s.io/v1beta1"}


def read_response(body: bytes, uid: str, version: str, *, mutating: bool) -> Wire:
    """The `response` of an AdmissionReview that answers. ValueError for what is no valid answer to the question."""
    try:
        answer = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"failed to call webhook: couldn't get version/kind; json parse error: {error}") from None
    prefix = "received invalid webhook response: "
    response = answer.get("response") if isinstance(answer, dict) else None
    if not isinstance(response, dict):
        raise ValueError(f"{prefix}webhook response was absent")
    if version == "v1":
        if response.get("uid") != uid:
            raise ValueError(f'{prefix}expected response.uid="{uid}", got "{response.get("uid") or ""}"')
        said = f"{answer.get('apiVersion') or ''}, Kind={answer.get('kind') or ''}"
        wanted = f"{_KINDS[version]}, Kind=AdmissionReview"
        if said != wanted:
            raise ValueError(f"{prefix}expected webhook response of {wanted}, got {said}")
        _check_patch(response, prefix, mutating=mutating)
    elif not mutating:
        response.pop("patch", None)
    return response


def _check_patch(response: Wire, prefix: str, *, mutating: bool) -> None:
    patch, type_ = response.get("patch"), response.get("patchType")
    if not mutating:
        if patch:
            raise ValueError(f"{prefix}validating webhook may not return response.patch")
        if type_ is not None:
            raise ValueError(f"{prefix}validating webhook may not return response.patchType")
    elif patch and type_ is None:
        raise ValueError(f"{prefix}webhook returned response.patch but not response.patchType")
    elif not patch and type_ is not None:
        raise ValueError(f"{prefix}webhook returned response.patchType but not response.patch")
    elif type_ == "":
        raise ValueError(f'{prefix}webhook returned invalid response.patchType of ""')
    elif type_ not in (None, "JSONPatch"):
        raise ValueError(f'unsupported patch type "{type_}"')


def _verdict(name: str, response: Wire) -> Verdict:
    result = response.get("status")
    try:
        status = msgspec.convert(result, meta_v1.Status) if result else None
    except msgspec.ValidationError as error:
        raise CallingFailed(name, f"failed to call webhook: {error}") from None
    patch: list[Any] = []
    if response.get("allowed") and response.get("patch"):
        try:
            patch = msgspec.json.decode(base64.b64decode(response["patch"]))
            json_patch.check(patch)
        except (binascii.Error, TypeError, msgspec.DecodeError, json_patch.PatchError) as error:
            raise CallingFailed(name, f"received undecodable patch in webhook response: {error}") from None
    return Verdict(response.get("allowed") is True, status, patch)


def denied(name: str, status: meta_v1.Status | None) -> Denied:
    """The webhook's refusal, as the client gets it."""
    found = status or meta_v1.Status()
    if (found.code or 0) < 400:
        found.code = 400
    found.status = "Failure"
    denial = f'admission webhook "{name}" denied the request'
    if found.message:
        found.message = f"{denial}: {found.message}"
    elif found.reason:
        found.message = f"{denial}: {found.reason}"
    else:
        found.message = f"{denial} without explanation"
    return Denied(found)
