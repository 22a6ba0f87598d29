"""A store beside a server that has none of its own, as etcd is to an extension API server: values by key, over HTTP."""

import json

from serving import Handler, serve

VALUES = {}


class Store(Handler):
    def answer(self, path):
        if self.command == "PUT":
            VALUES[path] = self.body.decode()
            return 200, ""
        if self.command == "DELETE":
            return (200, "") if VALUES.pop(path, None) is not None else (404, "")
        if path.endswith("/"):
            return 200, json.dumps([VALUES[key] for key in sorted(VALUES) if key.startswith(path)])
        return (200, VALUES[path]) if path in VALUES else (404, "")

    def log_message(self, form, *values):
        """Nothing is worth a line."""


def run(options):
    serve(options.port, Store, wait=True)
