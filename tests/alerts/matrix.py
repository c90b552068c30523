"""The live matrix: replicated databases that two agents monitor, and Prometheus and Alertmanager with all rules.

One agent is scraped target by target through `/sd`, as in deploy/prometheus; the other one as a whole, four times more
rarely. Both monitor all servers, so each fault shows what each way of scraping reports.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
import redis
import yaml

from databases import PostgresServer, RedisServer, Server, postgres_server, postgres_standby, redis_server
from pgbouncer_server import PgBouncer, pgbouncer_server
from services import Program, answers, deckwatch_command, fetch, free_port, until

from .alerting import (
    NOT_WATCHED,
    Notice,
    Webhook,
    alertmanager,
    evaluating_prometheus,
    shipped_alertmanager_config,
    shortened,
    to_webhook,
    webhook,
)
from .rule_files import RULE_FILES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: A quarter of a minute becomes a second: the scrapes and the evaluations of both jobs keep their proportion to `for`.
FACTOR = 15

#: The jobs, by how Prometheus scrapes their agent, and the seconds between two scrapes.
BY_TARGET = "deckwatch-sd"
AS_A_WHOLE = "deckwatch"
JOBS = {BY_TARGET: 15, AS_A_WHOLE: 60}

#: Alerts that a healthy stack has pending for a moment, and why.
EXPLAINED: dict[str, str] = {}

_AGE = re.compile(r"(?P<before>_seconds(?:\{[^}]*\})? (?:>|<=?) )(?P<seconds>\d{2,})\b")
_DURATION = re.compile(r"(\d+)([smh])")
_UNITS = {"s": 1, "m": 60, "h": 3600}


def scaled(rules: str, factor: int) -> str:
    """The rules with all durations shortened, also those that an expression compares with an age in seconds."""
    if factor == 1:
        return rules
    rules = rules.replace("> 1 / 300", f"> {factor} / 300")
    ages = _AGE.sub(lambda found: f"{found['before']}{int(found['seconds']) / factor:g}", rules)
    return shortened(ages, factor)


def scaled_routes(url: str, factor: int) -> str:
    content = to_webhook(shipped_alertmanager_config(), url)

    def shorten(route: dict[str, Any]) -> None:
        for name in ("group_wait", "group_interval", "repeat_interval"):
            if found := _DURATION.fullmatch(str(route.get(name))):
                route[name] = f"{max(1, int(found[1]) * _UNITS[found[2]] // factor)}s"
        for child in route.get("routes", []):
            shorten(child)

    shorten(content["route"])
    return yaml.safe_dump(content)


@dataclass
class Matrix:
    """The running stack. Times are those of the shipped rules, `factor` times as long as here."""

    factor: int
    hook: Webhook
    prometheus: Program
    agents: dict[str, Agent]
    redis: RedisServer
    redis_replica: RedisServer
    postgres: PostgresServer
    standby: PostgresServer
    pool: PgBouncer

    def query(self, path: str) -> Any:
        return json.loads(fetch(self.prometheus.url + path)[1])["data"]

    def alerts(self, *states: str) -> set[str]:
        """The names of the alerts in one of these states now, without Watchdog."""
        found = {it["labels"]["alertname"] for it in self.query("/api/v1/alerts")["alerts"] if it["state"] in states}
        return found - {"Watchdog"}

    def is_quiet(self) -> bool:
        return not self.alerts("pending", "firing")

    def notifications(self, start: int = 0) -> Counter[tuple[str, str, str, str]]:
        """Count the messages that reported an alert: by job, alert, what it is about, and receiver."""
        return Counter(
            key
            for message in self.hook.messages[start:]
            if message.status == "firing"
            for key in {
                (it.labels.get("job", ""), it.name, self._about(it), message.receiver) for it in message.notices
            }
            if key[1] != "Watchdog"
        )

    def _about(self, notice: Notice) -> str:
        """The name of the server, which is the target or, from /sd, the instance; `agent` for an agent."""
        name = notice.labels.get("target") or notice.labels.get("instance", "")
        return "agent" if name in {it.address for it in self.agents.values()} else name

    def resolved(self, start: int) -> set[tuple[str, str]]:
        return {(it.labels.get("job", ""), it.name) for it in self.hook.since(start, "resolved")}

    def pass_minutes(self, minutes: float) -> None:
        """Let the stack run for this time of the shipped rules."""
        time.sleep(minutes * 60 / self.factor)

    def failing_rules(self) -> list[str]:
        """The errors of the rules' last evaluations, and the count of all that failed."""
        groups = self.query("/api/v1/rules")["groups"]
        errors = [
            f"{rule['name']}: {rule.get('lastError')}"
            for group in groups
            for rule in group["rules"]
            if rule["health"] != "ok" or rule.get("lastError")
        ]
        failures = re.findall(r"^prometheus_rule_evaluation_failures_total\{.*\} ([1-9].*)$", self._own_metrics(), re.M)
        return errors + failures

    def _own_metrics(self) -> str:
        return fetch(self.prometheus.url + "/metrics")[1]


class Agent(Server):
    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def answers(self) -> bool:
        assert self.process is None or self.process.poll() is None, self.log
        return answers(f"http://{self.address}/-/ready")


@contextlib.contextmanager
def _agent(folder: Path, interval: float, exporters: dict[str, Any]) -> Iterator[Agent]:
    folder.mkdir()
    (folder / "deckwatch.yml").write_text(json.dumps({"interval": f"{interval:g}s", "exporters": exporters}))
    port = free_port()
    command = deckwatch_command("run", "--listen", f"127.0.0.1:{port}")
    agent = Agent(["env", f"STATE_DIRECTORY={folder / 'state'}", *command], folder, port)
    agent.start()
    try:
        yield agent
    finally:
        agent.stop()


def _workload(stop: threading.Event, matrix: Matrix) -> None:
    """Use the databases as a small application does, also while they fail."""
    rounds, archiving = 0, time.monotonic()
    while not stop.wait(0.5):
        rounds += 1
        with contextlib.suppress(redis.RedisError), matrix.redis.client(socket_timeout=1) as cache:
            cache.set("visits", rounds)
            cache.get("visits")
        with (
            contextlib.suppress(psycopg.Error),
            matrix.postgres.connect(user="app", connect_timeout=2) as database,
        ):
            database.execute("INSERT INTO visits DEFAULT VALUES")
        if time.monotonic() >= archiving:  # every 2.5 minutes of the rules, 64 MiB of WAL in 10 minutes
            archiving += 150 / matrix.factor
            with contextlib.suppress(psycopg.Error):
                matrix.postgres.execute("SELECT pg_switch_wal()")


@contextlib.contextmanager
def live_matrix(folder: Path, factor: int = FACTOR) -> Iterator[Matrix]:
    def seconds(shipped: int) -> str:
        return str(max(1, shipped // factor))

    with contextlib.ExitStack() as services:
        enter = services.enter_context
        flags = (
            "--maxmemory", "32mb", "--repl-timeout", seconds(60), "--repl-ping-replica-period", seconds(10),
            "--repl-diskless-sync-delay", seconds(5),
        )  # fmt: skip
        cache = enter(redis_server(folder, *flags))
        replica = enter(redis_server(folder, *flags, "--replicaof", f"127.0.0.1 {cache.port}"))
        wal = {"wal_sender_timeout": seconds(60) + "s", "wal_receiver_timeout": seconds(60) + "s"}
        primary = enter(postgres_server(None, max_connections="30", archive_mode="on", **wal))
        primary.execute(
            "ALTER SYSTEM SET archive_command = 'true'",
            "SELECT pg_reload_conf()",
            "CREATE EXTENSION pg_stat_statements",
            "CREATE ROLE monitor LOGIN IN ROLE pg_monitor",
            "CREATE ROLE app LOGIN",
            "CREATE TABLE visits (n int GENERATED ALWAYS AS IDENTITY)",
            "GRANT INSERT ON visits TO app",
        )
        standby = enter(postgres_standby(primary, "second", archive_mode="on", **wal))
        pool = enter(pgbouncer_server(primary))
        exporters = {
            "system": {"disable": [*NOT_WATCHED, "filesystem"]},
            "redis": [{"name": "cache", "url": cache.url}, {"name": "cache-replica", "url": replica.url}],
            "postgres": [
                {"name": "main", "dsn": primary.dsn(user="monitor")},
                {"name": "main-standby", "dsn": standby.dsn(user="monitor")},
            ],
            "pgbouncer": [{"name": "pool", "dsn": pool.dsn(), "password": pool.passwords["monitor"]}],
        }
        agents = {job: enter(_agent(folder / job, every / factor, exporters)) for job, every in JOBS.items()}
        jobs = [
            {
                "job_name": BY_TARGET,
                "http_sd_configs": [
                    {"url": f"http://{agents[BY_TARGET].address}/sd", "refresh_interval": seconds(30) + "s"}
                ],
                "relabel_configs": [{"source_labels": ["__address__"], "target_label": "agent"}],
            },
            {
                "job_name": AS_A_WHOLE,
                "scrape_interval": seconds(JOBS[AS_A_WHOLE]) + "s",
                "static_configs": [{"targets": [agents[AS_A_WHOLE].address]}],
            },
        ]
        hook = enter(webhook())
        manager = enter(alertmanager(folder, scaled_routes(hook.url, factor)))
        for path in RULE_FILES:
            (folder / path.name).write_text(scaled(path.read_text(), factor))
        server = enter(evaluating_prometheus(folder, jobs, manager, 15 // factor))
        matrix = Matrix(factor, hook, server, agents, cache, replica, primary, standby, pool)
        stop = threading.Event()
        worker = threading.Thread(target=_workload, args=(stop, matrix), daemon=True)
        worker.start()
        services.callback(worker.join, 60)
        services.callback(stop.set)
        until(lambda: any(it.name == "Watchdog" for it in hook.notices), what="the watchdog")
        # Agents are absent until the first scrape.
        until(matrix.is_quiet, 600, "quiet")
        yield matrix
