"""What an extension API server in a pod asks the main one: whom to believe, who somebody is, and what they may do."""

import json
import ssl
import urllib.error
import urllib.request

ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
CONFIGURATION = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication"
ALWAYS_ALLOWED = ("/healthz", "/livez", "/readyz")


def api(method, path, body=None):
    """Ask the main API server with the pod's own token."""
    with open(f"{ACCOUNT}/token") as file:
        headers = {"Authorization": f"Bearer {file.read()}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"https://kubernetes.default.svc{path}", data, headers, method=method)
    context = ssl.create_default_context(cafile=f"{ACCOUNT}/ca.crt")
    with urllib.request.urlopen(request, timeout=10, context=context) as response:
        return json.load(response)


class Front:
    """Who may say, in headers, for whom a request is."""

    def __init__(self):
        data = api("GET", CONFIGURATION)["data"]
        self.authorities = data["requestheader-client-ca-file"]
        self.names = json.loads(data["requestheader-allowed-names"])
        self.user, self.group = (json.loads(data[f"requestheader-{what}-headers"])[0] for what in ("username", "group"))

    def user_of(self, certificate, headers):
        """(name, groups) of who asks; None if nobody known."""
        subject = {key: value for part in (certificate or {}).get("subject", ()) for key, value in part}
        if certificate and (not self.names or subject.get("commonName") in self.names):
            return headers.get(self.user), [*(headers.get_all(self.group) or []), "system:authenticated"]
        kind, _, token = headers.get("Authorization", "").partition(" ")
        if kind != "Bearer":
            return None
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
        status = api("POST", "/apis/authentication.k8s.io/v1/tokenreviews", review)["status"]
        user = status.get("user") or {}
        return (user["username"], user.get("groups") or []) if status.get("authenticated") else None


def may(user, method, path, attributes):
    """Whether the main API server lets a user do this: `attributes` of a resource, or a path."""
    name, groups = user
    if path in ALWAYS_ALLOWED or "system:masters" in groups:
        return True
    asked = (
        {"resourceAttributes": attributes}
        if attributes
        else {"nonResourceAttributes": {"path": path, "verb": method.lower()}}
    )
    spec = {"user": name, "groups": groups, **asked}
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
    return api("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)["status"]["allowed"]
