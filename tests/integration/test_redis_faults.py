"""Faults of real Redis servers: down, restarted, frozen, access denied, or another service on the port."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import redis

from databases import RedisServer, redis_server
from deckwatch_exporters.redis import EXPORTER
from exporters.redis.support import Target, failed
from services import Program, agent, deckwatch_command, fetch, free_port, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from deckwatch.collection.run import Snapshot

PASSWORD = "correct-horse-battery"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as running:
        yield running


def test_a_server_that_is_down_at_startup_is_monitored_once_it_is_up(tmp_path: Path) -> None:
    with redis_server(tmp_path, start=False) as server, Target(server.url) as target:
        down = target.run()
        assert failed(down)["redis_up"] == 0
        assert down.error == f"127.0.0.1:{server.port}: Connection refused"
        server.start()
        assert target.values()["redis_up"] == 1


def test_the_agent_reconnects_after_a_server_restart(server: RedisServer) -> None:
    with Target(server.url) as target:
        assert target.values()["redis_up"] == 1
        server.stop()
        gone = failed(target.run())
        assert gone["redis_up"] == 0
        assert "redis_memory_used_bytes" not in gone
        server.start()
        assert target.values()["redis_up"] == 1


def test_a_connection_closed_by_the_server_between_runs_does_not_fail_a_run(server: RedisServer) -> None:
    with Target(server.url) as target, server.client() as client:
        target.values()
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        assert target.values()["redis_up"] == 1


def test_each_server_has_one_connection_with_a_client_name(server: RedisServer) -> None:
    with Target(server.url, keys=["a"], streams=["b"]) as target, server.client() as client:
        for _ in range(3):
            target.cycle()
        assert [one["name"] for one in client.client_list() if one["id"] != str(client.client_id())] == ["deckwatch"]


def test_all_collectors_of_a_frozen_server_share_one_timeout(server: RedisServer) -> None:
    with Target(server.url, timeout="1s", keys=["a"]) as target, server.client() as client:
        target.cycle()
        before = client.info("stats")["total_connections_received"]
        server.freeze()
        try:
            for _ in range(2):  # on the open connection, then on a new one that the kernel accepts
                snapshots = target.cycle()
                assert failed(snapshots["redis"])["redis_up"] == 0
                assert snapshots["redis"].error.endswith("no answer within 1 s")
                assert list(snapshots) == ["redis"]
        finally:
            server.thaw()
        # The second cycle opened one for its first collector; the others did not open their own.
        until(lambda: client.info("stats")["total_connections_received"] == before + 1, what="one connection")
        assert target.values()["redis_up"] == 1


def test_metrics_are_served_while_a_server_is_frozen_for_more_than_three_intervals(
    server: RedisServer, tmp_path: Path
) -> None:
    config = f"interval: 500ms\nexporters: {{redis: [{{name: cache, url: '{server.url}', timeout: 400ms}}]}}\n"

    def last_run(program: Program) -> float:
        status = json.loads(fetch(program.url + "/api/v1/status")[1])
        (ended,) = (it["last_run"] for it in status["collectors"] if it["name"] == "redis")
        return float(ended)

    with agent(tmp_path, config) as program:
        until(lambda: 'redis_up{target="cache"} 1' in program.metrics())
        server.freeze()
        try:
            until(lambda: 'redis_up{target="cache"} 0' in program.metrics(), what="redis_up 0")
            runs = set()

            def answered() -> int:
                text = program.metrics()
                assert "redis_memory_used_bytes" not in text
                assert 'redis_up{target="cache"} 1' not in text
                runs.add(last_run(program))
                return len(runs)

            until(lambda: answered() > 3, what="three more runs")
        finally:
            server.thaw()
        until(lambda: 'redis_up{target="cache"} 1' in program.metrics(), what="redis_up 1")


def test_a_wrong_password_is_reported_without_the_password(tmp_path: Path) -> None:
    with redis_server(tmp_path, password=PASSWORD) as server:
        url = server.url.replace("//", "//:not-the-right-one@")
        with Target(url) as target:
            snapshot = target.run()
        assert failed(snapshot)["redis_up"] == 0
        assert "wrong user or password" in snapshot.error
        shown = snapshot.error + repr(target.settings) + str(snapshot.families)
        with Target(server.url) as target:
            snapshot = target.run()
        assert "Set password or password_file" in snapshot.error
        config = tmp_path / "wrong.yml"
        config.write_text(f"exporters: {{redis: [{{name: cache, url: '{url}'}}]}}\n")
        for command in (("check",), ("once", "redis")):
            done = subprocess.run(deckwatch_command(*command, "--config", str(config)), capture_output=True, text=True)
            assert done.returncode != 0
            shown += done.stdout + done.stderr
        assert "wrong user or password" in shown
        assert "not-the-right-one" not in shown


def test_a_changed_password_is_reported_after_the_connection_closes(tmp_path: Path) -> None:
    with (
        redis_server(tmp_path, password=PASSWORD) as server,
        server.client() as client,
        Target(server.url, password=PASSWORD) as target,
    ):
        assert target.values()["redis_up"] == 1
        client.config_set("requirepass", "another-one")
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        assert "wrong user or password" in target.run().error


def test_series_denied_by_an_acl_are_absent_and_all_others_are_exported(server: RedisServer) -> None:
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "monitor", "on", f">{PASSWORD}", "+info", "+slowlog|len")
        with Target(server.url, username="monitor", password=PASSWORD) as target:
            for _ in range(3):
                values = target.values()
                assert values["redis_up"] == 1
                assert values["redis_memory_used_bytes"] > 0
                assert values["redis_slowlog_length"] == 0
                assert not [name for name in values if name.startswith(("redis_config_", "redis_slowlog_last_id"))]
                # The first database always exists; the number of others needs CONFIG.
                assert [name for name in values if name.startswith("redis_db_keys{")] == ['redis_db_keys{db="db0"}']
            # Denied commands are not repeated: each denial adds an entry to the server's ACL log.
            assert client.info("commandstats")["cmdstat_config|get"]["rejected_calls"] == 1
            assert "NOPERM" in target.run("redis.slowlog").error


def test_without_permission_for_info_the_error_gives_the_grant(server: RedisServer) -> None:
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "monitor", "on", f">{PASSWORD}", "+slowlog|get", "+slowlog|len")
        with Target(server.url, username="monitor", password=PASSWORD) as target:
            for _ in range(2):
                snapshots = target.cycle()
                assert "INFO failed (NOPERM" in snapshots["redis"].error
                assert snapshots["redis"].remedy == "ACL SETUSER monitor +info"
                assert not snapshots["redis"].is_unreachable
                assert not snapshots["redis.slowlog"].error  # is permitted, and continues
            client.execute_command(*snapshots["redis"].remedy.split())
            values = target.values()
            assert values["redis_up"] == 1
            assert values["redis_memory_used_bytes"] > 0


@contextlib.contextmanager
def _busy(server: RedisServer) -> Iterator[None]:
    """Run a 12 s script on the server; it can be killed earlier."""
    script = "local t = redis.call('TIME')[1] while redis.call('TIME')[1] - t < 12 do end"

    def run() -> None:
        with contextlib.suppress(redis.ResponseError), server.client() as client:  # the script is killed
            client.eval(script, 0)

    def is_busy() -> bool:
        try:
            client.ping()
        except redis.BusyLoadingError:
            raise
        except redis.ResponseError as error:
            return str(error).startswith("BUSY")
        return False

    runner = threading.Thread(target=run)
    runner.start()
    with server.client() as client:
        try:
            until(is_busy, what="the server being busy")
            yield
        finally:
            with contextlib.suppress(redis.ResponseError):  # it has ended
                client.script_kill()
            runner.join()


def test_a_busy_server_is_down_and_complete_at_the_first_run_afterwards(tmp_path: Path) -> None:
    with redis_server(tmp_path, "--busy-reply-threshold", "100") as server:
        with server.client() as client:
            client.set("a", 1)
        settings: dict[str, Any] = {"timeout": "30s", "keys": ["a"]}
        with Target(server.url, **settings) as known, Target(server.url, **settings) as fresh:
            before = known.cycle()
            assert not [snapshot.error for snapshot in before.values() if snapshot.error]
            with _busy(server):
                for target in (known, fresh):
                    for name, snapshot in target.cycle().items():
                        assert "BUSY Redis is busy" in snapshot.error, name
                    assert failed(target.run())["redis_up"] == 0
                assert list(EXPORTER.check(known.settings)) == []
            for target in (known, fresh):
                after = target.cycle()
                assert not [snapshot.error for snapshot in after.values() if snapshot.error]
                for name in before:
                    assert _names(after[name]) >= _names(before[name])


def _names(snapshot: Snapshot) -> set[str]:
    return {family.metric.name for family in snapshot.families}


def test_check_gives_the_grant_for_each_denied_command(server: RedisServer) -> None:
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "monitor", "on", f">{PASSWORD}", "+info", "+select", "~*")
        settings: dict[str, Any] = {"username": "monitor", "password": PASSWORD, "keys": ["a", "b:*"], "streams": ["s"]}
        with Target(server.url, **settings) as target:
            findings = list(EXPORTER.check(target.settings))
            remedies = [finding.remedy for finding in findings]
            assert "ACL SETUSER monitor +slowlog|get" in remedies
            assert "ACL SETUSER monitor +xinfo|groups" in remedies
            assert all(finding.state == "missing" for finding in findings)
            # The last one grants everything: after it, no command is denied.
            client.execute_command(*remedies[-1].split())
            assert [finding.state for finding in EXPORTER.check(target.settings)] == ["ok"]
            client.xadd("s", {"a": 1})
            client.execute_command("ACL", "LOG", "RESET")
            assert not [snapshot.error for snapshot in target.cycle().values() if snapshot.error]
            assert client.execute_command("ACL", "LOG") == []


def test_check_names_the_keys_hidden_by_an_acl(server: RedisServer) -> None:
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "monitor", "on", f">{PASSWORD}", "+@all", "~other")
        with Target(server.url, username="monitor", password=PASSWORD, keys=["tasks"]) as target:
            remedies = [finding.remedy for finding in EXPORTER.check(target.settings)]
    assert "ACL SETUSER monitor ~tasks" in remedies


def test_check_says_that_the_slow_log_is_off(server: RedisServer) -> None:
    with server.client() as client, Target(server.url) as target:
        client.config_set("slowlog-log-slower-than", -1)
        assert "CONFIG SET slowlog-log-slower-than 10000" in [one.remedy for one in EXPORTER.check(target.settings)]
        client.config_set("slowlog-log-slower-than", 10000)
        client.config_set("latency-monitor-threshold", 0)  # off by default, which is not a fault
        assert [one.state for one in EXPORTER.check(target.settings)] == ["ok"]


@contextlib.contextmanager
def _listener(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A listening service that is not Redis."""
    with socket.create_server(("127.0.0.1", free_port())) as listening:
        open_ones: list[socket.socket] = []

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    open_ones.append(connection)
                    with contextlib.suppress(OSError):
                        answer(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            for one in open_ones:
                one.close()
            thread.join(60)


def _says(text: bytes) -> Callable[[socket.socket], None]:
    def answer(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(text)

    return answer


def _says_and_closes(text: bytes) -> Callable[[socket.socket], None]:
    def answer(connection: socket.socket) -> None:
        _says(text)(connection)
        connection.shutdown(socket.SHUT_RDWR)
        connection.close()

    return answer


def _drips(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(b"$100000\r\n")
    while True:  # until the client disconnects
        connection.sendall(b"x")
        time.sleep(0.01)


def _answers_slowly(connection: socket.socket) -> None:
    """Each reply is within the timeout, but all of them together exceed it."""
    for reply in (b"%0\r\n", b"$0\r\n\r\n"):
        connection.recv(65536)
        time.sleep(0.15)
        connection.sendall(reply)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (_says(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "not the Redis protocol"),
        (_says(b"\x00\x01\x02garbage"), "not the Redis protocol"),
        (_says(b"*9999999999\r\n"), "not the Redis protocol"),
        (_says(b"$99999999999\r\n"), "not the Redis protocol"),
        (_says(b"+OK\r\n+OK\r\n+OK\r\n"), "more replies than commands"),
        (_says(b"*1\r\n" * 2000), "not the Redis protocol"),
        (_says(b""), "no answer within 0.2 s"),
        (_says(b"$50\r\nhalf of it"), "no answer within 0.2 s"),
        (_drips, "no answer within 0.2 s"),
        (_answers_slowly, "no answer within 0.2 s"),
        (_says_and_closes(b""), "closed the connection"),
        (_says_and_closes(b"$50\r\nhalf of it"), "closed the connection"),
    ],
)
def test_a_service_that_is_not_redis_is_reported(answer: Callable[[socket.socket], None], why: str) -> None:
    with _listener(answer) as port, Target(f"redis://127.0.0.1:{port}", timeout="200ms") as target:
        snapshot = target.run()
        assert failed(snapshot)["redis_up"] == 0
        assert why in snapshot.error


def test_an_agent_without_redis_targets_does_not_load_the_library() -> None:
    code = "import sys, deckwatch_exporters.redis; sys.exit('hiredis' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_missing_client_library_is_reported_with_the_install_command() -> None:
    code = (
        "import sys; sys.modules['hiredis'] = None\n"
        "from exporters.redis.support import Target\n"
        "print(Target('redis://127.0.0.1:1').run().error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": "tests"})
    assert "pip install 'deckwatch[redis]'" in done.stdout, done.stderr


def test_a_target_that_is_down_does_not_affect_other_targets(server: RedisServer, tmp_path: Path) -> None:
    config = (
        "interval: 500ms\nexporters:\n  redis:\n"
        f"    - {{name: up, url: '{server.url}'}}\n    - {{name: down, url: 'redis://127.0.0.1:{free_port()}'}}\n"
    )
    with agent(tmp_path, config) as program:
        text = until(lambda: text if 'redis_up{target="down"} 0' in (text := program.metrics()) else "")
        until(lambda: 'redis_memory_used_bytes{target="up"}' in program.metrics())
        assert "Unreachable" not in text
        assert fetch(program.url + "/metrics?target=down")[0] == 200
