"""Connections to a Redis server: TLS, Unix sockets, users, databases, Sentinels and both protocols."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from certificates import Authority
from databases import LoggedRedisServer, RedisServer, redis_sentinel, redis_server, tls_redis_server
from exporters.redis.stand_in import stand_in
from exporters.redis.support import Target
from services import deckwatch_command, free_port, installed, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from exporters.redis.stand_in import Answer

PASSWORD = "s3cret:/@%"
SENTINEL = "for-the-sentinel"
ENCODED = "s3cret%3A%2F%40%25"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as running:
        yield running


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def tls(authority: Authority) -> Iterator[RedisServer]:
    """A TLS-only server that requires client certificates."""
    certificate, key = authority.issue("server")
    with tls_redis_server(authority.folder, certificate, key, "--tls-ca-cert-file", str(authority.file)) as server:
        yield server


def _tls(authority: Authority, **changed: Any) -> dict[str, Any]:
    certificate, key = authority.issue("client")
    return {"ca_file": str(authority.file), "cert_file": str(certificate), "key_file": str(key), **changed}


def test_rediss_connects_with_a_ca_and_a_client_certificate(tls: RedisServer, authority: Authority) -> None:
    with Target(f"rediss://127.0.0.1:{tls.port}", tls=_tls(authority)) as target:
        assert target.values()["redis_up"] == 1
        assert target.values()["redis_exporter_last_scrape_connect_time_seconds"] == 0  # it stays open


def test_a_certificate_from_an_unknown_authority_is_rejected(tls: RedisServer, authority: Authority) -> None:
    with Target(f"rediss://127.0.0.1:{tls.port}", tls=_tls(authority, ca_file="")) as target:
        error = target.run().error
        assert "TLS failed: certificate verify failed (" in error
        assert error.endswith("Check tls.ca_file")


def test_a_certificate_for_another_name_is_rejected_unless_verification_is_off(
    tls: RedisServer, authority: Authority
) -> None:
    with Target(f"rediss://localhost:{tls.port}", tls=_tls(authority)) as target:
        assert "localhost" in target.run().error
    with Target(f"rediss://localhost:{tls.port}", tls=_tls(authority, verify=False)) as target:
        assert target.values()["redis_up"] == 1


def test_the_run_fails_without_a_required_client_certificate(tls: RedisServer, authority: Authority) -> None:
    with Target(f"rediss://127.0.0.1:{tls.port}", tls={"ca_file": str(authority.file)}) as target:
        error = target.run().error
        assert "client certificate" in error
        assert "tls.cert_file" in error


def test_a_port_that_does_not_speak_tls_is_reported(server: RedisServer) -> None:
    with Target(server.url.replace("redis:", "rediss:"), timeout="400ms") as target:
        assert target.run().error.endswith("TLS handshake timed out. Check whether url names a TLS port")


def test_an_invalid_certificate_file_is_named(tls: RedisServer, authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    for file in (tmp_path / "ca.pem", tmp_path / "missing.pem"):
        with Target(f"rediss://127.0.0.1:{tls.port}", tls=_tls(authority, ca_file=str(file))) as target:
            error = target.run().error
            assert str(tls.port) in error
            assert f"tls.ca_file {file}: " in error


def test_sentinels_are_queried_over_tls_and_tls_errors_are_reported(
    tls: RedisServer, authority: Authority, tmp_path: Path
) -> None:
    with _tls_sentinel(tmp_path, tls, authority) as sentinel:
        url = f"rediss+sentinel://127.0.0.1:{sentinel.port}/mymaster"
        with Target(url, tls=_tls(authority)) as target:
            until(lambda: _values(target).get("redis_up") == 1, what="the master")
        with Target(url, tls=_tls(authority, ca_file="")) as target:
            error = target.run().error
            sentinels = "none of 1 Sentinels named a healthy master"
            assert f"{sentinels}: 127.0.0.1:{sentinel.port}: TLS failed: " in error
            assert error.endswith("Check tls.ca_file")


def test_a_connection_over_a_unix_socket_works(tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    with redis_server(tmp_path, "--unixsocket", str(path)), Target(f"unix://{path}?db=2") as target:
        assert target.values()["redis_up"] == 1
    with Target(f"unix://{path}.missing") as target:
        assert target.run().error == f"{path}.missing: No such file or directory"


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("where", ["url", "settings"])
def test_a_login_with_user_and_password_works(server: RedisServer, protocol: int, where: str) -> None:
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "monitor", "on", f">{PASSWORD}", "+@all", "~*")
        in_url = where == "url"
        url = server.url.replace("//", f"//monitor:{ENCODED}@") if in_url else server.url
        settings = {} if in_url else {"username": "monitor", "password": PASSWORD}
        with Target(url, protocol=protocol, **settings) as target:
            assert target.values()["redis_up"] == 1
            (ours,) = [one for one in client.client_list() if one["name"] == "deckwatch"]
            assert ours["user"] == "monitor"
            assert int(ours["resp"]) == protocol


@pytest.mark.parametrize("protocol", [2, 3])
def test_a_login_with_only_a_password_works(tmp_path: Path, protocol: int) -> None:
    with (
        redis_server(tmp_path, password=PASSWORD) as server,
        Target(server.url.replace("//", f"//:{ENCODED}@"), protocol=protocol) as target,
    ):
        assert target.values()["redis_up"] == 1


def test_both_protocols_give_the_same_values(server: RedisServer) -> None:
    with server.client() as client:
        client.set("a", 1)
        client.xadd("s", {"a": 1})
        client.xgroup_create("s", "g", id="0")
    settings: dict[str, Any] = {"keys": ["a"], "streams": ["s"], "client_list": True, "config_values": True}
    with Target(server.url, protocol=2, **settings) as two, Target(server.url, protocol=3, **settings) as three:
        for name in ("redis", "redis.keys"):
            two.values(name), three.values(name)
        for name in ("redis", "redis.keys"):
            old, new = two.values(name), three.values(name)
            assert len(old) > 10
            ignored = ("redis_connected_client_", "redis_exporter_last_scrape_error")
            assert {one for one in old if not one.startswith(ignored)} - new.keys() == set()


def test_protocol_2_is_used_if_the_server_does_not_support_hello(tmp_path: Path) -> None:
    port = free_port()
    flags = ["--port", str(port), "--save", "", "--requirepass", PASSWORD, "--rename-command", "HELLO", ""]
    server = LoggedRedisServer([installed("redis-server"), *flags], tmp_path, port)
    server.start()
    try:
        with Target(server.url, password=PASSWORD) as target:
            assert target.values()["redis_up"] == 1
        with Target(server.url, password="wrong") as target:
            assert "wrong user or password" in target.run().error
    finally:
        server.stop()


def test_a_server_with_a_renamed_or_disabled_config_command_is_monitored(tmp_path: Path) -> None:
    with redis_server(tmp_path, "--rename-command", "CONFIG", "HUSH") as server:
        with Target(server.url, config_command="HUSH") as target:
            assert target.values()["redis_config_maxclients"] == 10_000
        for command in ("CONFIG", False):
            with Target(server.url, config_command=command) as target:
                values = target.values()
                assert values["redis_up"] == 1
                assert "redis_config_maxclients" not in values


def test_the_password_can_be_read_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    with redis_server(tmp_path, password=PASSWORD) as server:
        config = tmp_path / "deckwatch.yml"
        config.write_text(
            f"exporters: {{redis: [{{name: cache, url: '{server.url}', password_file: '{tmp_path}/password'}}]}}\n"
        )
        done = subprocess.run(
            deckwatch_command("once", "redis", "--config", str(config)), capture_output=True, text=True
        )
    assert 'redis_up{target="cache"} 1' in done.stdout
    assert done.returncode == 0, done.stderr


def test_redis_url_in_the_environment_is_enough(server: RedisServer, tmp_path: Path) -> None:
    done = subprocess.run(
        deckwatch_command("once", "redis"),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "REDIS_URL": server.url},
    )
    assert "redis_memory_used_bytes" in done.stdout, done.stderr


def test_the_server_config_is_read_once_a_minute(server: RedisServer) -> None:
    with server.client() as client, Target(server.url) as target:
        for _ in range(5):
            assert target.values()["redis_config_maxmemory"] == 0
        assert client.info("commandstats")["cmdstat_config|get"]["calls"] == 1
        # The settings may have changed after a restart.
        server.stop()
        server.start()
        target.values()
        assert client.info("commandstats")["cmdstat_config|get"]["calls"] == 1


def test_no_more_commands_are_sent_than_redis_exporter_sends(server: RedisServer) -> None:
    with server.client() as client, Target(server.url) as target:
        target.cycle()
        before = client.info()["total_commands_processed"]
        for _ in range(10):
            target.cycle()
        # The current one sends CLIENT SETNAME, INFO, CONFIG GET, LATENCY LATEST, LATENCY HISTOGRAM, COMMAND INFO,
        # SLOWLOG LEN and SLOWLOG GET.
        assert (client.info()["total_commands_processed"] - before - 1) / 10 <= 5


@contextlib.contextmanager
def _tls_sentinel(folder: Path, master: RedisServer, authority: Authority) -> Iterator[RedisServer]:
    certificate, key = authority.issue("sentinel")
    port = free_port()
    config = folder / "sentinel.conf"
    config.write_text(
        f"port 0\ntls-port {port}\ntls-cert-file {certificate}\ntls-key-file {key}\n"
        f"tls-ca-cert-file {authority.file}\ntls-auth-clients no\ntls-replication yes\n"
        f"sentinel monitor mymaster 127.0.0.1 {master.port} 1\n"
    )
    command = [installed("redis-server"), str(config), "--sentinel"]
    sentinel = LoggedRedisServer(command, folder, port, ready="+monitor master mymaster")
    sentinel.start()
    try:
        yield sentinel
    finally:
        sentinel.stop()


@contextlib.contextmanager
def _watched_pair(folder: Path) -> Iterator[tuple[RedisServer, RedisServer, RedisServer]]:
    """A master, its replica, and a Sentinel that monitors both."""
    with (
        redis_server(folder, "--repl-diskless-sync-delay", "0") as first,
        redis_server(folder, "--replicaof", "127.0.0.1", str(first.port)) as second,
    ):
        # Before the Sentinel starts: it discovers replicas immediately, and then every ten seconds.
        with first.client() as client:
            until(lambda: client.info("replication").get("slave0", {}).get("state") == "online", what="the replica")
        with redis_sentinel(folder, first) as sentinel:
            yield first, second, sentinel


def test_the_connection_leaves_a_demoted_master(tmp_path: Path) -> None:
    with (
        _watched_pair(tmp_path) as (first, second, sentinel),
        sentinel.client() as client,
        Target(f"redis+sentinel://127.0.0.1:{sentinel.port}/mymaster") as target,
    ):
        until(lambda: client.sentinel_master("mymaster")["num-slaves"] == 1, what="the replica being found")
        assert _port(target.values()) == first.port
        client.execute_command("SENTINEL", "REMOVE", "mymaster")
        client.execute_command("SENTINEL", "MONITOR", "mymaster", "127.0.0.1", second.port, 1)
        second.client().replicaof("NO", "ONE")
        first.client().replicaof("127.0.0.1", second.port)
        until(lambda: client.sentinel_master("mymaster")["is_master"], what="the Sentinel seeing the new master")
        until(lambda: _port(_values(target)) == second.port, what="the new master")


def test_a_sentinel_url_resolves_to_the_master_and_follows_a_failover(tmp_path: Path) -> None:
    with (
        _watched_pair(tmp_path) as (first, second, sentinel),
        sentinel.client() as client,
        # One Sentinel is down, so the other one is queried.
        Target(f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{sentinel.port}/mymaster") as target,
    ):
        until(lambda: client.sentinel_master("mymaster")["num-slaves"] == 1, what="the replica being found")
        assert _port(target.values()) == first.port
        first.stop()
        error = until(lambda: target.run().error)
        assert "mymaster" in error
        until(lambda: _port(_values(target)) == second.port, what="the new master")


def test_a_sentinel_that_names_a_former_master_is_skipped(tmp_path: Path, server: RedisServer) -> None:
    with (
        redis_server(tmp_path, "--replicaof", "127.0.0.1", str(server.port)) as replica,
        stand_in({"SENTINEL GET-MASTER-ADDR-BY-NAME mymaster": ["127.0.0.1", str(replica.port)]}) as outdated,
        stand_in({"SENTINEL GET-MASTER-ADDR-BY-NAME mymaster": ["127.0.0.1", str(server.port)]}) as current,
    ):
        hosts = [one.url.removeprefix("redis://") for one in (outdated, current)]
        with Target(f"redis+sentinel://{','.join(hosts)}/mymaster") as target:
            assert _port(target.values()) == server.port
        with Target(f"redis+sentinel://{hosts[0]}/mymaster") as target:
            assert target.run().error.endswith(f"healthy master: 127.0.0.1:{replica.port}: the server is a replica")


@pytest.mark.parametrize(
    "reply", [["127.0.0.1"], ["127.0.0.1", "port"], ["127.0.0.1", "99999"], "127.0.0.1", 1, [], None], ids=repr
)
def test_a_malformed_sentinel_reply_is_rejected(reply: Answer) -> None:
    with (
        stand_in({"SENTINEL GET-MASTER-ADDR-BY-NAME mymaster": reply}) as sentinel,
        Target(f"redis+sentinel://{sentinel.url.removeprefix('redis://')}/mymaster") as target,
    ):
        assert target.run().error.endswith("Check the service in the URL")


def test_a_host_name_that_cannot_be_encoded_is_reported() -> None:
    with (
        stand_in({"SENTINEL GET-MASTER-ADDR-BY-NAME mymaster": [b"a..\xff", "6379"]}) as sentinel,
        Target(f"redis+sentinel://{sentinel.url.removeprefix('redis://')}/mymaster") as target,
    ):
        assert "none of 1 Sentinels named a healthy master" in target.run().error


def test_every_address_of_a_host_is_tried(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(_host: str, port: int, **_: Any) -> list[Any]:
        addresses = ("127.0.0.2", "127.0.0.1")  # the server listens on the second one
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with Target(f"redis://server.example:{server.port}") as target:
        assert target.values()["redis_up"] == 1
    with Target(f"redis://server.example:{free_port()}") as target:
        assert target.run().error.endswith("Connection refused")


def test_a_master_name_unknown_to_all_sentinels_is_reported(tmp_path: Path, server: RedisServer) -> None:
    with (
        redis_sentinel(tmp_path, server) as sentinel,
        Target(f"redis+sentinel://127.0.0.1:{sentinel.port}/other") as target,
    ):
        error = target.run().error
        assert error.startswith("other (of Sentinel 127.0.0.1:")
        assert "none of 1 Sentinels named a healthy master" in error


def _values(target: Target) -> dict[str, float]:
    snapshot = target.run()
    return {sample.series.text.rstrip(): sample.value for family in snapshot.families for sample in family.samples}


def _port(values: dict[str, float]) -> int | None:
    ports = [name.partition('tcp_port="')[2].partition('"')[0] for name in values if name.startswith("redis_instance")]
    return int(ports[0]) if ports else None


def test_hanging_sentinels_share_one_timeout_and_leave_time_for_the_next(tmp_path: Path, server: RedisServer) -> None:
    with (
        redis_sentinel(tmp_path, server) as one,
        redis_sentinel(tmp_path, server) as other,
        one.client() as client_of_one,
        other.client() as client_of_other,
    ):

        def connections() -> list[int]:
            return [it.info("stats")["total_connections_received"] for it in (client_of_one, client_of_other)]

        before = connections()
        one.freeze()
        other.freeze()
        url = f"redis+sentinel://127.0.0.1:{one.port},127.0.0.1:{other.port}/mymaster"
        with Target(url, timeout="3s") as target:
            assert target.run().error
            one.thaw()
            other.thaw()
            until(lambda: connections() == [count + 1 for count in before], what="one connection to each")
            one.freeze()  # it must not use up the whole timeout
            until(lambda: _port(_values(target)) == server.port, what="the master")
            one.thaw()


def test_a_sentinel_can_have_its_own_password(tmp_path: Path, server: RedisServer) -> None:
    with redis_sentinel(tmp_path, server, f"requirepass {SENTINEL}", password=SENTINEL) as sentinel:
        url = f"redis+sentinel://127.0.0.1:{sentinel.port}/mymaster"
        with Target(url, sentinel_password=SENTINEL) as target:
            until(lambda: _port(_values(target)) == server.port, what="the master")
        with Target(url) as target:
            error = target.run().error
            assert error.endswith("the Sentinel requires a password. Set sentinel_password")
            assert SENTINEL not in error
