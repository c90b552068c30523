"""Common mistakes and unusual input of new users: a clear message and the right exit code for each."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest

from services import agent, deckwatch_command, fetch, free_port, running, until

if TYPE_CHECKING:
    from pathlib import Path


def deckwatch(folder: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        deckwatch_command(*arguments),
        cwd=folder,
        env={**os.environ, "STATE_DIRECTORY": str(folder / "state"), **environ},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def check(folder: Path, config: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "deckwatch.yml").write_text(config)
    return deckwatch(folder, "check", *arguments)


def test_the_version_is_also_an_option(tmp_path: Path) -> None:
    assert deckwatch(tmp_path, "--version").stdout == deckwatch(tmp_path, "version").stdout


def test_a_port_in_use_is_a_failure_that_a_supervisor_may_retry(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        refused = deckwatch(tmp_path, "run", "--listen", f"127.0.0.1:{taken.getsockname()[1]}")
    assert refused.returncode == 1
    assert "the port is in use" in refused.stderr


def test_an_address_that_the_host_does_not_have_is_a_failure_that_a_supervisor_may_retry(
    tmp_path: Path,
) -> None:
    refused = deckwatch(tmp_path, "run", "--listen", "192.0.2.1:9797")
    assert refused.returncode == 1
    assert "does not belong to this host" in refused.stderr


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 on this machine")
def test_an_ipv6_address_without_brackets_is_accepted_and_printed_with_them(tmp_path: Path) -> None:
    port = free_port()
    command = deckwatch_command("run", "--listen", f"::1:{port}")
    with running(command, f"http://[::1]:{port}", "/-/ready", tmp_path / "log", cwd=tmp_path) as program:
        assert fetch(f"{program.url}/-/healthy")[0] == 200
    assert f"http://[::1]:{port}/" in program.printed


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ("listen: 9797\n", "found 9797; expected a host and a port such as 127.0.0.1:9797"),
        ("web_config: absent.yml\n", "absent.yml: no such file"),
        (
            "exporters: {system: {disable: [cpuu]}}\n",
            "exporters.system.disable: unknown collector 'cpuu' (did you mean 'cpu'?)",
        ),
        (
            "logs: {loki: {url: 'http://127.0.0.1:9'}, spool: {max_bytes: 12}}\n",
            "logs.spool.max_bytes: found 12; expected at least 256KiB",
        ),
    ],
)
def test_check_rejects_what_run_rejects_and_shows_the_value(tmp_path: Path, config: str, says: str) -> None:
    for command in (["check"], ["run", "--listen", f"127.0.0.1:{free_port()}"]):
        (tmp_path / "deckwatch.yml").write_text(config)
        refused = deckwatch(tmp_path, *command)
        assert refused.returncode == 2, command
        assert says in refused.stderr


def test_check_reports_a_directory_as_a_log_file(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    config = f"exporters: {{}}\nlogs: {{loki: {{url: 'http://127.0.0.1:9'}}, files: [{{path: {tmp_path}/app}}]}}\n"
    checked = check(tmp_path, config)
    assert checked.returncode == 2
    assert f"{tmp_path}/app is a directory" in checked.stdout
    assert f"name files: {tmp_path}/app/*.log" in checked.stdout


def test_top_level_keys_for_yaml_anchors_are_ignored(tmp_path: Path) -> None:
    checked = check(tmp_path, "x-common: &common {interval: 30s}\nexporters: {system: {<<: *common}}\n")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_missing_secret_files_are_accepted_with_an_option(tmp_path: Path) -> None:
    config = "exporters:\n  redis: [{name: cache, url: 'redis://127.0.0.1:1', password_file: /nowhere/redis}]\n"
    refused = check(tmp_path, config)
    assert refused.returncode == 2
    assert "'/nowhere/redis' cannot be read" in refused.stderr
    accepted = check(tmp_path, config, "--allow-missing-secrets")
    assert accepted.returncode == 0, accepted.stdout
    assert "/nowhere/redis does not exist yet" in accepted.stdout


def test_a_missing_client_library_affects_only_its_target(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text("import sys\nsys.modules['psycopg'] = None\n")
    config = "exporters:\n  system: {}\n  postgres: [{name: main, dsn: 'postgresql://127.0.0.1:1/app'}]\n"
    with agent(tmp_path, config, PYTHONPATH=str(tmp_path / "site")) as program:
        text = fetch(program.url + "/metrics")[1]
        status = json.loads(fetch(program.url + "/api/v1/status")[1])
    assert "node_load1" in text
    assert 'pg_up{target="main"} 0' in text
    errors = [it["error"] for it in status["collectors"] if it["exporter"] == "postgres" and it["error"]]
    assert len(errors) == 1
    assert "pip install 'deckwatch[postgres]'" in errors[0]


def test_one_unreachable_server_is_one_log_line_and_one_failing_collector(tmp_path: Path) -> None:
    config = "exporters:\n  postgres: [{name: main, dsn: 'postgresql://127.0.0.1:1/app'}]\n"
    with agent(tmp_path, config) as program:
        status = json.loads(fetch(program.url + "/api/v1/status")[1])
    states = {it["name"]: it["state"] for it in status["collectors"] if it["exporter"] == "postgres"}
    assert states.pop("postgres.server") == "failing"
    assert set(states.values()) == {"not_run"}
    warnings = [line for line in program.printed.splitlines() if "WARNING" in line]
    assert len(warnings) == 1
    assert r"postgres \"main\" is unreachable" in warnings[0]
    checked = check(tmp_path, config)
    assert checked.returncode == 2
    assert len([line for line in checked.stdout.splitlines() if " failed " in line]) == 1
    assert "more collectors" in checked.stdout


def test_deleting_the_loaded_config_file_does_not_reset_to_the_defaults(tmp_path: Path) -> None:
    with agent(tmp_path, "exporters: {system: {}}\n") as program:
        (tmp_path / "deckwatch.yml").unlink()
        program.process.send_signal(signal.SIGHUP)
        until(lambda: "the config file that was loaded no longer exists" in program.printed)
        assert json.loads(fetch(program.url + "/api/v1/status")[1])["config_loaded"] is False
        assert "node_load1" in fetch(program.url + "/metrics")[1]


def test_a_loki_that_rejects_pushes_is_shown_in_health_and_status(tmp_path: Path) -> None:
    config = f"exporters: {{}}\nlogs: {{loki: {{url: 'http://127.0.0.1:{free_port()}', name: main}}}}\n"
    with agent(tmp_path, config) as program:

        def state() -> str:
            logs = json.loads(fetch(program.url + "/api/v1/status")[1])["logs"]
            return str(logs[0]["state"]) if logs else ""

        until(lambda: state() == "failing")
        health = json.loads(fetch(program.url + "/health")[1])
        detailed = json.loads(fetch(program.url + "/health/detailed")[1])
        dependencies = json.loads(fetch(program.url + "/health/dependencies")[1])
        page = fetch(program.url + "/")[1]
    assert health == {"status": "degraded", "failing": ["logs to main"]}
    assert "refused" in detailed["logs"][0]["error"]
    assert [it["target"] for it in dependencies] == ["main"]
    assert "Loki main" in page
