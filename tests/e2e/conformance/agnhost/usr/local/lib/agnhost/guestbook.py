"""A guestbook: a primary that tells its replicas what is set; a front that writes to the one and reads of the others.

Replicas and front find the primary by the name that --replicaof says and by `agnhost-primary`.
"""

import json
import os
import socket
import threading
import time
import urllib.error
import urllib.request
from urllib.parse import urlencode

from serving import Handler, serve

STORE = {}
REPLICAS = []


class Guestbook(Handler):
    backend_port = 0

    def answer(self, path):
        key, value = self.query.get("key", ""), self.query.get("value", "")
        if path == "/register":
            REPLICAS.append(self.query["host"])
            return 200, json.dumps({"data": STORE})
        if path == "/get":
            return 200, json.dumps({"data": STORE.get(key, "") if key else STORE})
        if path == "/set" and key:
            STORE[key] = value
            for replica in REPLICAS:
                self.ask(replica, "set", key=key, value=value)
            return 200, json.dumps({"message": "Updated"})
        if path == "/guestbook" and (command := self.query.get("cmd")) in ("get", "set"):
            host = "agnhost-primary" if command == "set" else "agnhost-replica"
            try:
                return 200, self.ask(host, command, key=key, value=value)
            except urllib.error.URLError as error:
                return 417, f"encountered error: {error}"
        return 400, "no such command"

    def ask(self, host, command, **query):
        return ask(host, self.backend_port, command, query)


def ask(host, port, command, query):
    with urllib.request.urlopen(f"http://{host}:{port}/{command}?{urlencode(query)}", timeout=5) as response:
        return response.read().decode()


def register(primary, port):
    """Be told from now on what the primary is told."""
    for _ in range(15):
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
                end.connect((primary, port))
                own = end.getsockname()[0]
            STORE.update(json.loads(ask(primary, port, "register", {"host": own}))["data"])
            return
        except OSError as error:
            print(f"{primary} does not answer: {error}", flush=True)
            time.sleep(1)
    os._exit(1)


def run(options):
    Guestbook.backend_port = options.backend_port
    if options.replicaof:
        threading.Thread(target=register, args=(options.replicaof, options.backend_port), daemon=True).start()
    serve(options.http_port, Guestbook, wait=True)
