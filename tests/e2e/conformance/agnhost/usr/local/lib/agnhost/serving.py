"""HTTP servers as the commands of the stand-in for agnhost want them."""

import os
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


class Handler(BaseHTTPRequestHandler):
    """Hands each request to the method `answer` of a subclass, which gives (status, body[, headers])."""

    protocol_version = "HTTP/1.1"

    def handle_any(self):
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length)
        url = urlsplit(self.path)
        self.query = {k: v[0] for k, v in parse_qs(url.query).items()}
        status, text, *more = self.answer(url.path)
        data = text.encode()
        self.send_response(status)
        for name, value in (more[0] if more else {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = handle_any

    def log_message(self, form, *values):
        print(f"{self.client_address[0]} {form % values}", flush=True)


def serve(port, handler, tls=False, wait=False, clients=""):
    """`clients`: the authorities (PEM) whose certificates are looked at, if clients show any."""
    server = Server(("", port), handler)
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        files = os.environ.get("CERT_FILE", "/localhost.crt"), os.environ.get("KEY_FILE", "/localhost.key")
        context.load_cert_chain(*files)
        if clients:
            context.load_verify_locations(cadata=clients)
            context.verify_mode = ssl.CERT_OPTIONAL
        # A client that is slow to shake hands must hold up nobody else.
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    if wait:
        server.serve_forever()
    threading.Thread(target=server.serve_forever, daemon=True).start()
