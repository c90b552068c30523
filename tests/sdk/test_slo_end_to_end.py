"""An objective of a route, from requests to a real application to the rules in a real Prometheus."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from dashboards.prometheus_server import ask, start_prometheus
from sdk.web_apps import IS_INSTALLED, serving
from services import deckwatch_command, fetch, until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(not IS_INSTALLED, reason="FastAPI is not installed: make services")

SHOP = """
import deckwatch
from fastapi import FastAPI

app = FastAPI()
app.add_middleware(deckwatch.AsgiMiddleware)

@app.get("/ready")
def ready():
    return True

@app.get("/checkout/{cart}")
def checkout(cart: int):
    return 1 // cart
"""
SLOS = """
exporters: {}
slos:
  - {name: checkout, service: shop, route: "/checkout/{cart}", objective: 99.9}
  - {name: ready, service: shop, route: /ready, objective: 99.9}
"""


def test_failed_requests_to_a_route_count_against_its_objective(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    config, rules = tmp_path / "slos.yml", tmp_path / "rules"
    config.write_text(SLOS)
    subprocess.run(deckwatch_command("alerts", "export", str(rules), "--config", str(config)), check=True)
    with serving(tmp_path, "uvicorn", "shop:app", "--port", "{port}", "--workers", "2") as shop:
        settings = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": [f"{rules}/slos.rules.yml", f"{rules}/application.rules.yml"],
            "scrape_configs": [
                {"job_name": "deckwatch", "static_configs": [{"targets": [shop.agent.url.removeprefix("http://")]}]}
            ],
        }
        with start_prometheus(tmp_path, settings) as prometheus:

            def recorded(query: str) -> float | None:
                found = ask(prometheus, "query", query=query)[1]["data"]["result"]
                return float(found[0]["value"][1]) if found else None

            def is_recorded() -> bool:
                for path in ("/checkout/1", "/checkout/0", "/ready"):
                    fetch(shop.web.url + path)
                failing = recorded('slo:error_ratio:rate5m{slo="checkout"} > 0.1')
                return failing is not None and bool(recorded('service:http_requests:rate15m{service="shop"} > 0'))

            until(is_recorded, what="the failed requests in the objective")
            assert recorded('slo:error_ratio:rate5m{slo="checkout"}') == pytest.approx(0.5, abs=0.3)
            assert recorded('slo:error_ratio:rate5m{slo="ready"}') == 0
