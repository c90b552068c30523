"""Redis servers in the states that alerts describe, for the commands of the runbooks."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import redis

from databases import RedisServer, redis_sentinel, redis_server
from server_versions import redis_program
from services import free_port, installed, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path


@dataclass
class State:
    """Servers, and what their commands report in this state.

    `server` is the alert's, `sentinel` a Sentinel or any server. `client_id`: a connection that may be ended.
    `reports`: by a part of a command, the pattern of its output; if the output is an error reply, this is what the
    alert is about. `before`: by a part of a command, what must happen first. `typed`: by a command, its input.
    """

    server: RedisServer
    sentinel: RedisServer | None = None
    client_id: int = 0
    reports: Mapping[str, str] = field(default_factory=dict)
    before: Mapping[str, Callable[[], object]] = field(default_factory=dict)
    typed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Version:
    """A version of Redis, installed as the distribution's or from a package."""

    name: str

    @property
    def program(self) -> Path | None:
        return None if self.name == "redis" else redis_program(self.name)

    def start(self, folder: Path, *flags: str, password: str = "") -> AbstractContextManager[RedisServer]:
        return redis_server(folder, *flags, password=password, program=self.program)

    def sentinel(self, folder: Path, master: RedisServer, quorum: int = 1) -> AbstractContextManager[RedisServer]:
        return redis_sentinel(folder, master, quorum=quorum, program=self.program)

    @contextlib.contextmanager
    def pair(self, folder: Path) -> Iterator[tuple[RedisServer, RedisServer]]:
        """A master and its replica."""
        with (
            self.start(folder, "--repl-diskless-sync-delay", "0") as master,
            self.start(folder, "--replicaof", "127.0.0.1", str(master.port)) as replica,
            master.client() as client,
        ):
            until(lambda: client.info("replication").get("slave0", {}).get("state") == "online", what="the replica")
            yield master, replica


def _sentinel_value(sentinel: RedisServer, name: str) -> Any:
    with sentinel.client() as client:
        return client.sentinel_master("mymaster")[name]


@contextlib.contextmanager
def idle(folder: Path, version: Version) -> Iterator[State]:
    with version.start(folder) as server:
        yield State(server, reports={" ping": "PONG", "redis-server.log": "Server initialized"})


@contextlib.contextmanager
def with_connections(folder: Path, version: Version) -> Iterator[State]:
    with version.start(folder) as server, contextlib.ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(server.client(client_name="worker")).ping()
        with server.client() as client:
            until(lambda: len(client.client_list()) == 6, what="the connections")
        # Each client counts once: five workers and redis-cli itself.
        reports = {"uniq -c": r"\A *5 +name=worker\n *6 +addr=127\.0\.0\.1\Z", "idle=": "idle="}
        yield State(server, reports=reports)


@contextlib.contextmanager
def at_its_connection_limit(folder: Path, version: Version) -> Iterator[State]:
    with version.start(folder, "--maxclients", "10") as server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.client(single_connection_client=True)) for _ in range(10)]
        until(lambda: len(clients[0].client_list()) == 10, what="the connections")
        command = [installed("redis-cli"), "-p", str(server.port), "ping"]
        refused = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "max number of clients reached" in refused.stdout + refused.stderr
        clients.pop().close()  # the worker that is stopped first
        until(lambda: len(clients[0].client_list()) == 9, what="a free connection")
        session = 'redis-cli -h "$HOST" -p "$PORT"'
        yield State(
            server,
            typed={session: "client list"},
            reports={"uniq -c": r"\A10 +addr=127\.0\.0\.1\Z", "client kill type": r"\A9\Z", "client list": "addr="},
        )


@contextlib.contextmanager
def with_slow_commands(folder: Path, version: Version) -> Iterator[State]:
    with version.start(folder, "--slowlog-log-slower-than", "0") as server, server.client() as client:
        client.keys("*")
        yield State(server, reports={"slowlog get": "KEYS"})


@contextlib.contextmanager
def with_little_used_keys(folder: Path, version: Version) -> Iterator[State]:
    with version.start(folder) as server, server.client() as client:
        for n in range(20):
            client.get(f"missing:{n}")
        yield State(server, reports={"commandstats": r"\Acmdstat_get:calls=20,"})


@contextlib.contextmanager
def at_maxmemory(folder: Path, version: Version) -> Iterator[State]:
    with version.start(folder, "--maxmemory", "4mb") as server, server.client() as client:
        with contextlib.suppress(redis.OutOfMemoryError):
            for n in range(10_000):
                client.lpush("queue", f"{n}" * 1000)
        reports = {"--bigkeys": "Biggest +list found .*queue", "--memkeys": "queue", "info memory": "used_memory"}
        yield State(server, reports=reports)


@contextlib.contextmanager
def that_evicts(folder: Path, version: Version) -> Iterator[State]:
    with (
        version.start(folder, "--maxmemory", "4mb", "--maxmemory-policy", "allkeys-lru") as server,
        server.client() as client,
    ):
        for n in range(2000):
            client.set(f"page:{n}", f"{n}" * 1000)
        yield State(server, reports={"info stats": r"evicted_keys:[1-9]", "--memkeys": "page:"})


@contextlib.contextmanager
def that_cannot_save(folder: Path, version: Version) -> Iterator[State]:
    with version.start(folder) as server, server.client() as client:
        client.config_set("save", "3600 1")
        dump = server.folder / "dump.rdb"
        dump.mkdir()  # it cannot be replaced by the snapshot, not even as root
        client.set("order", 1)
        client.bgsave()
        until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err", what="the failed save")
        with pytest.raises(redis.ResponseError, match="MISCONF"):
            client.set("order", 2)
        yield State(
            server,
            before={"redis-cli bgsave": dump.rmdir},
            reports={"info persistence": "rdb_last_bgsave_status:err", "redis-server.log": "saving"},
        )


@contextlib.contextmanager
def with_unsaved_changes(folder: Path, version: Version) -> Iterator[State]:
    with version.start(folder) as server, server.client() as client:
        client.set("order", 1)
        yield State(server, reports={"info persistence": "rdb_changes_since_last_save:1", "get save": r"\Asave\s*\Z"})


@contextlib.contextmanager
def replica_that_is_busy(folder: Path, version: Version) -> Iterator[State]:
    with version.pair(folder) as (_, replica), replica.client(single_connection_client=True) as client:
        client.config_set("slowlog-log-slower-than", 0)
        client.keys("*")
        yield State(replica, client_id=client.client_id(), reports={"slowlog get": "KEYS", "--latency": r"\A\d+ \d+ "})


@contextlib.contextmanager
def master_without_its_replica(folder: Path, version: Version) -> Iterator[State]:
    with version.pair(folder) as (master, replica), master.client() as client:
        replica.stop()
        until(lambda: client.info("replication")["connected_slaves"] == 0, what="the replica's absence")
        yield State(master, reports={"info replication": r"role:master\s+connected_slaves:0", "log": "[Rr]eplica"})


@contextlib.contextmanager
def replica_without_its_master(folder: Path, version: Version) -> Iterator[State]:
    with version.pair(folder) as (master, replica), version.sentinel(folder, master, quorum=2) as sentinel:
        until(lambda: _sentinel_value(sentinel, "num-slaves") == 1, what="the replica being found")
        master.stop()
        until(lambda: "s_down" in _sentinel_value(sentinel, "flags"), what="the Sentinel seeing it")
        with replica.client() as client:
            until(lambda: client.info("replication")["master_link_status"] == "down", what="the replica seeing it")
        reports = {
            "masterauth": r"\A1\Z",
            "info replication": r"(?s)role:slave.*master_link_status:down",
            "sentinel master ": "(?s)s_down.*num-slaves",
            "sentinel masters": f"(?s)mymaster.*{master.port}.*s_down",
            "redis-server.log": "MASTER|PRIMARY",
        }
        yield State(replica, sentinel, reports=reports)


@contextlib.contextmanager
def sentinel_without_quorum(folder: Path, version: Version) -> Iterator[State]:
    with (
        version.start(folder) as master,
        version.sentinel(folder, master, quorum=2) as sentinel,
        version.sentinel(folder, master, quorum=2) as other,
    ):
        until(lambda: _sentinel_value(sentinel, "num-other-sentinels") == 1, what="the other Sentinel being found")
        other.stop()
        with sentinel.client() as client:
            until(lambda: client.sentinel_sentinels("mymaster")[0]["is_sdown"], what="its absence being noticed")
        yield State(master, sentinel, reports={"ckquorum": "NOQUORUM", "sentinel sentinels": "s_down"})


@contextlib.contextmanager
def healthy_sentinel(folder: Path, version: Version) -> Iterator[State]:
    with version.start(folder) as master, version.sentinel(folder, master) as sentinel:
        yield State(master, sentinel, reports={"get-master-addr": f"{master.port}", "ckquorum": r"\AOK "})


@contextlib.contextmanager
def that_runs_a_long_script(folder: Path, version: Version) -> Iterator[State]:
    with version.start(folder) as server, server.client() as client:
        client.config_set("lua-time-limit", 100)

        def run_script() -> None:
            with contextlib.suppress(redis.RedisError), server.client() as another:
                another.eval("while true do end", 0)

        script = threading.Thread(target=run_script, daemon=True)
        script.start()

        def is_busy() -> bool:
            try:
                client.ping()
            except redis.ResponseError as error:
                return "running a script" in str(error)
            return False

        def restart() -> None:
            server.stop()
            server.command = [*server.command, "--slowlog-log-slower-than", "0"]
            server.start()

        until(is_busy, what="the script being noticed")
        yield State(
            server,
            reports={" ping": "BUSY", "script kill": r"\AOK\Z", "shutdown nosave": r"\A\Z", "slowlog": "PING"},
            before={"slowlog": restart},
        )


@contextlib.contextmanager
def cluster_without_two_masters(folder: Path, version: Version) -> Iterator[State]:
    with contextlib.ExitStack() as stack:
        nodes = [
            stack.enter_context(
                version.start(
                    folder, "--cluster-enabled", "yes", "--cluster-port", str(free_port()), "--cluster-node-timeout",
                    "1000", "--repl-diskless-sync-delay", "0",
                )
            )
            for _ in range(4)
        ]  # fmt: skip
        *masters, replica = nodes
        addresses = [f"127.0.0.1:{node.port}" for node in masters]
        cli = [installed("redis-cli"), "--cluster"]
        subprocess.run([*cli, "create", *addresses, "--cluster-yes"], check=True, capture_output=True)
        until(lambda: all(_cluster_state(node) == "ok" for node in masters), what="the cluster")
        with masters[0].client() as client:
            master_id = client.execute_command("CLUSTER", "MYID").decode()
        joined = ["add-node", f"127.0.0.1:{replica.port}", addresses[0], "--cluster-slave"]
        subprocess.run([*cli, *joined, "--cluster-master-id", master_id], check=True, capture_output=True)
        with replica.client() as client:
            until(lambda: client.info("replication").get("master_link_status") == "up", what="the replica")
        until(lambda: _cluster_state(replica) == "ok", what="the replica's view of the cluster")
        for node in masters[:2]:  # without them, there is no majority for a failover
            node.stop()
        until(lambda: _cluster_state(replica) == "fail", what="the cluster's failure")

        def resharding_is_aborted() -> None:
            with replica.client() as client:
                until(lambda: client.role()[0] == b"master", what="the takeover")
            for node in masters[:2]:
                node.start()
            until(lambda: all(_cluster_state(node) == "ok" for node in nodes), what="the cluster's recovery")
            for node in nodes:
                with node.client() as client:
                    client.execute_command("CLUSTER", "DELSLOTS", 16383)

        yield State(
            replica,
            before={"--cluster check": resharding_is_aborted},
            reports={
                "cluster info": "(?s)cluster_state:fail.*cluster_known_nodes:4",
                "cluster nodes": "fail",
                "--cluster check": "Not all 16384 slots are covered",
                "--cluster fix": "Covering slot 16383",
            },
            typed={"--cluster fix": "yes"},
        )


def _cluster_state(node: RedisServer) -> str:
    with node.client() as client:
        state: bytes = client.execute_command("CLUSTER", "INFO")
    return state.decode().partition("cluster_state:")[2].split()[0]


#: By runbook. Each command in it runs in this state.
STATES: dict[str, Callable[[Path, Version], AbstractContextManager[State]]] = {
    "QueueDown": idle,
    "RedisClusterDown": cluster_without_two_masters,
    "RedisConnectionsHigh": with_connections,
    "RedisDown": that_runs_a_long_script,
    "RedisEvictingKeys": that_evicts,
    "RedisHitRatioLow": with_little_used_keys,
    "RedisMasterMissing": replica_without_its_master,
    "RedisMemoryHigh": at_maxmemory,
    "RedisPersistenceFailing": that_cannot_save,
    "RedisRejectedConnections": at_its_connection_limit,
    "RedisReplicaLagging": replica_that_is_busy,
    "RedisReplicaLost": master_without_its_replica,
    "RedisReplicationBroken": replica_without_its_master,
    "RedisRestarting": idle,
    "RedisSentinelMasterDown": replica_without_its_master,
    "RedisSentinelQuorumLost": sentinel_without_quorum,
    "RedisSentinelsDisagree": healthy_sentinel,
    "RedisSlowCommands": with_slow_commands,
    "RedisSnapshotTooOld": with_unsaved_changes,
}
