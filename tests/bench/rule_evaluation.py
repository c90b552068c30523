"""The time that Prometheus needs for all shipped rules, over many simulated hosts with Redis and PostgreSQL.

Each host has the metrics of a real agent, of which the rules use some. Scrapes are three times as frequent as usual, so
that windows of five minutes are filled in less than two.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
from prometheus_client.parser import text_string_to_metric_families

from bench.measure import resident_bytes
from bench.stack import CONFIG, servers
from services import agent, free_port, installed, running, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from services import Program

HOSTS = 300
_SCRAPE = 5  # seconds
_FILLED = 110  # seconds until windows of 20 scrapes are filled
_EVALUATIONS = 3
_RULES = sorted((Path(__file__).parents[2] / "alerts").glob("*.rules.yml"))


class _Exposition:
    """The metrics of one host. Counters grow by one a second."""

    def __init__(self, text: str, used: set[str]) -> None:
        self._lines: list[tuple[str, float, bool]] = []
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name in used:
                    labels = ",".join(f"{name}={json.dumps(value)}" for name, value in sample.labels.items())
                    self._lines.append((f"{sample.name}{{{labels}}}", sample.value, family.type == "counter"))
        self._began = time.monotonic()

    def __len__(self) -> int:
        return len(self._lines)

    def render(self) -> bytes:
        grown = time.monotonic() - self._began
        return "".join(f"{start} {value + grown * counts}\n" for start, value, counts in self._lines).encode()


@contextlib.contextmanager
def _served(exposition: _Exposition) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = exposition.render()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def _prometheus(folder: Path, port: int) -> Iterator[Program]:
    address = f"127.0.0.1:{port}"
    relabeling = [
        {"source_labels": ["__address__"], "target_label": "instance"},
        {"target_label": "__address__", "replacement": address},
    ]
    job = {
        "job_name": "deckwatch",
        "static_configs": [{"targets": [f"host-{number}:9645" for number in range(HOSTS)]}],
        "relabel_configs": relabeling,
    }
    config = {
        "global": {"scrape_interval": f"{_SCRAPE}s", "evaluation_interval": "15s"},
        "rule_files": [str(path) for path in _RULES],
        "scrape_configs": [job],
    }
    (folder / "prometheus.yml").write_text(json.dumps(config))
    listen = free_port()
    command = [
        installed("prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{listen}",
    ]
    with running(command, f"http://127.0.0.1:{listen}", "/-/ready", folder / "prometheus.log") as program:
        yield program


def _groups(program: Program) -> dict[str, tuple[float, str]]:
    """The seconds of the last evaluation of each group of rules, and when that was."""
    answer = httpx.get(f"{program.url}/api/v1/rules", timeout=60).json()
    return {
        f"{group['file']} {group['name']}": (float(group["evaluationTime"]), str(group["lastEvaluation"]))
        for group in answer["data"]["groups"]
    }


def _evaluated(program: Program) -> float:
    """The seconds of the next evaluation of all groups together."""
    before = _groups(program)

    def are_evaluated() -> bool:
        found = _groups(program)
        return all(found[name][1] != moment for name, (_, moment) in before.items())

    until(are_evaluated, what="an evaluation of all groups")
    return sum(seconds for seconds, _ in _groups(program).values())


def rule_evaluation(folder: Path) -> list[tuple[str, ...]]:
    (folder / "agent").mkdir()
    with servers(folder) as (redis, postgres):
        config = CONFIG.format(redis=redis.url, postgres=postgres.dsn(user="monitor"), more="")
        with agent(folder / "agent", config) as program:
            until(lambda: "\npg_up" in program.metrics() and "\nredis_up" in program.metrics(), what="all metrics")
            time.sleep(_SCRAPE)
            text = program.metrics()
    used = set(re.findall(r"[a-zA-Z_:][a-zA-Z0-9_:]*", "".join(path.read_text() for path in _RULES)))
    exposition = _Exposition(text, used)
    with _served(exposition) as port, _prometheus(folder, port) as prometheus:
        time.sleep(_FILLED)
        seconds = [_evaluated(prometheus) for _ in range(_EVALUATIONS)]
        groups = _groups(prometheus)
        slowest = max(groups, key=lambda name: groups[name][0])
        resident = resident_bytes(prometheus.process.pid) / 1e6
    return [
        (
            str(HOSTS),
            str(HOSTS * len(exposition)),
            f"{sorted(seconds)[len(seconds) // 2]:.2f} s ({min(seconds):.2f} to {max(seconds):.2f})",
            f"{slowest.rpartition(' ')[2]}, {groups[slowest][0]:.2f} s",
            f"{resident:.0f} MB",
        )
    ]
