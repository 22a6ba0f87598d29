"""Converts custom resources: hostPort of v1 is host and port of v2."""

import json

from serving import Handler, serve


class Converter(Handler):
    def answer(self, path):
        if path == "/readyz":
            return 200, "ok"
        review = json.loads(self.body)
        request = review["request"]
        try:
            made = [convert(obj, request["desiredAPIVersion"]) for obj in request["objects"]]
            response = {"result": {"status": "Success"}, "convertedObjects": made}
        except ValueError as error:
            response = {"result": {"status": "Failure", "message": str(error)}}
        response["uid"] = request["uid"]
        body = {"kind": review["kind"], "apiVersion": review["apiVersion"], "response": response}
        return 200, json.dumps(body), {"Content-Type": "application/json"}


def convert(obj, wanted):
    made = {k: v for k, v in obj.items() if k not in ("host", "port", "hostPort")} | {"apiVersion": wanted}
    version = wanted.rpartition("/")[2]
    if version == "v2" and "hostPort" in obj:
        host, colon, port = obj["hostPort"].partition(":")
        if not colon:
            raise ValueError(f"invalid hostPort value `{obj['hostPort']}`")
        made |= {"host": host, "port": port}
    elif version == "v1" and "host" in obj:
        made["hostPort"] = f"{obj['host']}:{obj.get('port', '')}"
    return made


def run(options):
    serve(options.port, Converter, tls=True, wait=True)
