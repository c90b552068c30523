"""The search service that the application depends on. `fail 1` on standard input makes it answer with 500."""

import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

failing = threading.Event()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(500 if failing.is_set() and self.path != "/health" else 200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"[]")

    def log_message(self, *_):
        pass


def listen():
    for line in sys.stdin:
        (failing.clear if line.strip() == "fail 0" else failing.set)()


threading.Thread(target=listen, daemon=True).start()
ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
