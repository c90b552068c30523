"""The ASGI middleware in a real FastAPI application, served by uvicorn and read by an agent."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from sdk.web_apps import IS_INSTALLED, Shop, labels_of, serving, value
from services import fetch, until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(not IS_INSTALLED, reason="FastAPI is not installed: make services")

SHOP = """
import asyncio
import deckwatch
from fastapi import APIRouter, BackgroundTasks, FastAPI, HTTPException, Request
from fastapi.responses import StreamingResponse
from fastapi.staticfiles import StaticFiles
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

import lines

app = FastAPI()
app.add_middleware(deckwatch.AsgiMiddleware, slow_request_seconds=0.2)

@app.get("/ready")
async def ready():
    return True

@app.get("/items/{item}")
def item(item: int):
    return {"item": item}

@app.post("/upload")
async def upload(request: Request):
    return len(await request.body())

@app.get("/teapot")
def teapot():
    raise HTTPException(418)

@app.get("/broken/{kind}")
def broken(kind: str):
    raise {"key": KeyError, "value": ValueError}[kind](kind)

@app.get("/slow")
async def slow():
    await asyncio.sleep(0.25)

@app.get("/stream")
async def stream(chunks: int):
    async def chunked():
        for _ in range(chunks):
            yield b"x" * 1000
            await asyncio.sleep(0.01)
    return StreamingResponse(chunked())

@app.get("/later")
def later(tasks: BackgroundTasks):
    def fail():
        raise OverflowError
    tasks.add_task(fail)

users, orders = APIRouter(prefix="/users"), APIRouter(prefix="/{user}/orders")

@orders.get("/{order}")
def order(user: int, order: int):
    return 1

users.include_router(orders)
app.include_router(users, prefix="/v1")

async def text(request):
    return PlainTextResponse("text")

app.mount("/shops/{shop}", Starlette(routes=[Route("/deep/{n:int}", text), Mount("/more", routes=[Route("/z", text)])]))
app.mount("/static", StaticFiles(directory="."))
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("asgi")
    (folder / "shop.py").write_text(SHOP)
    with serving(folder, "uvicorn", "shop:app", "--port", "{port}", "--workers", "2") as running:
        yield running


@pytest.mark.parametrize(
    ("path", "status", "route"),
    [
        ("/v1/users/3/orders/4", 200, "/v1/users/{user}/orders/{order}"),
        ("/items/wrong", 422, "/items/{item}"),
        ("/teapot", 418, "/teapot"),
        ("/shops/3/deep/4", 200, "/shops/{shop}/deep/{n}"),
        ("/shops/3/more/z", 200, "/shops/{shop}/more/z"),
        ("/shops/3/none", 404, "/shops/{shop}/{path}"),
        ("/static/shop.py", 200, "/static/{path}"),
        ("/docs", 200, "/docs"),
        ("/items/5", 200, "/items/{item}"),
    ],
)
def test_a_request_counts_for_its_route_template(shop: Shop, path: str, status: int, route: str) -> None:
    assert fetch(shop.web.url + path)[0] == status
    text = shop.until_counted(1, method="GET", route=route, status=str(status))
    labels = {"service": "shop", "method": "GET", "route": route}
    assert value(text, "http_request_duration_seconds_count", **labels, status=str(status)) == 1
    assert value(text, "http_response_size_bytes_count", **labels) >= 1


def test_raw_paths_and_unknown_methods_make_no_series(shop: Shop) -> None:
    for number in range(20):
        assert fetch(f"{shop.web.url}/none/{number}")[0] == 404
    port = int(shop.web.url.rpartition(":")[2])
    for method in (b"BREW", b"WHEN"):
        with socket.create_connection(("127.0.0.1", port), 30) as connection:
            connection.sendall(method + b" /none HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            while connection.recv(4096):
                pass
    shop.until_counted(20, method="GET", route="unmatched", status="404")
    text = shop.until_counted(2, method="other", route="unmatched", status="404")
    assert "none" not in text


def test_request_and_response_bodies_are_measured(shop: Shop) -> None:
    body = b"x" * 5000
    port = int(shop.web.url.rpartition(":")[2])
    head = b"POST /upload HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 5000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        connection.sendall(head + body)
        while connection.recv(4096):
            pass
    text = shop.until_counted(1, method="POST", route="/upload", status="200")
    labels = {"service": "shop", "method": "POST", "route": "/upload"}
    assert value(text, "http_request_size_bytes_sum", **labels) == 5000
    assert value(text, "http_response_size_bytes_sum", **labels) == len("5000")


def test_a_streamed_response_is_measured_to_its_end(shop: Shop) -> None:
    assert len(fetch(f"{shop.web.url}/stream?chunks=30")[1]) == 30_000
    text = shop.until_counted(1, method="GET", route="/stream", status="200")
    labels = {"service": "shop", "method": "GET", "route": "/stream"}
    assert value(text, "http_response_size_bytes_sum", **labels) == 30_000
    # asyncio does not sleep for a shorter time than asked.
    assert value(text, "http_request_duration_seconds_sum", **labels, status="200") >= 0.3
    assert value(text, "http_client_disconnects_total", **labels) == 0


def test_a_client_that_disconnects_ends_its_request(shop: Shop) -> None:
    port = int(shop.web.url.rpartition(":")[2])
    labels = {"service": "shop", "method": "GET", "route": "/stream"}
    before = value(shop.metrics(), "http_client_disconnects_total", **labels)
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        connection.sendall(b"GET /stream?chunks=1000000 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(4096)
        in_progress = {"service": "shop", "method": "GET"}
        until(lambda: value(shop.metrics(), "http_requests_in_progress", **in_progress) == 1, what="in progress")
    until(lambda: value(shop.metrics(), "http_client_disconnects_total", **labels) == before + 1, what="a disconnect")
    until(lambda: value(shop.metrics(), "http_requests_in_progress", **in_progress) == 0, what="none in progress")
    assert value(shop.metrics(), "http_errors_total", service="shop") == 0


def test_unhandled_errors_count_by_type_and_fingerprint(shop: Shop) -> None:
    for kind in ("key", "value", "key"):
        assert fetch(f"{shop.web.url}/broken/{kind}")[0] == 500
    assert fetch(f"{shop.web.url}/later")[0] == 200
    text = shop.until_counted(3, method="GET", route="/broken/{kind}", status="500")
    until(lambda: len(shop.events("http.unhandled_error")) == 4, what="4 events")
    until(lambda: "OverflowError" in shop.metrics(), what="the error of the background task")
    text = shop.metrics()
    found = {}
    for event in shop.events("http.unhandled_error"):
        labels = {"type": str(event["error_type"]), "fingerprint": str(event["fingerprint"])}
        found[labels["type"]] = value(text, "http_errors_total", service="shop", **labels)
    assert found == {"KeyError": 2, "ValueError": 1, "OverflowError": 1}
    assert labels_of(text, "http_errors_total", "type") == set(found)
    assert value(text, "http_requests_total", service="shop", method="GET", route="/later", status="200") == 1


def test_a_slow_request_is_logged_with_its_trace(shop: Shop) -> None:
    trace = os.urandom(16).hex()
    headers = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
    assert fetch(f"{shop.web.url}/slow?card=4111", headers)[0] == 200
    slow = until(lambda: [it for it in shop.events("http.slow_request") if it["route"] == "/slow"], what="the event")
    (event,) = slow
    assert event["trace_id"] == trace
    assert (event["path"], event["status"], event["levelname"]) == ("/slow", 200, "WARNING")
    assert float(str(event["duration_seconds"])) >= 0.25
    accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
    exemplar = f'# {{trace_id="{trace}"}}'
    until(lambda: exemplar in fetch(f"{shop.agent.url}/metrics", accept)[1], what="the exemplar")
