"""Every Redis command of the runbooks works on a real server in the state that the alert describes."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from databases import redis_server
from server_versions import REDIS
from services import installed

from .redis_states import STATES, State, Version
from .rule_files import ALERTS
from .runbook_texts import RUNBOOKS, redis_commands, spans

if TYPE_CHECKING:
    from pathlib import Path

VERSIONS = [version for version in map(Version, ("redis", *REDIS)) if version.name == "redis" or version.program]
#: `redis-cli` on the PATH of the commands: it records each call, its status and its output. With -e, an error reply is
#: a failure. On the server's host, the runbooks leave out its address, which is not the default in the tests.
_RECORDER = """#!/bin/bash
[[ " $* " == *" -p "* ]] || set -- -p "$PORT" "$@"
record=$(mktemp "$RECORDS/XXXXXX")
"$REDIS_CLI" -e "$@" > "$record.out" 2>&1
echo $? > "$record.status"
echo "$@" > "$record.call"
cat "$record.out"
exit "$(cat "$record.status")"
"""


@dataclass(frozen=True)
class Terminal:
    """A shell in which the variables of the runbooks are set for a state."""

    folder: Path
    state: State

    def run(self, command: str) -> tuple[str, list[str]]:
        """Return the output, and the replies that were errors."""
        records, programs = self.folder / "records", self.folder / "bin"
        for path in (records, programs):
            path.mkdir(exist_ok=True)
        for path in records.iterdir():
            path.unlink()
        cli = programs / "redis-cli"
        cli.write_text(_RECORDER)
        cli.chmod(0o755)
        sentinel = self.state.sentinel or self.state.server
        environ = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "RECORDS": str(records),
            "REDIS_CLI": installed("redis-cli"),
            "PORT": str(self.state.server.port),
            "SENTINEL": "127.0.0.1",
            "MASTER_NAME": "mymaster",
            **dict.fromkeys(("HOST", "REPLICA"), "127.0.0.1"),
        }
        for placeholder, value in {
            "26379": str(sentinel.port),
            " NAME": " mymaster",
            "NEW_HOST 6379": "127.0.0.1 6379",
            "12345": str(self.state.client_id),
            "maxclients 20000": "maxclients 500",  # the host of the tests may not allow more
            "intrinsic-latency 10": "intrinsic-latency 1",
            "/var/log/redis/redis-server.log": str(self.state.server.folder / "server.log"),
        }.items():
            command = command.replace(placeholder, value)
        typed = next((text for part, text in self.state.typed.items() if part in command), "")
        if "redis-cli" not in command and "server.log" not in command:  # it is typed into an open session
            port = f"-p {sentinel.port}" if command.startswith("sentinel ") else ""
            typed, command = command, f"redis-cli {port}"
        run = subprocess.run(
            ["bash", "-c", command], env=environ, input=typed, capture_output=True, text=True, check=False
        )
        assert run.stderr == "", command
        calls = [path.with_suffix("") for path in records.glob("*.call")]
        assert bool(calls) == ("redis-cli" in command), command
        errors = [
            call.with_suffix(".out").read_text()
            for call in calls
            if call.with_suffix(".status").read_text().strip() != "0"
            or re.search(r"(?m)^\(?(ERR|error)\b", call.with_suffix(".out").read_text())
        ]
        return run.stdout.strip(), errors


def test_every_runbook_with_redis_commands_has_a_state() -> None:
    assert {path.stem for path in RUNBOOKS if redis_commands(path)} == set(STATES)


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
@pytest.mark.parametrize("path", [path for path in RUNBOOKS if path.stem in STATES], ids=lambda path: path.stem)
def test_every_command_is_answered_in_the_state_of_the_alert(path: Path, version: Version, tmp_path: Path) -> None:
    if path.stem == "RedisClusterDown" and version.name == "redis-6.2":
        pytest.skip("its cluster bus has a fixed port, which the tests cannot reserve")
    with STATES[path.stem](tmp_path, version) as state:
        terminal = Terminal(tmp_path, state)
        for command in redis_commands(path):
            for part, prepare in state.before.items():
                if part in command:
                    prepare()
            output, errors = terminal.run(command)
            expected = next((pattern for part, pattern in state.reports.items() if part in command), None)
            assert re.search(expected or ".", output), f"{command}: {output}"
            assert not errors or (expected and all(re.search(expected, error) for error in errors)), command


def test_the_causes_of_redis_down_have_the_errors_that_the_runbook_names(tmp_path: Path) -> None:
    text = (ALERTS / "runbooks" / "RedisDown.md").read_text()
    ping = next(command for command in redis_commands(ALERTS / "runbooks" / "RedisDown.md") if " ping" in command)
    with redis_server(tmp_path, password="secret") as server:
        terminal = Terminal(tmp_path, State(server))
        found = [terminal.run(ping)]
        found.append(terminal.run(ping.replace("redis-cli", "redis-cli -a wrong --no-auth-warning")))
        with server.client() as client:
            client.mset({f"key:{n}": "x" * 1000 for n in range(2000)})
            client.save()
        server.stop()
        found.append(terminal.run(ping))
        slowly = "--key-load-delay 5000 --loading-process-events-interval-bytes 1024"
        with_password = ping.replace("redis-cli", "redis-cli -a secret --no-auth-warning")
        server.command = [*server.command, *slowly.split()]
        server.answers = lambda: "LOADING" in str(terminal.run(with_password))  # type: ignore[method-assign]
        server.start()
        found.append(terminal.run(with_password))
    for (_, errors), word in zip(found, ("NOAUTH", "WRONGPASS", "Connection refused", "LOADING"), strict=True):
        assert word in str(errors)
        assert f"`{word}`" in text


def test_a_missing_password_of_a_replica_is_told_from_one_that_is_set(tmp_path: Path) -> None:
    path = ALERTS / "runbooks" / "RedisReplicationBroken.md"
    (command,) = [command for command in redis_commands(path) if "masterauth" in command]
    with redis_server(tmp_path, "--masterauth", "secret") as server:
        output, _ = Terminal(tmp_path, State(server)).run(command)
    assert output == str(len("secret\n"))
    assert "1: no password is set" in command


def test_the_procedure_for_a_damaged_append_only_file_reports_and_then_cuts_it(tmp_path: Path) -> None:
    path = ALERTS / "runbooks" / "RedisDown.md"
    check = next(span for span in spans(path) if span.startswith("redis-check-aof /"))
    copy = next(span for span in spans(path) if span.startswith("cp -a "))
    with redis_server(tmp_path, "--appendonly", "yes") as server:
        with server.client() as client:
            client.set("order", 1)
            client.set("order", 2)
        server.stop()
        (log,) = (server.folder / "appendonlydir").glob("*.incr.aof")
        with log.open("rb+") as file:
            file.truncate(log.stat().st_size - 5)
        check, copy = (command.replace("/var/lib/redis", str(server.folder)) for command in (check, copy))
        subprocess.run(["bash", "-c", copy], check=True)
        looked = subprocess.run(["bash", "-c", check], capture_output=True, text=True, check=False)
        assert re.search(r"ok_up_to=\d+.*diff=[1-9]", looked.stdout)
        repair = check.replace("redis-check-aof", "redis-check-aof --fix")
        subprocess.run(["bash", "-c", repair], input="y\n", text=True, check=True, capture_output=True)
        server.start()
        with server.client() as client:
            assert client.get("order") == b"1"
