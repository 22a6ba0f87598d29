"""The table of upstream's RequestInfo tests, in our words."""

import pytest

from podling.api.errors import StatusError
from podling.apiserver.request_info import resolve


@pytest.mark.parametrize(
    ("method", "url", "verb", "group", "resource", "subresource", "namespace", "name"),
    [
        ("GET", "/api/v1/namespaces", "list", "", "namespaces", "", "", ""),
        ("GET", "/api/v1/namespaces/other", "get", "", "namespaces", "", "other", "other"),
        ("GET", "/api/v1/namespaces/other/pods", "list", "", "pods", "", "other", ""),
        ("GET", "/api/v1/namespaces/other/pods/foo", "get", "", "pods", "", "other", "foo"),
        ("HEAD", "/api/v1/namespaces/other/pods/foo", "get", "", "pods", "", "other", "foo"),
        ("GET", "/api/v1/pods", "list", "", "pods", "", "", ""),
        ("PUT", "/api/v1/namespaces/other/finalize", "update", "", "namespaces", "finalize", "other", "other"),
        ("PUT", "/api/v1/namespaces/other/status", "update", "", "namespaces", "status", "other", "other"),
        ("POST", "/apis/apps/v1/namespaces/a/deployments", "create", "apps", "deployments", "", "a", ""),
        ("PATCH", "/apis/apps/v1/namespaces/a/deployments/x/scale", "patch", "apps", "deployments", "scale", "a", "x"),
        ("DELETE", "/api/v1/namespaces/other/pods", "deletecollection", "", "pods", "", "other", ""),
        ("DELETE", "/api/v1/namespaces/other/pods/foo", "delete", "", "pods", "", "other", "foo"),
        ("GET", "/api/v1/watch/namespaces/other/pods", "watch", "", "pods", "", "other", ""),
        ("GET", "/api/v1/namespaces/kube-system", "get", "", "namespaces", "", "kube-system", "kube-system"),
        ("GET", "/apis/rbac.authorization.k8s.io/v1/clusterroles", "list", "rbac.authorization.k8s.io",
         "clusterroles", "", "", ""),
    ],
)  # fmt: skip
def test_resources(
    method: str, url: str, verb: str, group: str, resource: str, subresource: str, namespace: str, name: str
) -> None:
    info = resolve(method, url, {})
    assert (info.verb, info.group, info.resource, info.subresource, info.namespace, info.name) == (
        verb,
        group,
        resource,
        subresource,
        namespace,
        name,
    )
    assert info.is_resource


@pytest.mark.parametrize("path", ["/", "/api", "/api/v1", "/apis", "/apis/apps", "/apis/apps/v1", "/healthz", "/a/b/c"])
def test_other_paths(path: str) -> None:
    info = resolve("GET", path, {})
    assert not info.is_resource and info.verb == "get" and info.path == path


@pytest.mark.parametrize(
    ("watch", "verb"), [("true", "watch"), ("1", "watch"), ("", "watch"), ("0", "list"), ("false", "list")]
)
def test_watch_parameter(watch: str, verb: str) -> None:
    assert resolve("GET", "/api/v1/pods", {"watch": watch}).verb == verb


def test_watch_of_one_name_has_the_name() -> None:
    info = resolve("GET", "/api/v1/pods", {"watch": "1", "fieldSelector": "metadata.name=web", "labelSelector": "a=b"})
    assert (info.verb, info.name, info.field_selector, info.label_selector) == (
        "watch",
        "web",
        "metadata.name=web",
        "a=b",
    )


def test_proxy_path_is_kept_whole() -> None:
    info = resolve("GET", "/api/v1/namespaces/a/pods/web:80/proxy/some//path/", {})
    assert (info.subresource, info.name, info.tail) == ("proxy", "web:80", "/some//path/")
    assert resolve("GET", "/api/v1/namespaces/a/pods/web/proxy/", {}).tail == "/"
    assert resolve("GET", "/api/v1/namespaces/a/pods/web/proxy", {}).tail == ""


def test_verb_in_path_needs_a_resource() -> None:
    with pytest.raises(StatusError, match="unable to determine kind"):
        resolve("GET", "/api/v1/watch", {})
