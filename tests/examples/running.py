"""Runs an example with a Loki that can be read, for tests that ask what its README promises."""

from __future__ import annotations

import contextlib
import json
import queue
import re
import tempfile
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from demo.programs import find_programs
from demo.webhook import Notice, webhook
from examples.definition import Example, load
from examples.system import PYTHON, System, build
from loki import Double, loki
from services import ROOT, fetch

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Running:
    """An example that runs, and what reaches its Prometheus, its Loki and its pager."""

    example: Example
    system: System
    loki: Double
    received: queue.SimpleQueue[Notice]
    notices: list[Notice]

    def series(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """What Prometheus answers now: labels and value of each series."""
        url = f"{self.system.prometheus_url}/api/v1/query?query={urllib.parse.quote(expression)}"
        status, body = fetch(url)
        assert status == 200, f"{expression}: {body}"
        return [(it["metric"], float(it["value"][1])) for it in json.loads(body)["data"]["result"]]

    def value(self, expression: str) -> float | None:
        """The only value of an expression; None while there is none."""
        found = self.series(expression)
        assert len(found) < 2, found
        return found[0][1] if found else None

    def panel(self, dashboard: str, title: str) -> list[tuple[dict[str, str], float]]:
        """What a panel shows of the last minute, with All for every variable."""
        board = json.loads((ROOT / "dashboards" / f"{dashboard}.json").read_text())
        panels = [*board["panels"], *(inner for panel in board["panels"] for inner in panel.get("panels", ()))]
        (panel,) = [panel for panel in panels if panel["title"] == title]
        found = []
        for target in panel["targets"]:
            expression = re.sub(r"\$__(range|rate_interval)\b", "1m", target["expr"])
            expression = re.sub(r"\$__interval\b", "5s", expression).replace("@ end()", "")
            found += self.series(re.sub(r"\$\{?[a-z_]+\}?", ".*", expression))
        return found

    def fires(self, name: str) -> bool:
        """Whether a message of this alert has reached the webhook."""
        with contextlib.suppress(queue.Empty):
            while True:
                self.notices.append(self.received.get_nowait())
        return any(notice.name == name and notice.status == "firing" for notice in self.notices)

    def get(self, program: str, path: str) -> tuple[int, Any]:
        status, body = fetch(self.system.environ[f"{program.upper().replace('-', '_')}_URL"] + path)
        return status, json.loads(body) if body.startswith(("{", "[")) else body


@contextlib.contextmanager
def running(name: str, **environ: str) -> Iterator[Running]:
    """Start an example. `environ` replaces its defaults."""
    if not PYTHON.exists():
        pytest.skip("the libraries of the examples are not installed. Run: make services")
    example = load(name)
    example = example.model_copy(update={"environ": {**example.environ, **environ}})
    with (
        tempfile.TemporaryDirectory(prefix="dw-test-example-") as temporary,
        webhook() as (hook, received),
        loki() as logs,
    ):
        folder = Path(temporary)
        folder.chmod(0o711)  # PostgreSQL's user must reach its own folder
        system = build(name, example, folder, find_programs(), hook, logs.url, fast=True)
        with system.running():
            yield Running(example, system, logs, received, [])
