"""Real receivers of remote write, and what they and the agent say of it."""

from __future__ import annotations

import contextlib
import json
import shutil
import urllib.parse
from typing import TYPE_CHECKING, Any

import pytest

from services import Program, agent, fetch, free_port, installed, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RECEIVERS = ["prometheus", "victoria-metrics"]


@contextlib.contextmanager
def receiver(kind: str, folder: Path, port: int | None = None) -> Iterator[Program]:
    """A real receiver with its data in `folder`."""
    if shutil.which(kind) is None:
        pytest.skip(f"{kind} is not installed (Debian package)")
    address = f"127.0.0.1:{port or free_port()}"
    folder.mkdir(exist_ok=True)
    if kind == "prometheus":
        (folder / "prometheus.yml").write_text("global: {scrape_interval: 15s}\n")
        command = [installed(kind), f"--config.file={folder / 'prometheus.yml'}", "--web.enable-remote-write-receiver"]
        command += [f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address={address}"]
        ready = "/-/ready"
    else:
        command = [installed(kind), f"-storageDataPath={folder / 'data'}", f"-httpListenAddr={address}"]
        command += ["-search.latencyOffset=0s", "-search.disableCache"]
        ready = "/health"
    with running(command, f"http://{address}", ready, folder / "receiver.log") as program:
        yield program


def query(program: Program, expression: str) -> list[dict[str, Any]]:
    """The answer to an expression, instant or with a range."""
    status, body = fetch(f"{program.url}/api/v1/query?query={urllib.parse.quote(expression)}")
    assert status == 200, body
    result: list[dict[str, Any]] = json.loads(body)["data"]["result"]
    return result


def times(program: Program, expression: str = "up") -> list[float]:
    """When samples of the only series were taken."""
    found = query(program, f"{expression}[1h]")
    assert len(found) <= 1
    return [float(time) for time, _ in found[0]["values"]] if found else []


def config(url: str, exporters: str = "{system: {}}", interval: str = "500ms", **more: str) -> str:
    settings = {"url": f"{url}/api/v1/write", "instance": "shop", **more}
    return f"interval: {interval}\nexporters: {exporters}\nremote_write: [{json.dumps(settings)}]\n"


def own(program: Program, name: str) -> float:
    """The sum of a metric of the agent."""
    lines = fetch(program.url + "/metrics")[1].splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"deckwatch_remote_write_{name}"))


def writing(folder: Path, text: str) -> contextlib.AbstractContextManager[Program]:
    """Run an agent with this config, and its queue in `folder`."""
    return agent(folder, text, STATE_DIRECTORY=str(folder / "state"))
