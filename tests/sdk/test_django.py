"""The Django middleware in a real project, under WSGI and ASGI, read by an agent."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from sdk.web_apps import IS_INSTALLED, Shop, serving, value
from services import fetch, until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(not IS_INSTALLED, reason="Django is not installed: make services")

SHOP = """
import asyncio, time
import deckwatch
import lines
from django.conf import settings
from django.http import FileResponse, Http404, HttpResponse, StreamingHttpResponse
from django.urls import include, path

settings.configure(
    ROOT_URLCONF="shop",
    SECRET_KEY="tests only",
    ALLOWED_HOSTS=["*"],
    MIDDLEWARE=["deckwatch.DjangoMiddleware", "django.middleware.common.CommonMiddleware"],
    DECKWATCH_SLOW_REQUEST_SECONDS=0.2,
)
import django
django.setup()
is_async = False

def ready(request):
    return HttpResponse("ready")

async def slow(request):
    await asyncio.sleep(0.25)
    return HttpResponse("")

def broken(request):
    raise KeyError("card 4111")

async def broken_too(request):
    raise ValueError("card 4111")

def item(request, shop, item):
    return HttpResponse("x")

def gone(request, shop):
    raise Http404

def file(request):
    return FileResponse(open("shop.py", "rb"))

def chunked(chunks):
    for _ in range(chunks):
        yield b"x" * 1000
        time.sleep(0.01)

async def chunked_async(chunks):
    for _ in range(chunks):
        yield b"x" * 1000
        await asyncio.sleep(0.01)

def stream(request, chunks):
    return StreamingHttpResponse(chunked_async(chunks) if is_async else chunked(chunks))

urlpatterns = [
    path("ready", ready),
    path("slow", slow),
    path("broken", broken),
    path("broken-too", broken_too),
    path("file", file),
    path("stream/<int:chunks>", stream),
    path("shops/<slug:shop>/", include([path("gone", gone), path("items/<int:item>", item)])),
]

def asgi():
    global is_async
    is_async = True
    from django.core.asgi import get_asgi_application
    return get_asgi_application()

from django.core.wsgi import get_wsgi_application
wsgi = get_wsgi_application()
"""
COMMANDS = {
    "wsgi": ("gunicorn", "shop:wsgi", "--bind", "127.0.0.1:{port}", "--workers", "2"),
    "asgi": ("uvicorn", "shop:asgi", "--factory", "--port", "{port}", "--workers", "2"),
}


@pytest.fixture(scope="module", params=COMMANDS)
def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "shop.py").write_text(SHOP)
    with serving(folder, *COMMANDS[request.param]) as running:
        yield running


@pytest.mark.parametrize(
    ("path", "status", "route"),
    [
        ("/shops/north/items/3", 200, "/shops/<slug:shop>/items/<int:item>"),
        ("/shops/north/gone", 404, "/shops/<slug:shop>/gone"),
        ("/none/3", 404, "unmatched"),
        ("/file", 200, "/file"),
        ("/stream/30", 200, "/stream/<int:chunks>"),
    ],
)
def test_a_request_counts_for_its_route_template(shop: Shop, path: str, status: int, route: str) -> None:
    received, body = fetch(shop.web.url + path)
    assert received == status
    text = shop.until_counted(1, method="GET", route=route, status=str(status))
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


@pytest.mark.parametrize(
    ("path", "kind", "place"), [("/broken", "KeyError", "broken"), ("/broken-too", "ValueError", "broken_too")]
)
def test_an_error_that_django_answers_counts_as_unhandled(shop: Shop, path: str, kind: str, place: str) -> None:
    for _ in range(2):
        assert fetch(shop.web.url + path)[0] == 500
    text = shop.until_counted(2, method="GET", route=path, status="500")
    event = next(it for it in shop.events("http.unhandled_error") if it["route"] == path)
    assert (event["error_type"], event["place"]) == (kind, f"shop:{place}")
    labels = {"type": kind, "fingerprint": str(event["fingerprint"])}
    assert value(text, "http_errors_total", service="shop", **labels) == 2


def test_a_slow_request_is_logged_with_its_trace(shop: Shop) -> None:
    trace = os.urandom(16).hex()
    assert fetch(f"{shop.web.url}/slow", {"traceparent": f"00-{trace}-00f067aa0ba902b7-00"})[0] == 200
    (event,) = until(lambda: [it for it in shop.events("http.slow_request") if it["route"] == "/slow"], what="it")
    assert event["trace_id"] == trace
