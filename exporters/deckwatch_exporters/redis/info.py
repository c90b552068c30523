"""INFO: statistics and state of the server, by section (https://redis.io/docs/latest/commands/info/)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from deckwatch.exporter import Counter, Gauge, LabelBudget, Malformed, MetricPattern

from .fields import DIVISORS, FIELDS
from .values import LARGEST, assignments, figure, measured

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping

    from deckwatch.exporter import Metric, Samples

START_TIME = Gauge("redis_start_time_seconds", "Start time of the server, in Unix seconds.")
INSTANCE = Gauge(
    "redis_instance_info",
    "Information about the server.",
    ["role", "redis_version", "redis_build_id", "redis_mode", "os", "maxmemory_policy", "tcp_port", "run_id",
     "process_id", "master_replid"],
)  # fmt: skip
REPLICATION_ID = Gauge(
    "redis_replication_id_info",
    "Replication ID of the server, which all servers of one data set share.",
    ["master_replid"],
)
ACTIVE_TIME_IO_THREAD = Counter(
    "redis_active_time_io_thread_seconds_total", "Time for which the I/O thread was active, in seconds.", ["thread"]
)
CLUSTER = MetricPattern("redis_cluster_*", "gauge", "Field cluster_{} of INFO or CLUSTER INFO.")

DB_KEYS = Gauge("redis_db_keys", "Number of keys in the database.", ["db"])
DB_EXPIRING = Gauge("redis_db_keys_expiring", "Number of keys in the database that have an expiry.", ["db"])
DB_CACHED = Gauge(
    "redis_db_keys_cached", "Number of keys of the database that a KeyDB server has cached in memory.", ["db"]
)
DB_SUBEXPIRY = Gauge("redis_db_keys_subexpiry", "Number of hashes that have fields with an expiry.", ["db"])
DB_AVG_TTL = Gauge("redis_db_avg_ttl_seconds", "Average time to live of the keys that expire, in seconds.", ["db"])
#: By field: the metric, and the divisor of its unit.
_OF_A_DATABASE: dict[str, tuple[Metric, float]] = {
    "keys": (DB_KEYS, 1.0),
    "expires": (DB_EXPIRING, 1.0),
    "avg_ttl": (DB_AVG_TTL, 1000.0),
    "cached_keys": (DB_CACHED, 1.0),
    "subexpiry": (DB_SUBEXPIRY, 1.0),
}

ERRORS = Counter("redis_errors_total", "Number of error replies, by the first word of the error.", ["err"])
MERGED_ERRORS = Gauge(
    "redis_error_names_merged", "Number of error names that redis_errors_total counts together as other."
)

#: Sections with fields that are not single numbers, and how their lines begin.
_PREFIXES = {
    "Commandstats": "cmdstat_",
    "Latencystats": "latency_percentiles_usec_",
    "Errorstats": "errorstat_",
    "Keyspace": "db",
}
_IO_THREAD = re.compile(r"used_active_time_io_thread_([0-9]+)")
_CLUSTER_FIELD = re.compile(r"cluster_(\w+)", re.ASCII)
_DATABASE = re.compile(r"[0-9]{1,9}")
#: Fields of CLUSTER INFO that always hold a number; others may hold text.
_CLUSTER_NUMBERS = frozenset(
    re.findall(
        r"\w+",
        """
        cluster_enabled cluster_state cluster_slots_assigned cluster_slots_ok cluster_slots_pfail cluster_slots_fail
        cluster_known_nodes cluster_size cluster_current_epoch cluster_my_epoch
        """,
    )
)

_IDENTITY = ("redis_version", "valkey_version", "redis_mode", "cluster_enabled", "role")

#: Empty databases that are reported; a server with more has series for those that hold keys.
_MAX_EMPTY_DATABASES = 1024
#: Error names with separate series. Scripts and modules can make up any number of them.
MAX_ERROR_NAMES = 128
_OTHER = "other"


@dataclass
class Info:
    """`fields` are those of all plain sections in their order; the others are texts by name, without the prefix."""

    fields: dict[str, str] = field(default_factory=dict)
    sections: set[str] = field(default_factory=set)
    commands: dict[str, str] = field(default_factory=dict)
    percentiles: dict[str, str] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    keyspace: dict[str, str] = field(default_factory=dict)
    modules: list[str] = field(default_factory=list)

    def identity(self) -> Info:
        """What the next run needs to know: the version and mode of the server, without its figures."""
        fields = {name: self.fields[name] for name in _IDENTITY if name in self.fields}
        return Info(fields, self.sections & {"Sentinel"})

    @property
    def version(self) -> tuple[int, ...]:
        """The version of Redis, or the one that a compatible server reports; () if it is unknown."""
        return version_of(self.fields.get("redis_version", ""))

    @property
    def is_sentinel(self) -> bool:
        return "Sentinel" in self.sections or self.fields.get("redis_mode") == "sentinel"

    @property
    def is_cluster(self) -> bool:
        return self.fields.get("cluster_enabled") == "1" or self.fields.get("redis_mode") == "cluster"


def version_of(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"[0-9]{1,9}", text)[:3])


def parse_info(text: str) -> Info:
    """Parse a reply to INFO. Lines without a colon are skipped; nothing is raised."""
    info = Info()
    fields = info.fields
    for part in ("\n" + text.replace("\r\n", "\n")).split("\n# ")[0 if text[:2] != "# " else 1 :]:
        lines = part.split("\n")
        section = lines[0].strip()
        info.sections.add(section)
        plain = lines[1:]
        if section in _PREFIXES:
            _pairs(plain, _PREFIXES[section], _apart(info, section))
            plain = [line for line in plain if not line.startswith(_PREFIXES[section])]
        for line in plain:
            name, colon, value = line.partition(":")
            if name == "module":
                info.modules.append(value)
            elif colon:
                fields[name] = value
    for section in _PREFIXES.keys() - info.sections:
        _take_from_fields(info, section)
    return info


def _apart(info: Info, section: str) -> dict[str, str]:
    match section:
        case "Commandstats":
            return info.commands
        case "Latencystats":
            return info.percentiles
        case "Errorstats":
            return info.errors
    return info.keyspace


def _pairs(lines: Iterable[str], prefix: str, into: dict[str, str]) -> None:
    cut = len(prefix)
    for line in lines:
        if line.startswith(prefix):
            # The name of a renamed command or of an error may contain a colon; the value never does.
            name, colon, value = line[cut:].rpartition(":")
            if colon:
                into[name] = value


def _take_from_fields(info: Info, section: str) -> None:
    """Move the lines of a section without a heading to where they belong."""
    prefix = _PREFIXES[section]
    names = [name for name in info.fields if name.startswith(prefix)]
    if section == "Keyspace":
        names = [name for name in names if _DATABASE.fullmatch(name[2:])]
    _pairs([f"{name}:{info.fields.pop(name)}" for name in names], prefix, _apart(info, section))


def plain_samples(info: Info) -> Samples:
    """The samples of every field that is one number."""
    for name, text in info.fields.items():
        metric = FIELDS.get(name)
        if metric is not None:
            try:
                value = float(text)
            except ValueError:
                value = -1.0
            if 0.0 <= value <= LARGEST and "_" not in text:
                yield metric(value / DIVISORS[name] if name in DIVISORS else value)
            else:
                yield from measured(metric, f"INFO: {name}", text, DIVISORS.get(name, 1.0))
        elif name.startswith("cluster_"):
            yield from _cluster_field(name, text, "INFO")
        elif name.startswith("used_active_time_io") and (match := _IO_THREAD.fullmatch(name)):
            yield from measured(ACTIVE_TIME_IO_THREAD, f"INFO: {name}", text, thread=match[1])


def cluster_samples(text: str, known: Container[str] = ()) -> Samples:
    """CLUSTER INFO: lines such as `cluster_state:ok`, without the fields that are known from INFO."""
    if "cluster_" not in text:
        yield Malformed("CLUSTER INFO", text)
    for line in text.split("\n"):
        name, _, value = line.strip().partition(":")
        if name in known:
            continue
        if metric := FIELDS.get(name):
            yield from measured(metric, f"CLUSTER INFO: {name}", value)
        else:
            yield from _cluster_field(name, value, "CLUSTER INFO")


def _cluster_field(name: str, text: str, command: str) -> Samples:
    match = _CLUSTER_FIELD.fullmatch(name)
    if match is not None and (name in _CLUSTER_NUMBERS or figure(text) is not None):
        yield from measured(CLUSTER.named(match[1]), f"{command}: {name}", text)


class ErrorCounts:
    """Errors by name. The most frequent names keep their series, the others are counted together."""

    def __init__(self) -> None:
        self._names = LabelBudget(MAX_ERROR_NAMES, _OTHER)

    def samples(self, errors: Mapping[str, str]) -> Samples:
        """INFO errorstats: `count=3` by name."""
        counts: dict[str, float] = {}
        for name, text in errors.items():
            count = figure(assignments(text).get("count"))
            if count is None or count < 0:
                yield Malformed(f"INFO errorstats: {name}", text)
            else:
                counts[name] = count
        if len(counts) <= MAX_ERROR_NAMES:  # after CONFIG RESETSTAT or a restart, other names may be frequent
            self._names = LabelBudget(MAX_ERROR_NAMES, _OTHER)
        totals: dict[str, float] = {}
        merged = 0
        for name in sorted(counts, key=lambda name: -counts[name]):
            label = self._names.admit(name)
            merged += label != name
            totals[label] = totals.get(label, 0.0) + counts[name]
        for label, total in totals.items():
            yield ERRORS(total, err=label)
        yield MERGED_ERRORS(merged)


def keyspace_samples(keyspace: Mapping[str, str], databases: int) -> Samples:
    """INFO keyspace: `keys=6,expires=1,avg_ttl=4500` by database.

    INFO has no lines for empty databases: those of the first `databases` that are missing hold no keys.
    """
    for number, text in keyspace.items():
        if not _DATABASE.fullmatch(number):
            yield Malformed("INFO keyspace", f"db{number}:{text}")
            continue
        values = assignments(text)
        db, what = f"db{number}", f"INFO keyspace: db{number}"
        if "keys" not in values:
            yield Malformed(what, text)
        for name, (metric, divisor) in _OF_A_DATABASE.items():
            if name in values:
                yield from measured(metric, f"{what}: {name}", values[name], divisor, db=db)
    for number in map(str, range(min(databases, _MAX_EMPTY_DATABASES))):
        if number not in keyspace:
            yield DB_KEYS(0, db=f"db{number}")
            yield DB_EXPIRING(0, db=f"db{number}")


def instance_labels(info: Info) -> tuple[tuple[str, str], ...]:
    fields = info.fields
    if "redis_mode" not in fields and "server_mode" in fields:  # Valkey
        fields = {**fields, "redis_mode": fields["server_mode"]}
    labels = [(name, fields.get(name, "")) for name in INSTANCE.labels]
    # Only Valkey has these: an empty label would change the series of every Redis.
    labels += [(name, info.fields[name]) for name in ("valkey_version", "valkey_release_stage") if name in info.fields]
    return tuple(labels)


def started(info: Info, now: float) -> float | None:
    """The server's start in Unix seconds, by its own clock (since 7.0) or the given time."""
    uptime = figure(info.fields.get("uptime_in_seconds"))
    if uptime is None or uptime < 0:
        return None
    clock = server_time(info)
    return float(int(now if clock is None else clock) - int(uptime))


def server_time(info: Info) -> float | None:
    """Unix seconds by the server's clock; None before 7.0."""
    microseconds = figure(info.fields.get("server_time_usec"))
    return microseconds / 1e6 if microseconds is not None and microseconds > 0 else None
