"""Admission webhooks, at the paths where the conformance programme's own server has them.

Every review is printed, one a line, so that a test can see in the pod's log what was asked.
"""

import base64
import json
import re
import threading
import time

from serving import Handler, serve

LOCK = threading.Lock()
ADDED = {"image": "localhost/agnhost:1", "name": "webhook-added-init-container", "args": ["mounttest"]}


class Denied(Exception):
    """The request is not allowed, and why."""


class Webhook(Handler):
    def answer(self, path):
        if path == "/readyz":
            return 200, "ok"
        review = json.loads(self.body)
        request = review["request"]
        with LOCK:
            print(json.dumps({"path": path, "timeout": self.query.get("timeout"), **review}), flush=True)
        response = {"uid": request["uid"], "allowed": True}
        try:
            if patch := self.decide(path, request):
                response |= {"patchType": "JSONPatch", "patch": base64.b64encode(json.dumps(patch).encode()).decode()}
        except Denied as error:
            response |= {"allowed": False, "status": {"message": str(error)}}
        except LookupError:
            return 404, path
        body = {"kind": "AdmissionReview", "apiVersion": review["apiVersion"], "response": response}
        return 200, json.dumps(body), {"Content-Type": "application/json"}

    def log_message(self, form, *values):
        """The reviews are the log."""

    def decide(self, path, request):
        """Operations of a JSON patch, or none."""
        if delay := re.fullmatch(r"/always-allow-delay-(\d+)s", path):
            time.sleep(int(delay[1]))
            return []
        return DECISIONS[path](request)


def always_deny(request):
    raise Denied("this webhook denies all requests")


def data_of(request):
    return (request["oldObject"] if request["operation"] == "DELETE" else request["object"]).get("data") or {}


def unwanted(noun):
    """Denies objects with unwanted data, and deleting those that must stay."""

    def decide(request):
        said = data_of(request).get("webhook-e2e-test")
        if request["operation"] == "DELETE":
            if said == "webhook-nondeletable":
                raise Denied(f"the {noun} cannot be deleted because it contains unwanted key and value")
        elif said == "webhook-disallow":
            raise Denied(f"the {noun} contains unwanted data")

    return decide


def stages(request):
    """Adds what comes after the last stage that is there."""
    data = data_of(request)
    for before, after in (("mutation-start", "mutation-stage-1"), ("mutation-stage-1", "mutation-stage-2")):
        if data.get(before) == "yes" and after not in data:
            return [{"op": "add", "path": f"/data/{after}", "value": "yes"}]
    return []


def pods(request):
    pod = request["object"]
    said = (pod["metadata"].get("labels") or {}).get("webhook-e2e-test")
    if said == "wait-forever":
        threading.Event().wait()
    if said == "webhook-disallow":
        raise Denied("the pod contains unwanted label")


def connections(request):
    """Denies attaching to one pod, and running commands in it."""
    if request["name"] == "to-be-attached-pod":
        what = "attaching to" if request["subResource"] == "attach" else "running commands in"
        raise Denied(f"{what} pod 'to-be-attached-pod' is not allowed")


def mutating_pods(request):
    if not request["object"]["spec"].get("initContainers"):
        return [{"op": "add", "path": "/spec/initContainers", "value": [ADDED]}]


def definitions(request):
    if (request["object"]["metadata"].get("labels") or {}).get("webhook-e2e-test") == "webhook-disallow":
        raise Denied("the crd contains unwanted label")


def add_label(request):
    labels = request["object"]["metadata"].get("labels")
    if labels is None:
        return [{"op": "add", "path": "/metadata/labels", "value": {"added-label": "yes"}}]
    return [{"op": "add", "path": "/metadata/labels/added-label", "value": "yes"}]


DECISIONS = {
    "/always-deny": always_deny,
    "/add-label": add_label,
    "/configmaps": unwanted("configmap"),
    "/mutating-configmaps": stages,
    "/custom-resource": unwanted("custom resource"),
    "/mutating-custom-resource": stages,
    "/pods": pods,
    "/pods/attach": connections,
    "/mutating-pods": mutating_pods,
    "/crd": definitions,
}


def run(options):
    serve(options.port, Webhook, tls=True, wait=True)
