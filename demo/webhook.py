"""A webhook that receives all alerts and queues them for the terminal."""

from __future__ import annotations

import contextlib
import json
import queue
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Notice:
    """One alert in one message."""

    receiver: str
    status: str  # firing or resolved
    name: str
    severity: str
    description: str
    runbook: str
    #: Identifies the alert from firing to resolved.
    occurrence: str


def notices(message: dict[str, Any]) -> Iterator[Notice]:
    """Yield the alerts in an Alertmanager webhook message, version 4."""
    for alert in message["alerts"]:
        labels, annotations = alert["labels"], alert["annotations"]
        yield Notice(
            message["receiver"],
            alert["status"],
            labels["alertname"],
            labels.get("severity", ""),
            annotations.get("description") or annotations.get("summary", ""),
            annotations.get("runbook_url", "").rpartition("/main/")[2],
            f"{alert['fingerprint']} {alert['startsAt']}",
        )


@contextlib.contextmanager
def webhook() -> Iterator[tuple[str, queue.SimpleQueue[Notice]]]:
    """Run the webhook. Yield its URL and the queue of received alerts."""
    received: queue.SimpleQueue[Notice] = queue.SimpleQueue()

    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_POST(self) -> None:
            try:
                message = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
                for notice in notices(message):
                    received.put(notice)
                self.send_response(200)
            except (ValueError, KeyError, TypeError):
                self.send_response(400)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/", received
        finally:
            server.shutdown()
            thread.join(5)
