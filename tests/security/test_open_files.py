"""Clients, log files and targets cannot exhaust the file descriptors."""

from __future__ import annotations

import contextlib
import json
import resource
import shlex
import socket
import subprocess
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from deckwatch.config.open_files import log_files
from services import Program, deckwatch_command, fetch, free_port, running, until

if TYPE_CHECKING:
    from pathlib import Path

LIMIT = 1024
MANY = 600


def limited(limits: str, *arguments: str) -> list[str]:
    """Return a command that runs with these `ulimit` limits."""
    return ["sh", "-c", f"{limits} && exec {shlex.join(deckwatch_command(*arguments))}"]


def agent(folder: Path, limits: str) -> contextlib.AbstractContextManager[Program]:
    port = free_port()
    command = limited(limits, "run", "--listen", f"127.0.0.1:{port}", "--state-dir", str(folder / "state"))
    return running(command, f"http://127.0.0.1:{port}", "/-/ready", folder / "agent.log", cwd=folder)


def value(program: Program, name: str) -> float:
    return next(float(line.split()[-1]) for line in program.metrics().splitlines() if line.startswith(f"{name} "))


def test_the_soft_limit_is_raised_to_the_hard_one(tmp_path: Path) -> None:
    (tmp_path / "deckwatch.yml").write_text("exporters: {}\n")
    with agent(tmp_path, "ulimit -Sn 256 && ulimit -Hn 900") as program:
        assert value(program, "process_max_fds") == 900


@pytest.mark.parametrize("command", ["run", "check"])
def test_a_limit_that_is_too_low_is_reported_before_startup(tmp_path: Path, command: str) -> None:
    (tmp_path / "deckwatch.yml").write_text("exporters: {system: {}}\n")
    ended = subprocess.run(
        limited("ulimit -n 64", command, "--state-dir", str(tmp_path)), cwd=tmp_path, capture_output=True, text=True
    )
    assert ended.returncode == 2
    assert ended.stderr == (
        f"{tmp_path}/deckwatch.yml: the limit of open files is 64, and this config needs at least 98. "
        "Raise it with `ulimit -Hn 4096`, or with LimitNOFILE=4096 in the systemd unit\n"
    )


def test_a_scrape_works_despite_many_followed_files_and_idle_clients(tmp_path: Path) -> None:
    logs = tmp_path / "app"
    logs.mkdir()
    for number in range(MANY):
        (logs / f"{number}.log").write_text("a line\n")
    rules = [{"path": f"{logs}/*.log", "format": "raw"}, {"path": f"{logs}/1*.log", "format": "raw"}]
    (tmp_path / "deckwatch.yml").write_text(
        json.dumps({"exporters": {}, "logs": {"loki": {"url": "http://127.0.0.1:9"}, "files": rules}})
    )
    with agent(tmp_path, f"ulimit -n {LIMIT}") as program, contextlib.ExitStack() as clients:
        address = urlsplit(program.url)
        until(lambda: value(program, "deckwatch_log_lines_read_total") >= MANY, what="all files being read")
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4 * MANY)), hard))
        for _ in range(MANY):
            clients.enter_context(socket.create_connection((str(address.hostname), address.port or 0), timeout=30))
        for _ in range(5):
            status, _ = fetch(f"{program.url}/metrics")
            assert status == 200
        assert value(program, "process_open_fds") < LIMIT
        assert value(program, "deckwatch_log_spool_write_failures_total") == 0


def test_log_file_entries_share_a_quarter_of_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 1024))
    assert [log_files(rules) for rules in (1, 2, 16, 1000)] == [256, 128, 16, 1]
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert log_files(1) == 500
