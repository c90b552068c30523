"""The collector `redis`: everything that one or two round trips report about a server, as redis_exporter names it."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from deckwatch.exporter import Context, Counter, Gauge, Malformed, Metric, Missing, Sample, Series, Unreachable
from deckwatch_exporters.clients.redis.connection import ConnectionFailed
from deckwatch_exporters.clients.redis.resp import ReplyError, pack, text_of

from . import clients, info, sentinel
from .commands import CommandStats
from .config import config_samples, database_count, parse_config, value_samples
from .latency import spike_samples
from .modules import module_samples
from .refusals import Refusals, rule_for
from .replication import replication_samples
from .slowlog import malformed_entry
from .values import measured, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from deckwatch.exporter import Results, Samples
    from deckwatch_exporters.clients.redis.connection import Connection
    from deckwatch_exporters.clients.redis.resp import Reply

    from .facts import Facts
    from .settings import RedisSettings

UP = Gauge("redis_up", "Whether the server is reachable (1) or not (0).")
SLOWLOG_LENGTH = Gauge("redis_slowlog_length", "Number of entries in the slow log.")
SLOWLOG_LAST_ID = Gauge("redis_slowlog_last_id", "ID of the newest entry in the slow log; 0 if the log is empty.")
SLOWLOG_LAST_DURATION = Gauge(
    "redis_last_slow_execution_duration_seconds",
    "Duration of the newest command in the slow log, in seconds; 0 if the log is empty.",
)
COMMANDLOG_LENGTHS = {
    "slow": Gauge("redis_commandlog_slow_length", "Number of entries in the log of slow commands."),
    "large-request": Gauge("redis_commandlog_large_request_length", "Number of entries in the log of large requests."),
    "large-reply": Gauge("redis_commandlog_large_reply_length", "Number of entries in the log of large replies."),
}
KEY_GROUPS_DURATION = Gauge(
    "redis_last_key_groups_scrape_duration_milliseconds",
    "Duration of the last scan for key groups, in milliseconds; 0 if key_groups is not set.",
)
SCRAPES = Counter("redis_exporter_scrapes_total", "Number of runs of this collector.")
SCRAPE_DURATION = Metric(
    "redis_exporter_scrape_duration_seconds", "summary", "Duration of the runs of this collector, in seconds."
)
LAST_DURATION = Gauge(
    "redis_exporter_last_scrape_duration_seconds", "Duration of the last run of this collector, in seconds."
)
LAST_CONNECT = Gauge(
    "redis_exporter_last_scrape_connect_time_seconds",
    "Time that opening the connection took in the last run, in seconds; 0 if it was open.",
)
LAST_ERROR = Gauge(
    "redis_exporter_last_scrape_error", "Whether the last run of this collector failed (1), with the error.", ["err"]
)
REQUEST_ERRORS = Counter(
    "redis_target_scrape_request_errors_total",
    "Number of invalid requests for a target; always 0, because targets come from the config.",
)

_CONFIG_EVERY = 60.0  # seconds
_PLAIN_INFO = pack("INFO")
COMMANDLOG_SINCE = (8, 1)


class Server:
    """Reads one server. Sets `facts` for the collectors that run after it."""

    def __init__(
        self,
        connection: Connection,
        facts: Facts,
        settings: RedisSettings,
        context: Context | None = None,
        clock: Callable[[], float] = time.time,
        stopwatch: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection = connection
        self._facts = facts
        self._settings = settings
        self._clock = clock
        self._stopwatch = stopwatch
        self._commands = CommandStats()
        self._errors = info.ErrorCounts()
        self._info: info.Info | None = None
        self._config: tuple[Sample | Malformed, ...] = ()
        self._databases = 1
        self._config_read: float | None = None
        self._config_of = ""
        self._instance: Series | None = None
        self._started: tuple[str, float] = ("", 0.0)
        self._runs = 0
        self._run_seconds = 0.0
        self._user = settings.credentials[0] or "default"
        self._refusals = Refusals(connection, context or Context(), self._user, stopwatch)
        command = settings.config_command
        config = b"" if command == "off" else pack(command, "GET", "*")
        self._info_command = pack("INFO", "EVERYTHING" if settings.modules else "ALL")
        self._packed = {  # by name; the name begins with the words that an ACL rule has
            "INFO": self._info_command,
            "CONFIG GET": config,
            "LATENCY LATEST": pack("LATENCY", "LATEST"),
            "LATENCY HISTOGRAM": pack("LATENCY", "HISTOGRAM"),
            "SLOWLOG LEN": pack("SLOWLOG", "LEN"),
            "SLOWLOG GET": pack("SLOWLOG", "GET", 1),
            "CLUSTER INFO": pack("CLUSTER", "INFO"),
            "CLIENT LIST": pack("CLIENT", "LIST"),
            "SENTINEL MASTERS": sentinel.MASTERS,
            "SENTINEL CONFIG": sentinel.CONFIG,
            **{f"COMMANDLOG LEN {kind}": pack("COMMANDLOG", "LEN", kind) for kind in COMMANDLOG_LENGTHS},
        }

    def collect(self) -> Results:
        began = self._stopwatch()
        generation = self._connection.generation
        self._runs += 1
        try:
            samples = list(self._samples())
        except ConnectionFailed as failure:
            self._forget()
            raise Unreachable(str(failure), self._about_itself(began, 0.0, str(failure))) from None
        except Missing:
            self._forget()
            raise
        if self._info is not None:
            self._info = self._info.identity()
        connect = self._connection.connect_seconds if self._connection.generation != generation else 0.0
        samples.extend(self._about_itself(began, connect, ""))
        return samples

    def _forget(self) -> None:
        self._info = None
        self._packed["INFO"] = self._info_command
        self._facts.forget()

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

    def _samples(self) -> Results:
        replies = self._ask()
        found = self._found()
        self._facts.newest_slow_id = self._newest_slow_id(replies)
        if not found.fields:
            yield Malformed("INFO", shown(replies.get("INFO")))
        yield from info.plain_samples(found)
        yield from replication_samples(found.fields)
        yield from self._identity(found)
        yield from self._errors.samples(found.errors)
        yield from self._commands.from_info(found.commands, found.percentiles)
        yield from module_samples(found.modules, found.fields if self._settings.modules else {})
        if found.is_sentinel:
            yield from sentinel.info_samples(found.fields)
            yield from self._sentinel(replies)
        yield from self._config
        if not found.is_sentinel:
            yield from info.keyspace_samples(found.keyspace, 1 if found.is_cluster else self._databases)
            if self._settings.key_groups is None:
                yield KEY_GROUPS_DURATION(0)
        if "CLUSTER INFO" in replies:
            yield from info.cluster_samples(text_of(replies["CLUSTER INFO"]), found.fields)
        yield from spike_samples(replies.get("LATENCY LATEST"))
        yield from self._commands.from_histogram(replies.get("LATENCY HISTOGRAM"))
        yield from self._slowlog(replies)
        for kind, metric in COMMANDLOG_LENGTHS.items():
            name = f"COMMANDLOG LEN {kind}"
            yield from measured(metric, name, replies.get(name))
        yield from self._refusals.samples()
        if "CLIENT LIST" in replies:
            yield from clients.client_samples(text_of(replies["CLIENT LIST"]), self._clock())

    # Asking

    def _ask(self) -> dict[str, Reply]:
        """The replies by command, without refused ones. Raises ConnectionFailed and Missing."""
        if self._info is None:
            # Which other commands the server has depends on its version and mode.
            replies = self._exchange(["INFO"])
            self._learn(replies)
            replies |= self._exchange(self._wanted())
        else:
            replies = self._exchange(["INFO", *self._wanted()])
            self._learn(replies)
            if self._is_demoted():
                return self._ask_the_new_master()
            if self._config_of != self._facts.run_id and "CONFIG GET" not in replies:
                replies |= self._exchange(["CONFIG GET"])  # the address leads to another server now
        self._take_config(replies)
        return replies

    def _is_demoted(self) -> bool:
        return bool(self._connection.address.service) and self._found().fields.get("role") == "slave"

    def _ask_the_new_master(self) -> dict[str, Reply]:
        """Ask the Sentinels again: they failed over while this connection stayed open."""
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
        if is_config_due and self._packed["CONFIG GET"]:
            wanted.append("CONFIG GET")
        if found.is_cluster:
            wanted.append("CLUSTER INFO")
        if self._settings.client_list:
            wanted.append("CLIENT LIST")
        if info.version_of(found.fields.get("valkey_version", "")) >= COMMANDLOG_SINCE:
            wanted += [f"COMMANDLOG LEN {kind}" for kind in COMMANDLOG_LENGTHS]
        return wanted

    def _exchange(self, names: list[str]) -> dict[str, Reply]:
        asked = [name for name in names if self._packed[name] and not self._refusals.holds(name)]
        if not asked:
            return {}
        replies = self._connection.exchange([self._packed[name] for name in asked], leads=True)
        answered: dict[str, Reply] = {}
        for name, reply in zip(asked, replies, strict=True):
            if not isinstance(reply, ReplyError):
                answered[name] = reply
                self._refusals.remove(name)
            elif reply.code == "NOAUTH":
                raise self._failure(name, reply)
            elif name == "INFO":
                answered |= self._ask_without_section(reply)
            elif not reply.is_transient:
                self._refusals.add(name, reply)
        return answered

    def _ask_without_section(self, error: ReplyError) -> dict[str, Reply]:
        """INFO without a section, which old Sentinels and some proxies require."""
        if error.is_denied or error.is_transient or self._packed["INFO"] == _PLAIN_INFO:
            raise self._failure("INFO", error)
        self._packed["INFO"] = _PLAIN_INFO
        return self._exchange(["INFO"])

    def _failure(self, name: str, error: ReplyError) -> Exception:
        message = f"{self._connection.address}: {name} failed ({error.message})"
        if error.is_denied:
            return Missing(message, f"ACL SETUSER {self._user} {rule_for(name)}")
        return ConnectionFailed(message)

    def _found(self) -> info.Info:
        return self._info if self._info is not None else info.Info()

    def _learn(self, replies: Mapping[str, Reply]) -> None:
        self._info = found = info.parse_info(text_of(replies.get("INFO")))
        facts = self._facts
        facts.version = found.version
        facts.run_id = found.fields.get("run_id", "")
        facts.databases = tuple(int(number) for number in found.keyspace if re.fullmatch(r"[0-9]{1,9}", number))
        facts.server_time = info.server_time(found)

    def _take_config(self, replies: Mapping[str, Reply]) -> None:
        if "CONFIG GET" in replies:
            config = parse_config(replies["CONFIG GET"])
            self._config = tuple(config_samples(config, self._settings.config_values))
            self._databases = database_count(config)
        elif "SENTINEL CONFIG" in replies:
            config = parse_config(replies["SENTINEL CONFIG"])
            self._config = tuple(value_samples(config, sentinel.CONFIG_TEXT, sentinel.CONFIG_NUMBER))
        elif self._config_of != self._facts.run_id or any(map(self._refusals.holds, ("CONFIG GET", "SENTINEL CONFIG"))):
            self._config, self._databases = (), 1  # that of another server, or one that may have changed
        if "CONFIG GET" in replies or "SENTINEL CONFIG" in replies:
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
            # It is rounded from two clocks: a difference of one second does not mean a restart.
            run_id, known = self._started
            if run_id != self._facts.run_id or abs(start - known) > 2:
                self._started = (self._facts.run_id, start)
            yield info.START_TIME(self._started[1])

    def _sentinel(self, replies: Mapping[str, Reply]) -> Samples:
        reply = replies.get("SENTINEL MASTERS")
        masters = sentinel.parse_masters(reply)
        if reply is not None and (not isinstance(reply, list) or len(reply) != len(masters)):
            yield Malformed("SENTINEL MASTERS", shown(reply))
        if masters:
            questions = sentinel.questions(masters)
            answers = self._connection.exchange(questions, leads=True)
            for name, answer in zip(sentinel.QUESTIONS * len(masters), answers, strict=True):
                if isinstance(answer, ReplyError) and (answer.is_denied or answer.is_unknown):
                    self._refusals.add(name, answer)
                else:
                    self._refusals.remove(name)
            yield from sentinel.master_samples(masters, answers)

    @staticmethod
    def _newest_slow_id(replies: Mapping[str, Reply]) -> int | None:
        match replies.get("SLOWLOG GET"):
            case []:
                return -1
            case [[int(id), *_]]:
                return id
        return None

    @staticmethod
    def _slowlog(replies: Mapping[str, Reply]) -> Samples:
        yield from measured(SLOWLOG_LENGTH, "SLOWLOG LEN", replies.get("SLOWLOG LEN"))
        match replies.get("SLOWLOG GET"):
            case None:
                pass
            case []:
                yield SLOWLOG_LAST_ID(0)
                yield SLOWLOG_LAST_DURATION(0)
            case [[int(id), int(), int(microseconds), *_]]:
                yield SLOWLOG_LAST_ID(id)
                yield SLOWLOG_LAST_DURATION(microseconds / 1e6)
            case [entry]:
                yield malformed_entry(entry)
            case other:
                yield Malformed("SLOWLOG GET", type(other).__name__)
