"""The probe `redis`: everything that one or two round trips tell of a server, in redis_exporter's terms."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from deckwatch.exporter import Counter, Gauge, Metric, Sample, Series, Unreachable
from deckwatch_exporters.clients.redis.connection import REFUSED_FOR, ConnectionFailed
from deckwatch_exporters.clients.redis.resp import ReplyError, number_of, pack, text_of

from . import clients, info, sentinel
from .commands import CommandFigures
from .config import config_samples, database_count, parse_config, value_samples
from .latency import spike_samples
from .modules import module_samples
from .replication import replication_samples

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from deckwatch_exporters.clients.redis.connection import Connection
    from deckwatch_exporters.clients.redis.resp import Reply

    from .facts import Facts
    from .settings import RedisSettings

UP = Gauge("redis_up", "Whether the server answers.")
SLOWLOG_LENGTH = Gauge("redis_slowlog_length", "Entries in the slow log.")
SLOWLOG_LAST_ID = Gauge("redis_slowlog_last_id", "Id of the newest entry in the slow log; 0 when it is empty, too.")
SLOWLOG_LAST_DURATION = Gauge(
    "redis_last_slow_execution_duration_seconds",
    "Duration of the newest command in the slow log, in seconds; 0 when it is empty.",
)
COMMANDLOG_LENGTHS = {
    "slow": Gauge("redis_commandlog_slow_length", "Entries in the log of slow commands."),
    "large-request": Gauge("redis_commandlog_large_request_length", "Entries in the log of large requests."),
    "large-reply": Gauge("redis_commandlog_large_reply_length", "Entries in the log of large replies."),
}
KEY_GROUPS_DURATION = Gauge(
    "redis_last_key_groups_scrape_duration_milliseconds",
    "Milliseconds that the last count of the key groups took; 0 where none are counted.",
)
SCRAPES = Counter("redis_exporter_scrapes_total", "Runs of this collector.")
SCRAPE_DURATION = Metric("redis_exporter_scrape_duration_seconds", "summary", "Durations of its runs, in seconds.")
LAST_DURATION = Gauge("redis_exporter_last_scrape_duration_seconds", "Duration of its last run, in seconds.")
LAST_CONNECT = Gauge(
    "redis_exporter_last_scrape_connect_time_seconds",
    "Time that the connection took to open, in seconds; 0 where the last run found it open.",
)
LAST_ERROR = Gauge("redis_exporter_last_scrape_error", "Whether its last run failed, and why.", ["err"])
REQUEST_ERRORS = Counter(
    "redis_target_scrape_request_errors_total",
    "Requests for a target that were refused: none, since targets come from the config alone.",
)

_CONFIG_EVERY = 60.0  # seconds
_COMMANDLOG_SINCE = (8, 1)


class Server:
    """Reads one server. What it learns goes into `facts`, for the probes that run after it."""

    def __init__(
        self,
        connection: Connection,
        facts: Facts,
        settings: RedisSettings,
        clock: Callable[[], float] = time.time,
        stopwatch: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection = connection
        self._facts = facts
        self._settings = settings
        self._clock = clock
        self._stopwatch = stopwatch
        self._commands = CommandFigures()
        self._info: info.Info | None = None
        self._generation = 0
        self._refused: dict[str, float] = {}
        self._config: tuple[Sample, ...] = ()
        self._databases = 1
        self._config_read: float | None = None
        self._config_of = ""
        self._instance: Series | None = None
        self._started: tuple[str, float] = ("", 0.0)
        self._runs = 0
        self._run_seconds = 0.0
        self._user = settings.credentials[0] or "default"
        command = settings.config_command
        config = b"" if command == "off" else pack(command, "GET", "*")
        self._packed = {
            "INFO": pack("INFO", "EVERYTHING" if settings.modules else "ALL"),
            "CONFIG": config,
            "LATENCY LATEST": pack("LATENCY", "LATEST"),
            "LATENCY HISTOGRAM": pack("LATENCY", "HISTOGRAM"),
            "SLOWLOG LEN": pack("SLOWLOG", "LEN"),
            "SLOWLOG GET": pack("SLOWLOG", "GET", 1),
            "CLUSTER INFO": pack("CLUSTER", "INFO"),
            "CLIENT LIST": pack("CLIENT", "LIST"),
            "SENTINEL MASTERS": sentinel.MASTERS,
            "SENTINEL CONFIG": sentinel.CONFIG,
            **{f"COMMANDLOG {kind}": pack("COMMANDLOG", "LEN", kind) for kind in COMMANDLOG_LENGTHS},
        }

    def collect(self) -> list[Sample]:
        began = self._stopwatch()
        generation = self._connection.generation
        self._runs += 1
        try:
            samples = list(self._samples())
        except ConnectionFailed as failure:
            self._info = None
            self._facts.forget()
            about = self._about_itself(began, 0.0, str(failure))
            raise Unreachable(str(failure), about) from None
        connect = self._connection.connect_seconds if self._connection.generation != generation else 0.0
        samples.extend(self._about_itself(began, connect, ""))
        return samples

    def _about_itself(self, began: float, connect: float, error: str) -> Iterator[Sample]:
        took = self._stopwatch() - began
        self._run_seconds += took
        yield SCRAPES(self._runs)
        yield SCRAPE_DURATION.part("_sum", self._run_seconds, {})
        yield SCRAPE_DURATION.part("_count", self._runs, {})
        yield LAST_DURATION(took)
        yield LAST_CONNECT(connect)
        yield LAST_ERROR(float(bool(error)), err=error[:200])
        yield REQUEST_ERRORS(0)

    def _samples(self) -> Iterator[Sample]:
        replies = self._ask()
        found = self._found_in(replies)
        yield from info.plain_samples(found)
        yield from replication_samples(found.fields)
        yield from self._identity(found)
        yield from info.error_samples(found.errors)
        yield from self._commands.from_info(found.commands, found.percentiles)
        yield from module_samples(found.modules, found.fields if self._settings.modules else {})
        if found.is_sentinel:
            yield from sentinel.info_samples(found.fields)
            yield from self._sentinel(replies)
        yield from self._config
        if "INFO" in replies and not found.is_sentinel:
            yield from info.keyspace_samples(found.keyspace, 1 if found.is_cluster else self._databases)
            if self._settings.key_groups is None:
                yield KEY_GROUPS_DURATION(0)
        if "CLUSTER INFO" in replies:
            yield from self._cluster(text_of(replies["CLUSTER INFO"]), found)
        yield from spike_samples(replies.get("LATENCY LATEST"))
        if "LATENCY HISTOGRAM" in replies:
            yield from self._commands.from_histogram(replies["LATENCY HISTOGRAM"])
        yield from self._slowlog(replies)
        for kind, metric in COMMANDLOG_LENGTHS.items():
            if (length := number_of(replies.get(f"COMMANDLOG {kind}"))) is not None:
                yield metric(length)
        if "CLIENT LIST" in replies:
            yield from clients.client_samples(text_of(replies["CLIENT LIST"]), self._clock())

    # Asking

    def _ask(self) -> dict[str, Reply]:
        """The replies by command; one that the server refused is missing. Raises ConnectionFailed."""
        if self._info is None:
            # What else there is to ask, the first answer tells.
            replies = self._exchange(["INFO"])
            self._learn(replies)
            replies |= self._exchange(self._wanted())
        else:
            replies = self._exchange(["INFO", *self._wanted()])
            self._learn(replies)
            if self._is_demoted():
                return self._ask_the_new_master()
            if self._config_of != self._facts.run_id and "CONFIG" not in replies:
                replies |= self._exchange(["CONFIG"])  # another server than a moment ago
        self._take_config(replies)
        return replies

    def _is_demoted(self) -> bool:
        return bool(self._connection.address.service) and self._found().fields.get("role") == "slave"

    def _ask_the_new_master(self) -> dict[str, Reply]:
        """The Sentinels failed over while this connection stayed open: ask them again."""
        self._connection.close()
        self._info = None
        return self._ask()

    def _wanted(self) -> list[str]:
        found = self._found()
        is_config_due = self._config_read is None or self._stopwatch() - self._config_read >= _CONFIG_EVERY
        if found.is_sentinel:
            return ["SENTINEL MASTERS"] + (
                ["SENTINEL CONFIG"] if self._settings.config_values and is_config_due else []
            )
        wanted = ["LATENCY LATEST", "SLOWLOG LEN", "SLOWLOG GET"]
        if not found.version or found.version >= (7,):
            wanted.append("LATENCY HISTOGRAM")
        if is_config_due and self._packed["CONFIG"]:
            wanted.append("CONFIG")
        if found.is_cluster:
            wanted.append("CLUSTER INFO")
        if self._settings.client_list:
            wanted.append("CLIENT LIST")
        if info.version_of(found.fields.get("valkey_version", "")) >= _COMMANDLOG_SINCE:
            wanted += [f"COMMANDLOG {kind}" for kind in COMMANDLOG_LENGTHS]
        return wanted

    def _exchange(self, names: list[str]) -> dict[str, Reply]:
        if self._generation != self._connection.generation:
            self._generation = self._connection.generation
            self._refused.clear()
        now = self._stopwatch()
        asked = [name for name in names if self._packed[name] and self._refused.get(name, now) <= now]
        if not asked:
            return {}
        replies = self._connection.exchange([self._packed[name] for name in asked], leads=True)
        answered: dict[str, Reply] = {}
        for name, reply in zip(asked, replies, strict=True):
            if not isinstance(reply, ReplyError):
                answered[name] = reply
            elif reply.code == "NOAUTH":
                raise ConnectionFailed(f"{self._connection.address}: {reply.message}")
            elif name == "INFO":
                hint = f". Run ACL SETUSER {self._user} +info" if reply.is_denied else ""
                raise ConnectionFailed(f"{self._connection.address}: INFO failed ({reply.message}){hint}")
            elif not reply.is_transient:
                self._refused[name] = now + REFUSED_FOR
        return answered

    def _found(self) -> info.Info:
        return self._info if self._info is not None else info.Info()

    def _learn(self, replies: Mapping[str, Reply]) -> None:
        self._info = found = info.parse_info(text_of(replies.get("INFO")))
        facts = self._facts
        facts.version = found.version
        facts.run_id = found.fields.get("run_id", "")
        facts.databases = tuple(int(number) for number in found.keyspace if re.fullmatch(r"[0-9]{1,9}", number))
        facts.server_time = info.server_time(found)

    def _found_in(self, replies: Mapping[str, Reply]) -> info.Info:
        found = self._found()
        self._facts.newest_slow_id = self._newest_slow_id(replies)
        return found

    def _take_config(self, replies: Mapping[str, Reply]) -> None:
        if "CONFIG" in replies:
            config = parse_config(replies["CONFIG"])
            self._config = tuple(config_samples(config, self._settings.config_values))
            self._databases = database_count(config)
        elif "SENTINEL CONFIG" in replies:
            config = parse_config(replies["SENTINEL CONFIG"])
            self._config = tuple(value_samples(config, sentinel.CONFIG_TEXT, sentinel.CONFIG_NUMBER))
        elif self._config_of != self._facts.run_id or {"CONFIG", "SENTINEL CONFIG"} & self._refused.keys():
            self._config, self._databases = (), 1  # that of another server, or one that may have changed
        if "CONFIG" in replies or "SENTINEL CONFIG" in replies:
            self._config_read = self._stopwatch()
        self._config_of = self._facts.run_id

    # Emitting

    def _identity(self, found: info.Info) -> Iterator[Sample]:
        if "redis_version" not in found.fields:
            return
        labels = info.instance_labels(found)
        if self._instance is None or self._instance.labels != labels:
            self._instance = Series(info.INSTANCE, info.INSTANCE.name, labels)
        yield Sample(self._instance, 1)
        if replication_id := found.fields.get("master_replid"):
            yield info.REPLICATION_ID(1, master_replid=replication_id)
        start = info.started(found, self._clock())
        if start is not None:
            # Rounded from two clocks, it wavers by a second: a change that is no restart.
            run_id, known = self._started
            if run_id != self._facts.run_id or abs(start - known) > 2:
                self._started = (self._facts.run_id, start)
            yield info.START_TIME(self._started[1])

    def _sentinel(self, replies: Mapping[str, Reply]) -> Iterator[Sample]:
        masters = sentinel.parse_masters(replies.get("SENTINEL MASTERS"))
        if masters:
            answers = self._connection.exchange(sentinel.questions(masters), leads=True)
            yield from sentinel.master_samples(masters, answers)

    def _cluster(self, text: str, found: info.Info) -> Iterator[Sample]:
        told = {sample.series for sample in info.plain_samples(found)}
        yield from (sample for sample in info.cluster_samples(text) if sample.series not in told)

    @staticmethod
    def _newest_slow_id(replies: Mapping[str, Reply]) -> int | None:
        match replies.get("SLOWLOG GET"):
            case []:
                return -1
            case [[int(id), *_]]:
                return id
        return None

    @staticmethod
    def _slowlog(replies: Mapping[str, Reply]) -> Iterator[Sample]:
        if (length := number_of(replies.get("SLOWLOG LEN"))) is not None:
            yield SLOWLOG_LENGTH(length)
        match replies.get("SLOWLOG GET"):
            case []:
                yield SLOWLOG_LAST_ID(0)
                yield SLOWLOG_LAST_DURATION(0)
            case [[int(id), int(), int(microseconds), *_]]:
                yield SLOWLOG_LAST_ID(id)
                yield SLOWLOG_LAST_DURATION(microseconds / 1e6)
