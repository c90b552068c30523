"""A real Prometheus with any configuration, optionally over data that was written before."""

from __future__ import annotations

import json
import urllib.parse
from typing import TYPE_CHECKING, Any

from services import Program, fetch, free_port, installed, running

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Mapping
    from pathlib import Path


def start_prometheus(folder: Path, settings: Mapping[str, Any]) -> contextlib.AbstractContextManager[Program]:
    """Run Prometheus with its data in `folder/prometheus`."""
    port = free_port()
    config = folder / "prometheus.yml"
    config.write_text(json.dumps(settings))
    command = [
        installed("prometheus"),
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'prometheus'}",
        "--storage.tsdb.retention.time=10y",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    return running(command, f"http://127.0.0.1:{port}", "/-/ready", folder / "prometheus.log")


def ask(prometheus: Program, path: str, **parameters: Any) -> tuple[int, dict[str, Any]]:
    """Status and JSON of a request to Prometheus' API."""
    status, body = fetch(f"{prometheus.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}", timeout=30)
    answer: dict[str, Any] = json.loads(body)
    return status, answer
