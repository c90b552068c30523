"""The ASGI middleware around a Litestar application, inside a span of OpenTelemetry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sdk.web_apps import IS_INSTALLED, serving
from services import fetch

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(not IS_INSTALLED, reason="Litestar is not installed: make services")

SHOP = """
import deckwatch
import lines
from litestar import Litestar, get
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

tracer = TracerProvider().get_tracer("shop")

@get("/items/{item:int}")
async def item(item: int) -> str:
    return format(trace.get_current_span().get_span_context().trace_id, "032x")

@get("/ready")
async def ready() -> str:
    return "ready"

# Two middleware count once.
measured = deckwatch.AsgiMiddleware(Litestar([item, ready]))
measured = deckwatch.AsgiMiddleware(measured, slow_request_seconds=0)

async def app(scope, receive, send):
    with tracer.start_as_current_span("request"):
        await measured(scope, receive, send)
"""


def test_a_wrapped_application_is_measured_once_with_its_span(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    with serving(tmp_path, "uvicorn", "shop:app", "--port", "{port}") as shop:
        trace = fetch(f"{shop.web.url}/items/3")[1]
        shop.until_counted(1, method="GET", route="/items/{item}", status="200")
        (event,) = [it for it in shop.events("http.slow_request") if it["route"] == "/items/{item}"]
    assert event["trace_id"] == trace
