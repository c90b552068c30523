"""What is missing of a collector that works is visible everywhere: page, health, check, metric and log."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import httpx
import pytest

from databases import redis_server
from exporters.system.subsystems import HOST
from services import agent, deckwatch_command, until

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = """
interval: 1s
exporters:
  system: {{procfs: {tree}/proc, sysfs: {tree}/sys, rootfs: {tree}/root}}
  redis: [{{name: cache, url: "{url}", username: monitor, password: secret}}]
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A host with one value that cannot be parsed."""
    tree = shutil.copytree(HOST, tmp_path / "host", symlinks=True)
    meminfo = tree / "proc" / "meminfo"
    kept = [line for line in meminfo.read_text().splitlines(keepends=True) if not line.startswith("MemFree:")]
    meminfo.write_text("".join([*kept, "MemFree: -5 kB\n"]))
    return tree


def test_what_a_working_collector_could_not_read_is_visible_everywhere(tree: Path, tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        with server.client() as client:
            client.execute_command("ACL", "SETUSER", "monitor", "on", ">secret", "+@all", "-config|get", "~*")
        config = CONFIG.format(tree=tree, url=server.url)
        with agent(tmp_path, config) as program:
            get = httpx.Client(base_url=program.url, trust_env=False, timeout=60).get
            until(lambda: "system.meminfo" in get("/").text and 'redis_up{target="cache"} 1' in get("/metrics").text)
            until(lambda: "cannot parse" in get("/").text)
            page, metrics = get("/").text, get("/metrics").text
            lacks = {it["exporter"]: " ".join(it["lacks"]) for it in get("/health/detailed").json()["targets"]}
            health = get("/health").json()["status"]
            printed = program.printed
        checked = subprocess.run(
            deckwatch_command("check", "--config", str(tmp_path / "deckwatch.yml"), "--state-dir", str(tmp_path / "s")),
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    assert health == "ok"
    for text in (page, " ".join(checked.stdout.split())):
        assert "CONFIG GET" in text
        assert "cannot parse" in text
    assert "-5 kB" not in page, "foreign text is for the log and for `check`"
    assert "-5 kB" in checked.stdout
    assert "CONFIG GET" in lacks["redis"]
    assert "cannot parse" in lacks["system"]
    assert re.search(r'^redis_command_refused\{.*"CONFIG GET".*\} 1$', metrics, re.MULTILINE)
    assert re.search(r'^deckwatch_collector_parse_errors\{.*"system.meminfo".*\} 1$', metrics, re.MULTILINE)
    assert "refuses CONFIG GET" in printed
    assert "MemFree" in printed
