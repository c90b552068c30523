"""INFO: the server's report on itself, by section (https://redis.io/docs/latest/commands/info/)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from math import isfinite
from typing import TYPE_CHECKING

from deckwatch.exporter import Counter, Gauge, MetricPattern

from .fields import DIVISORS, FIELDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from deckwatch.exporter import Sample

START_TIME = Gauge("redis_start_time_seconds", "When the server started, in Unix seconds.")
INSTANCE = Gauge(
    "redis_instance_info",
    "What the server is.",
    ["role", "redis_version", "redis_build_id", "redis_mode", "os", "maxmemory_policy", "tcp_port", "run_id",
     "process_id", "master_replid"],
)  # fmt: skip
REPLICATION_ID = Gauge(
    "redis_replication_id_info", "The replication id: servers that hold the same data share it.", ["master_replid"]
)
ACTIVE_TIME_IO_THREAD = Counter(
    "redis_active_time_io_thread_seconds_total", "Time for which the I/O thread was busy, in seconds.", ["thread"]
)
CLUSTER = MetricPattern("redis_cluster_*", "gauge", "What INFO or CLUSTER INFO tells as cluster_{}.")

DB_KEYS = Gauge("redis_db_keys", "Keys in the database.", ["db"])
DB_EXPIRING = Gauge("redis_db_keys_expiring", "Keys in the database that have an expiry.", ["db"])
DB_CACHED = Gauge("redis_db_keys_cached", "Keys of the database that a KeyDB server has in memory.", ["db"])
DB_SUBEXPIRY = Gauge("redis_db_keys_subexpiry", "Hashes in the database that have fields with an expiry.", ["db"])
DB_AVG_TTL = Gauge("redis_db_avg_ttl_seconds", "Average time to live of the keys that expire, in seconds.", ["db"])

ERRORS = Counter("redis_errors_total", "Error replies by their first word.", ["err"])

#: Sections whose fields are no single numbers, and are kept apart.
_APART = ("Commandstats", "Latencystats", "Errorstats", "Keyspace", "Modules")
_IO_THREAD = re.compile(r"used_active_time_io_thread_([0-9]+)")
_TRUTHS = {"ok": 1.0, "true": 1.0, "err": 0.0, "fail": 0.0, "false": 0.0}

#: Databases whose emptiness is told; a server set up with more has one series for each that holds keys.
_MOST_EMPTY_DATABASES = 1024


@dataclass
class Info:
    """`fields` of all plain sections in their order; the others as (name, text) pairs, prefixes cut off."""

    fields: dict[str, str] = field(default_factory=dict)
    sections: set[str] = field(default_factory=set)
    commands: dict[str, str] = field(default_factory=dict)
    percentiles: dict[str, str] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    keyspace: dict[str, str] = field(default_factory=dict)
    modules: list[str] = field(default_factory=list)

    @property
    def version(self) -> tuple[int, ...]:
        """Of Redis, or of the Redis that a compatible server stands in for; () where it tells none."""
        return version_of(self.fields.get("redis_version", ""))

    @property
    def is_sentinel(self) -> bool:
        return "Sentinel" in self.sections

    @property
    def is_cluster(self) -> bool:
        return self.fields.get("cluster_enabled") == "1"


def version_of(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"[0-9]{1,9}", text)[:3])


def parse_info(text: str) -> Info:
    """Takes apart a reply to INFO. A line that is none of its kind is left out; nothing is raised."""
    info = Info()
    fields = info.fields
    for part in ("\n" + text.replace("\r\n", "\n")).split("\n# ")[0 if text[:2] != "# " else 1 :]:
        lines = part.split("\n")
        section = lines[0].strip()
        info.sections.add(section)
        if section not in _APART:
            for line in lines[1:]:
                name, colon, value = line.partition(":")
                if colon:
                    fields[name] = value
        elif section == "Commandstats":
            _pairs(lines, "cmdstat_", info.commands)
        elif section == "Latencystats":
            _pairs(lines, "latency_percentiles_usec_", info.percentiles)
        elif section == "Errorstats":
            _pairs(lines, "errorstat_", info.errors)
        elif section == "Keyspace":
            _pairs(lines, "db", info.keyspace)
        else:
            for line in lines[1:]:
                name, colon, value = line.partition(":")
                if name == "module":
                    info.modules.append(value)
                elif colon:
                    fields[name] = value
    return info


def _pairs(lines: list[str], prefix: str, into: dict[str, str]) -> None:
    cut = len(prefix)
    for line in lines:
        if line.startswith(prefix):
            # The name of a renamed command, or of an error, may hold a colon; what follows it never does.
            name, colon, value = line[cut:].rpartition(":")
            if colon:
                into[name] = value


def assignments(text: str) -> dict[str, str]:
    """`calls=21,usec=175` by name."""
    return dict(pair.partition("=")[::2] for pair in text.split(",") if "=" in pair)


def figure(text: str | None) -> float | None:
    """A number, or a truth in one of the server's words; None for anything else, NaN too."""
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        return _TRUTHS.get(text)
    return value if value == value else None


def plain_samples(info: Info) -> Iterator[Sample]:
    """Every field that is one number."""
    for name, text in info.fields.items():
        metric = FIELDS.get(name)
        if metric is not None:
            value = figure(text)
            if value is not None:
                yield metric(value / DIVISORS[name] if name in DIVISORS else value)
        elif name.startswith("cluster_"):
            value = figure(text)
            if value is not None:
                yield CLUSTER.named(name[8:])(value)
        elif name.startswith("used_active_time_io") and (match := _IO_THREAD.fullmatch(name)):
            value = figure(text)
            if value is not None:
                yield ACTIVE_TIME_IO_THREAD(value, thread=match[1])


def cluster_samples(text: str) -> Iterator[Sample]:
    """CLUSTER INFO: lines of `cluster_state:ok`."""
    for line in text.split("\n"):
        name, _, value = line.strip().partition(":")
        number = figure(value)
        if number is None or not name.startswith("cluster_"):
            continue
        metric = FIELDS.get(name)
        yield metric(number) if metric is not None else CLUSTER.named(name[8:])(number)


def error_samples(errors: Mapping[str, str]) -> Iterator[Sample]:
    for name, text in errors.items():
        count = figure(assignments(text).get("count"))
        if count is not None:
            yield ERRORS(count, err=name)


def keyspace_samples(keyspace: Mapping[str, str], databases: int) -> Iterator[Sample]:
    """A database without keys is in no line of INFO: the first `databases` that are missing hold none."""
    seen = set()
    for number, text in keyspace.items():
        values = assignments(text)
        keys, expiring = figure(values.get("keys")), figure(values.get("expires"))
        if keys is None or expiring is None:
            continue
        db = f"db{number}"
        seen.add(number)
        yield DB_KEYS(keys, db=db)
        yield DB_EXPIRING(expiring, db=db)
        if (average := figure(values.get("avg_ttl"))) is not None:
            yield DB_AVG_TTL(average / 1000, db=db)
        if (cached := figure(values.get("cached_keys"))) is not None:
            yield DB_CACHED(cached, db=db)
        if (subexpiry := figure(values.get("subexpiry"))) is not None:
            yield DB_SUBEXPIRY(subexpiry, db=db)
    for number in map(str, range(min(databases, _MOST_EMPTY_DATABASES))):
        if number not in seen:
            yield DB_KEYS(0, db=f"db{number}")
            yield DB_EXPIRING(0, db=f"db{number}")


def instance_labels(info: Info) -> tuple[tuple[str, str], ...]:
    fields = info.fields
    if "redis_mode" not in fields and "server_mode" in fields:  # what Valkey calls it
        fields = {**fields, "redis_mode": fields["server_mode"]}
    labels = [(name, fields.get(name, "")) for name in INSTANCE.labels]
    # Only Valkey has these: an empty label would change the series of every Redis.
    labels += [(name, info.fields[name]) for name in ("valkey_version", "valkey_release_stage") if name in info.fields]
    return tuple(labels)


def started(info: Info, now: float) -> float | None:
    """When the server started, in Unix seconds by its own clock where it tells that (since 7.0), else by ours."""
    uptime = figure(info.fields.get("uptime_in_seconds"))
    if uptime is None or not isfinite(uptime):
        return None
    clock = server_time(info)
    return float(int(now if clock is None else clock) - int(uptime))


def server_time(info: Info) -> float | None:
    """Unix seconds by the server's own clock; None before 7.0."""
    microseconds = figure(info.fields.get("server_time_usec"))
    return microseconds / 1e6 if microseconds is not None and isfinite(microseconds) else None
