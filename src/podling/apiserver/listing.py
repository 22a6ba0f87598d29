"""Options of list and watch: what may be asked, and which objects are meant."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from podling.api import selectors
from podling.api.errors import FieldError, bad_request, invalid
from podling.api.numbers import NumberError, parse_uint
from podling.apiserver.call import Call, integer
from podling.apiserver.entry import Entry
from podling.apiserver.request_info import truthy
from podling.apiserver.served import Served
from podling.apiserver.watch import Scope
from podling.machinery.validation import quote


class ListOptions(NamedTuple):
    """metav1.ListOptions. `resource_version` is None where nothing was given, which is not the same as 0."""

    label_selector: str = ""
    field_selector: str = ""
    limit: int = 0
    continue_: str = ""
    resource_version: int | None = None
    match: str = ""
    bookmarks: bool = False
    timeout: int | None = None
    send_initial_events: bool | None = None


_NONE = ListOptions()


def parse(query: dict[str, str], *, watch: bool) -> ListOptions:
    """The options in a query. StatusError 400 or 422 in upstream's words."""
    if not query:
        return _NONE
    initial = query.get("sendInitialEvents")
    version = query.get("resourceVersion", "")
    options = ListOptions(
        query.get("labelSelector", ""),
        query.get("fieldSelector", ""),
        # Less than none is no limit.
        max(integer(query, "limit") or 0, 0),
        query.get("continue", ""),
        None,
        query.get("resourceVersionMatch", ""),
        truthy(query.get("allowWatchBookmarks")),
        integer(query, "timeoutSeconds"),
        truthy(initial) if initial is not None else None,
    )
    if options.match or options.send_initial_events is not None:
        findings = _watch_findings(options) if watch else _list_findings(options, version)
        if findings:
            raise invalid("ListOptions", "meta.k8s.io", "", findings)
    if not version:
        return options
    if watch:
        return options._replace(resource_version=version_of(version))
    if options.continue_:
        # The version is the token's. That there is another one is said after what is wrong with the token.
        return options if version == "0" else options._replace(resource_version=-1)
    return options._replace(resource_version=version_of(version, "invalid resource version: "))


def version_of(text: str, why: str = "") -> int:
    """A resource version. StatusError 400 if it is none; upstream's words for that begin with `why` in lists only.

    Of a get or a watch upstream says the same with 500, which it calls a bug (kubernetes/kubernetes#139485).
    """
    try:
        return parse_uint(text)
    except NumberError as error:
        raise bad_request(f"{why}resourceVersion: Invalid value: {quote(text)}: {error}") from None


def _forbidden(field: str, why: str) -> FieldError:
    return FieldError("FieldValueForbidden", field, f"Forbidden: {why}")


def _unsupported(match: str, *valid: str) -> FieldError:
    known = ", ".join(f'"{v}"' for v in valid)
    return FieldError(
        "FieldValueNotSupported", "resourceVersionMatch", f'Unsupported value: "{match}": supported values: {known}'
    )


def _list_findings(o: ListOptions, version: str) -> list[FieldError]:
    field, found = "resourceVersionMatch", []
    if o.match:
        if not version:
            found.append(_forbidden(field, "resourceVersionMatch is forbidden unless resourceVersion is provided"))
        if o.continue_:
            found.append(_forbidden(field, "resourceVersionMatch is forbidden when continue is provided"))
        if o.match not in ("Exact", "NotOlderThan"):
            found.append(_unsupported(o.match, "", "Exact", "NotOlderThan"))
        if o.match == "Exact" and version == "0":
            found.append(_forbidden(field, 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'))
    if o.send_initial_events is not None:
        found.append(_forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"))
    return found


def _watch_findings(o: ListOptions) -> list[FieldError]:
    field, found = "resourceVersionMatch", []
    if o.send_initial_events is not None and o.match != "NotOlderThan":
        found.append(_forbidden(field, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"))
    if o.match:
        if o.send_initial_events is None:
            why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
            found.append(_forbidden(field, why))
        if o.match != "NotOlderThan":
            found.append(_unsupported(o.match, "NotOlderThan"))
        if o.continue_:
            found.append(_forbidden(field, "resourceVersionMatch is forbidden when continue is provided"))
    return found


class Selection:
    """The objects that a list, a watch or a deletecollection means.

    `scope` is the narrowest part of the cache that has them all, `matches` decides within it (None: all are meant).
    """

    def __init__(self, served: Served, namespace: str, label_selector: str = "", field_selector: str = "") -> None:
        self.served = served
        self.namespace = namespace if served.resource.namespaced else ""
        checks: list[Callable[[Entry], bool]] = []
        selector = _fields(served, field_selector) if field_selector else selectors.FieldSelector()
        if self.namespace == "" and served.resource.namespaced:
            self.namespace = selector.exact("metadata.namespace") or ""
        self.scope = self._scope(selector)
        if self.scope.value is not None and self.namespace:
            checks.append(lambda e: e.namespace == self.namespace)
        if not self._settled(selector):
            checks.append(_field_check(served, selector))
        if label_selector and (check := _label_check(label_selector)) is not None:
            checks.append(check)
        self.matches: Callable[[Entry], bool] | None = None
        if len(checks) == 1:
            self.matches = checks[0]
        elif checks:
            self.matches = lambda e: all(check(e) for check in checks)

    def _scope(self, selector: selectors.FieldSelector) -> Scope:
        name = selector.exact("metadata.name")
        if name and (self.namespace or not self.served.resource.namespaced):
            return Scope(key=self.served.key(self.namespace, name))
        indexed = self.served.indexed_field
        value = selector.exact(indexed) if indexed and self.served.cache.indexed else None
        return Scope(namespace=self.namespace) if value is None else Scope(value=value)

    def _settled(self, selector: selectors.FieldSelector) -> bool:
        """Whether the scope says all that the field selector says."""
        if not self.scope.key:
            return selector.empty
        name = self.scope.key.rpartition("/")[2]
        said = {"metadata.name": name, "metadata.namespace": self.namespace}
        return all(not r.negated and said.get(r.field) == r.value for r in selector.requirements)

    @property
    def selective(self) -> bool:
        """Whether something besides the namespace narrows it down."""
        return self.matches is not None or bool(self.scope.key)

    def candidates(self) -> list[Entry]:
        """What the scope has now, in order."""
        cache, scope = self.served.cache, self.scope
        if scope.key:
            entry = cache.get(scope.key)
            return [entry] if entry else []
        if scope.value is not None:
            return cache.by_index(scope.value, self.namespace)
        return cache.in_namespace(self.namespace) if self.namespace else cache.all()

    def entries(self) -> list[Entry]:
        """What is meant, in order."""
        found = self.candidates()
        matches = self.matches
        return found if matches is None else [e for e in found if matches(e)]


def _fields(served: Served, text: str) -> selectors.FieldSelector:
    """StatusError 400 for a field that can't be selected by."""
    try:
        selector = selectors.parse_fields(text)
    except selectors.SelectorError as error:
        raise bad_request(str(error)) from None
    known = served.strategy.selectable_fields
    for field in selector.fields:
        if field not in ("metadata.name", "metadata.namespace") and field not in known:
            if not known:
                raise bad_request(
                    f'"{field}" is not a known field selector: only "metadata.name", "metadata.namespace"'
                )
            raise bad_request(f"field label not supported: {field}")
    return selector


def _field_check(served: Served, selector: selectors.FieldSelector) -> Callable[[Entry], bool]:
    strategy, view = served.strategy, served.view

    def check(entry: Entry) -> bool:
        values = {"metadata.name": entry.name, "metadata.namespace": entry.namespace}
        values.update(strategy.fields(entry.shown(view)[0] if view else entry.object))
        return selector.matches(values)

    return check


def _label_check(text: str) -> Callable[[Entry], bool] | None:
    try:
        selector = selectors.parse(text)
    except selectors.SelectorError as error:
        raise bad_request(str(error)) from None
    if selector.empty:
        return None

    def check(entry: Entry) -> bool:
        return selector.matches(entry.object.metadata.labels)

    return check


def selection_of(call: Call) -> Selection:
    """What the list, watch or deletecollection of `call` means."""
    info = call.info
    fields = info.field_selector
    if info.name:
        fields = _of_name(info.name, fields)
    if not fields and not info.label_selector:
        return Selection(call.served, info.namespace)
    return Selection(call.served, info.namespace, info.label_selector, fields)


def _of_name(name: str, fields: str) -> str:
    """The field selector of a request for one name, in the path or in the selector. StatusError 400.

    The request was authorized for this name, so that nothing else may be shown.
    """
    if not fields:
        return f"metadata.name={selectors.escape(name)}"
    if selectors.pinned(fields, "metadata.name") != name:
        raise bad_request("fieldSelector metadata.name doesn't match requested name")
    return fields
