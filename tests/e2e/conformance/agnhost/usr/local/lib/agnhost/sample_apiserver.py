"""An extension API server, as Kubernetes' sample-apiserver is one: flunders of wardle.example.com.

It believes the front proxy, asks the main API server about everybody else and what they may do, and keeps flunders in a
store beside it, so that they outlive it.
"""

import datetime
import json
import queue
import threading
import time
import urllib.error
import urllib.request
import uuid
from urllib.parse import parse_qs, urlsplit

import delegation
from serving import Handler, serve

GROUP, VERSION = "wardle.example.com", "v1alpha1"
BASE = f"/apis/{GROUP}/{VERSION}"
VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
ANONYMOUS = ("system:anonymous", ["system:unauthenticated"])
LOCK = threading.Lock()


class Refusal(Exception):
    """An answer that is an error."""

    def __init__(self, code, reason, message):
        super().__init__(message)
        self.status = {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "code": code,
            "reason": reason,
            "message": message,
            "metadata": {},
        }


def not_found(name):
    return Refusal(404, "NotFound", f'flunders.{GROUP} "{name}" not found')


class Flunders:
    """All flunders, and who watches them."""

    def __init__(self, url):
        self._url = url
        self._watchers = set()
        self._revision = max([int(o["metadata"]["resourceVersion"]) for o in self.all("")], default=0)

    def _ask(self, method, key, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self._url}/flunders/{key}", data, method=method)
        with urllib.request.urlopen(request, timeout=5) as response:
            return response.read()

    def all(self, namespace):
        return [json.loads(value) for value in json.loads(self._ask("GET", f"{namespace}/" if namespace else ""))]

    def get(self, namespace, name):
        try:
            return json.loads(self._ask("GET", f"{namespace}/{name}"))
        except urllib.error.HTTPError:
            raise not_found(name) from None

    def put(self, kind, obj):
        self._revision += 1
        meta = obj["metadata"]
        meta["resourceVersion"] = str(self._revision)
        self._ask("PUT", f"{meta['namespace']}/{meta['name']}", obj)
        self._tell(kind, obj)
        return obj

    def remove(self, obj):
        self._revision += 1
        self._ask("DELETE", f"{obj['metadata']['namespace']}/{obj['metadata']['name']}")
        self._tell("DELETED", obj)

    def list(self, namespace):
        meta = {"resourceVersion": str(self._revision)}
        return {
            "kind": "FlunderList",
            "apiVersion": f"{GROUP}/{VERSION}",
            "metadata": meta,
            "items": self.all(namespace),
        }

    def watch(self):
        events = queue.Queue()
        self._watchers.add(events)
        return events

    def unwatch(self, events):
        self._watchers.discard(events)

    def _tell(self, kind, obj):
        for events in self._watchers:
            events.put({"type": kind, "object": obj})


class Extension(Handler):
    front = None
    flunders = None

    def handle_any(self):
        url = urlsplit(self.path)
        if self.command == "GET" and "watch" in parse_qs(url.query) and url.path.endswith("/flunders"):
            try:
                self.check(url.path, "watch")
            except Refusal:
                return super().handle_any()
            return self.follow(url.path.removeprefix(BASE).strip("/").split("/"))
        return super().handle_any()

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = handle_any

    def answer(self, path):
        try:
            self.check(path, "")
            with LOCK:
                found = self.found(path)
            status = 201 if self.command == "POST" else 200
        except Refusal as error:
            found, status = error.status, error.status["code"]
        return status, found if isinstance(found, str) else json.dumps(found), {"Content-Type": "application/json"}

    def check(self, path, verb):
        """Who asks, and whether they may. Raises Refusal."""
        user = self.front.user_of(self.connection.getpeercert(), self.headers) or ANONYMOUS
        namespace, name = where(path)
        attributes = None
        if path.startswith(BASE) and "flunders" in path:
            verbs = {"POST": "create", "PUT": "update", "PATCH": "patch"}
            verbs |= {"GET": "get", "DELETE": "delete"} if name else {"GET": "list", "DELETE": "deletecollection"}
            attributes = {
                "group": GROUP,
                "version": VERSION,
                "resource": "flunders",
                "namespace": namespace,
                "name": name,
                "verb": verb or verbs[self.command],
            }
        if not delegation.may(user, self.command, path, attributes):
            what = f'flunders.{GROUP} "{name}" is forbidden: User "{user[0]}" cannot {(attributes or {}).get("verb")}'
            raise Refusal(403, "Forbidden", what)

    def found(self, path):
        if path in delegation.ALWAYS_ALLOWED:
            return "ok"
        if path == "/apis":
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [group()]}
        if path == f"/apis/{GROUP}":
            return group()
        if path == BASE:
            flunders = {"name": "flunders", "singularName": "flunder", "namespaced": True, "kind": "Flunder"}
            resources = [{**flunders, "verbs": VERBS, "shortNames": ["fl"]}]
            head = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": f"{GROUP}/{VERSION}"}
            return {**head, "resources": resources}
        if not path.startswith(f"{BASE}/") or "flunders" not in path:
            raise Refusal(404, "NotFound", "the server could not find the requested resource")
        namespace, name = where(path)
        return self.one(namespace, name) if name else self.many(namespace)

    def many(self, namespace):
        if self.command == "GET":
            return self.flunders.list(namespace)
        if self.command == "DELETE":
            for obj in self.flunders.all(namespace):
                self.flunders.remove(obj)
            return {"kind": "Status", "apiVersion": "v1", "status": "Success"}
        obj = json.loads(self.body)
        name = obj["metadata"]["name"]
        if any(o["metadata"]["name"] == name for o in self.flunders.all(namespace)):
            raise Refusal(409, "AlreadyExists", f'flunders.{GROUP} "{name}" already exists')
        created = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        obj["metadata"] |= {"namespace": namespace, "uid": str(uuid.uuid4()), "creationTimestamp": created}
        return self.flunders.put("ADDED", obj)

    def one(self, namespace, name):
        old = self.flunders.get(namespace, name)
        if self.command == "GET":
            return old
        if self.command == "DELETE":
            self.flunders.remove(old)
            return {"kind": "Status", "apiVersion": "v1", "status": "Success"}
        new = json.loads(self.body)
        given = (new.get("metadata") or {}).get("resourceVersion")
        if given not in (None, old["metadata"]["resourceVersion"]):
            raise Refusal(409, "Conflict", f'Operation cannot be fulfilled on flunders.{GROUP} "{name}": changed')
        if self.command == "PATCH":
            new = merged(old, new)
        new["metadata"] = {**old["metadata"], **new["metadata"]}
        return self.flunders.put("MODIFIED", new)

    def follow(self, parts):
        """Events, each a chunk of the answer, for as long as the client listens."""
        namespace = parts[1] if parts[0] == "namespaces" else ""
        with LOCK:
            events = self.flunders.watch()
            for obj in self.flunders.all(namespace) if "resourceVersion" not in self.path else ():
                events.put({"type": "ADDED", "object": obj})
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            while True:
                event = events.get()
                if namespace in ("", event["object"]["metadata"]["namespace"]):
                    line = json.dumps(event).encode() + b"\n"
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
        except OSError:
            self.close_connection = True
        finally:
            self.flunders.unwatch(events)


def where(path):
    """(namespace, name) that a path names."""
    parts = path.removeprefix(BASE).strip("/").split("/")
    namespace = parts[1] if parts[0] == "namespaces" else ""
    rest = parts[parts.index("flunders") + 1 :] if "flunders" in parts else []
    return namespace, rest[0] if rest else ""


def group():
    version = {"groupVersion": f"{GROUP}/{VERSION}", "version": VERSION}
    return {"kind": "APIGroup", "apiVersion": "v1", "name": GROUP, "versions": [version], "preferredVersion": version}


def merged(old, patch):
    """A JSON merge patch, applied."""
    if not isinstance(patch, dict) or not isinstance(old, dict):
        return patch
    new = dict(old)
    for key, value in patch.items():
        if value is None:
            new.pop(key, None)
        else:
            new[key] = merged(old.get(key), value)
    return new


def opened(url):
    """What is in the store, which may still be starting."""
    for left in reversed(range(50)):
        try:
            return Flunders(url)
        except urllib.error.URLError:
            if not left:
                raise
            time.sleep(0.2)


def run(options):
    Extension.flunders = opened(options.store)
    Extension.front = delegation.Front()
    print("serving", flush=True)
    serve(options.port, Extension, tls=True, wait=True, clients=Extension.front.authorities)
