"""The WSGI middleware in a real Flask application, served by gunicorn and read by an agent."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from sdk.web_apps import IS_INSTALLED, Shop, serving, value
from services import fetch, until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(not IS_INSTALLED, reason="Flask is not installed: make services")

SHOP = """
import time
import deckwatch
import lines
from flask import Blueprint, Flask, Response, abort, send_file

app = Flask("shop")
app.wsgi_app = deckwatch.WsgiMiddleware(app.wsgi_app, slow_request_seconds=0.2)

@app.get("/ready")
def ready():
    return "ready"

@app.get("/items/<int:item>")
def item(item):
    return {"item": item}

@app.get("/teapot")
def teapot():
    abort(418)

@app.get("/broken")
def broken():
    raise KeyError("card 4111")

@app.get("/slow")
def slow():
    time.sleep(0.25)
    return ""

@app.get("/file")
def file():
    return send_file("shop.py")

@app.get("/stream/<int:chunks>")
def stream(chunks):
    def chunked():
        for _ in range(chunks):
            yield b"x" * 1000
            time.sleep(0.01)
    return Response(chunked())

orders = Blueprint("orders", "shop", url_prefix="/orders/<int:order>")

@orders.post("/pay")
def pay(order):
    return "paid"

app.register_blueprint(orders)
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("wsgi")
    (folder / "shop.py").write_text(SHOP)
    command = ("gunicorn", "shop:app", "--bind", "127.0.0.1:{port}", "--workers", "2", "--worker-tmp-dir", str(folder))
    with serving(folder, *command) as running:
        yield running


@pytest.mark.parametrize(
    ("path", "status", "route"),
    [
        ("/items/3", 200, "/items/<int:item>"),
        ("/teapot", 418, "/teapot"),
        ("/items/wrong", 404, "unmatched"),
        ("/orders/3/pay", 405, "unmatched"),
        ("/file", 200, "/file"),
        ("/stream/30", 200, "/stream/<int:chunks>"),
    ],
)
def test_a_request_counts_for_its_route_template(shop: Shop, path: str, status: int, route: str) -> None:
    labels = {"method": "GET", "route": route, "status": str(status)}
    counted = value(shop.metrics(), "http_requests_total", service="shop", **labels)
    received, body = fetch(shop.web.url + path)
    assert received == status
    text = shop.until_counted(counted + 1, **labels)
    assert value(text, "http_request_duration_seconds_count", service="shop", **labels) == counted + 1
    if route != "unmatched":
        sent = value(text, "http_response_size_bytes_sum", service="shop", method="GET", route=route)
        assert sent == len(body.encode())


def test_a_client_that_disconnects_ends_its_request(shop: Shop) -> None:
    port = int(shop.web.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        connection.sendall(b"GET /stream/1000000 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(4096)
        in_progress = {"service": "shop", "method": "GET"}
        until(lambda: value(shop.metrics(), "http_requests_in_progress", **in_progress) == 1, what="in progress")
    labels = {"service": "shop", "method": "GET", "route": "/stream/<int:chunks>"}
    until(lambda: value(shop.metrics(), "http_client_disconnects_total", **labels) == 1, what="a disconnect")
    until(lambda: value(shop.metrics(), "http_requests_in_progress", **in_progress) == 0, what="none in progress")


def test_an_error_that_the_framework_answers_counts_as_unhandled(shop: Shop) -> None:
    for _ in range(2):
        assert fetch(f"{shop.web.url}/broken")[0] == 500
    text = shop.until_counted(2, method="GET", route="/broken", status="500")
    event = shop.events("http.unhandled_error")[0]
    assert (event["error_type"], event["place"], event["route"]) == ("KeyError", "shop:broken", "/broken")
    labels = {"type": "KeyError", "fingerprint": str(event["fingerprint"])}
    assert value(text, "http_errors_total", service="shop", **labels) == 2


def test_a_slow_request_is_logged_with_its_trace(shop: Shop) -> None:
    trace = os.urandom(16).hex()
    assert fetch(f"{shop.web.url}/slow", {"traceparent": f"00-{trace}-00f067aa0ba902b7-00"})[0] == 200
    (event,) = until(lambda: [it for it in shop.events("http.slow_request") if it["route"] == "/slow"], what="it")
    assert event["trace_id"] == trace
